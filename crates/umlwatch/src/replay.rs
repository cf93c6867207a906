//! Former output, shown again, without queries to the terminal. The terminal would answer, and its answers would be
//! typed into a guest that has stopped waiting for them.

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// Enquiry: the terminal sends its answerback string.
const ENQ: u8 = 0x05;

/// The bytes without queries.
pub(crate) fn without_questions(mut bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        match question(bytes) {
            0 => {
                kept.push(*first);
                bytes = rest;
            }
            length => bytes = bytes.get(length..).unwrap_or_default(),
        }
    }
    kept
}

/// The length of the query that the bytes begin with; 0 if they begin with something else.
fn question(bytes: &[u8]) -> usize {
    match bytes {
        [ENQ, ..] => 1,
        [ESC, b'Z', ..] => 2,
        [ESC, b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| !(0x20..0x40).contains(byte));
            let (params, last) = end.map_or((rest, &[][..]), |end| rest.split_at(end));
            let asks = match last.first() {
                // Device attributes, status, window, terminal parameters.
                Some(b'c' | b'n' | b't' | b'x') => true,
                // Modes, version.
                Some(b'p') => params.ends_with(b"$"),
                Some(b'q') => params.starts_with(b">"),
                _ => false,
            };
            if asks { 3 + params.len() } else { 0 }
        }
        // Strings for the terminal itself: colours, titles, the clipboard, each of which may query or set something.
        [ESC, b']' | b'P' | b'_' | b'^', rest @ ..] => {
            let bell = rest.iter().position(|byte| *byte == BEL).map(|at| at + 1);
            let end = rest
                .windows(2)
                .position(|pair| pair == [ESC, b'\\'])
                .map(|at| at + 2);
            bell.into_iter()
                .chain(end)
                .min()
                .map_or(0, |length| 2 + length)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_are_taken_out() {
        for (bytes, kept) in [
            ("ls\x1b[6n\r\n", "ls\r\n"),
            (
                "\x1b[c\x1b[>0c\x1b[5n\x1b[21t\x1b[?1$p\x1b[>q\x05\x1bZ$ ",
                "$ ",
            ),
            (
                "\x1b[1;31mred\x1b[K\x1b[!p\x1b[2 q",
                "\x1b[1;31mred\x1b[K\x1b[!p\x1b[2 q",
            ),
            ("a\x1b]10;?\x07b\x1b]52;c;?\x1b\\c\x1bP$qm\x1b\\d", "abcd"),
            ("cut \x1b[6", "cut \x1b[6"),
            (
                "\x1b]P0000000 a palette has no end",
                "\x1b]P0000000 a palette has no end",
            ),
        ] {
            assert_eq!(
                without_questions(bytes.as_bytes()),
                kept.as_bytes(),
                "{bytes:?}"
            );
        }
    }
}
