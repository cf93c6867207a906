//! Finds where the last lines of a stream begin. Used by the umlmon daemon for logs and histories.

/// How much is read in one step, in bytes.
const BLOCK: u64 = 8192;

/// Returns the offset where the last `lines` lines before `end` begin; `start` if there are fewer. What follows the
/// last line feed counts as a line. `read(from, to)` returns the bytes between two offsets, which are at most 8 KiB
/// apart.
///
/// # Errors
/// Those of `read`.
pub(crate) fn last_lines<E>(
    start: u64,
    end: u64,
    lines: u32,
    mut read: impl FnMut(u64, u64) -> Result<Vec<u8>, E>,
) -> Result<u64, E> {
    let mut left = lines;
    let mut to = end;
    if left == 0 {
        return Ok(end);
    }
    while to > start {
        let from = to.saturating_sub(BLOCK).max(start);
        for (index, byte) in read(from, to)?.into_iter().enumerate().rev() {
            let at = from + index as u64;
            // The line feed at the very end finishes the last line, it does not begin another.
            if byte == b'\n' && at + 1 != end {
                left -= 1;
                if left == 0 {
                    return Ok(at + 1);
                }
            }
        }
        to = from;
    }
    Ok(start)
}
