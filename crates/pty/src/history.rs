//! The last bytes of a channel, kept in memory and addressed by their position in the stream. Used by the umlmon
//! daemon.

use std::convert::Infallible;
use std::io;
use std::ops::Range;

use crate::held::refused;
use crate::lines::last_lines;
use crate::memory::Memory;

/// How much of a channel is kept in memory by default, in bytes.
pub const HISTORY_BYTES: usize = 256 * 1024;

/// No guest writes that much, in bytes: sums of offsets do not overflow.
const END_MAX: u64 = 1 << 60;

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Offset of the first byte of `data`, counted from the first byte of the stream. Greater than asked for: the
    /// bytes between are no longer kept.
    pub offset: u64,
    /// The bytes; empty if there are none (yet).
    pub data: Vec<u8>,
}

/// A ring: the byte at stream offset `n` lies at index `n % capacity`. It takes memory as data arrive, so a channel
/// without output needs none.
#[derive(Debug)]
pub struct History {
    memory: Memory,
    /// The first byte that is kept.
    oldest: u64,
    end: u64,
}

impl History {
    /// An empty history that will keep the last `capacity` bytes (at least 1).
    ///
    /// # Errors
    /// Those of memfd_create(2) and ftruncate(2).
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            memory: Memory::new(capacity)?,
            oldest: 0,
            end: 0,
        })
    }

    /// What a former monitor has left: the bytes between these two offsets.
    ///
    /// # Errors
    /// If the memory cannot keep them.
    pub(crate) fn adopt(memory: Memory, kept: Range<u64>) -> io::Result<Self> {
        let length = kept.end.checked_sub(kept.start);
        if length.is_none_or(|length| length > memory.ring() as u64) || kept.end > END_MAX {
            return Err(refused("the memory says that it has more than it can have"));
        }
        Ok(Self {
            memory,
            oldest: kept.start,
            end: kept.end,
        })
    }

    /// Where the bytes are.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Keeps the last `capacity` bytes (at least 1) from now on, in another memory. Returns whether it is another.
    ///
    /// # Errors
    /// As [`History::new`]; nothing is changed then.
    pub fn resize(&mut self, capacity: usize) -> io::Result<bool> {
        let capacity = capacity.max(1);
        if capacity == self.memory.ring() {
            return Ok(false);
        }
        let kept = self.read(self.end.saturating_sub(capacity as u64), capacity);
        let mut resized = Self {
            memory: Memory::new(capacity)?,
            oldest: kept.offset,
            end: kept.offset,
        };
        resized.push(&kept.data)?;
        *self = resized;
        Ok(true)
    }

    /// The offsets of the bytes that are kept.
    pub fn range(&self) -> Range<u64> {
        self.oldest..self.end
    }

    /// Appends bytes to the stream; the oldest ones are forgotten when the capacity is reached.
    ///
    /// # Errors
    /// `ENOMEM`, `ENOSPC`: the host has no memory left. What is kept begins after these bytes then.
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        let capacity = self.memory.ring();
        let forgotten = data.len().saturating_sub(capacity);
        let last = data.get(forgotten..).unwrap_or_default();
        let at = self.index(self.end + forgotten as u64);
        self.end += data.len() as u64;
        let oldest = self.end.saturating_sub(capacity as u64);
        self.oldest = self.oldest.max(oldest);
        let written = self.memory.write(at, last);
        if written.is_err() {
            self.oldest = self.end;
        }
        written
    }

    /// Returns at most `max` bytes from `offset` on; from the oldest byte kept if `offset` is older. Nothing if the
    /// memory cannot be read.
    pub fn read(&self, offset: u64, max: usize) -> Chunk {
        let kept = self.range();
        let offset = offset.clamp(kept.start, kept.end);
        let len = usize::try_from(kept.end - offset).map_or(max, |there| there.min(max));
        let data = self.memory.read(self.index(offset), len);
        Chunk {
            offset,
            data: data.unwrap_or_default(),
        }
    }

    /// Where the last `lines` lines begin.
    pub fn tail(&self, lines: u32) -> u64 {
        let kept = self.range();
        let read = |from, to| {
            Ok::<_, Infallible>(
                self.read(from, usize::try_from(to - from).unwrap_or(0))
                    .data,
            )
        };
        match last_lines(kept.start, kept.end, lines, read) {
            Ok(offset) => offset,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the rest is smaller than the capacity, a usize"
    )]
    fn index(&self, offset: u64) -> usize {
        (offset % self.memory.ring() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn offsets_are_absolute_and_old_bytes_are_skipped() {
        let mut history = History::new(10).unwrap();
        assert_eq!(history.read(0, 100), Chunk::default());
        history.push(b"hello ").unwrap();
        assert_eq!(history.read(2, 2).data, b"ll");
        history.push(b"world, again").unwrap();
        assert_eq!(history.range(), 8..18);
        let chunk = history.read(0, 100);
        assert_eq!((chunk.offset, &chunk.data[..]), (8, &b"rld, again"[..]));
        assert_eq!(history.read(99, 5).offset, 18);
    }

    /// Against a plain vector, with pieces of all sizes around the capacity.
    #[test]
    fn equals_the_end_of_a_plain_vector() {
        let mut all = Vec::new();
        let mut history = History::new(4500).unwrap();
        for n in 0..9000_usize {
            let piece: Vec<u8> = (0..n * 37 % 5003)
                .map(|i| ((i * 7 + n) % 251).to_le_bytes()[0])
                .collect();
            if n % 100 != 0 && piece.len() > 300 {
                continue;
            }
            history.push(&piece).unwrap();
            all.extend_from_slice(&piece);
            let kept = all.len().min(4500);
            assert_eq!(history.range(), (all.len() - kept) as u64..all.len() as u64);
            assert!(history.read(0, usize::MAX).data == all[all.len() - kept..]);
        }
        assert!(all.len() > 100_000);
    }

    #[test]
    fn memory_grows_with_the_data_only() {
        let mut history = History::new(HISTORY_BYTES).unwrap();
        let taken = |history: &History| history.memory.file().metadata().unwrap().blocks() * 512;
        assert_eq!(taken(&history), 0);
        history.push(b"x").unwrap();
        assert!(taken(&history) <= 65536);
        for _ in 0..100 {
            history.push(&[7; 4095]).unwrap();
        }
        let all = HISTORY_BYTES as u64;
        assert!((all..all + 65536).contains(&taken(&history)));
    }

    #[test]
    fn a_history_can_be_made_longer_and_shorter() {
        let mut history = History::new(10).unwrap();
        history.push(b"0123456789abc").unwrap();
        history.resize(20).unwrap();
        assert_eq!(history.range(), 3..13);
        history.push(b"defghijklmnop").unwrap();
        assert_eq!(history.range(), 6..26);
        assert_eq!(history.read(0, 100).data, b"6789abcdefghijklmnop");
        history.resize(4).unwrap();
        let chunk = history.read(0, 100);
        assert_eq!((chunk.offset, &chunk.data[..]), (22, &b"mnop"[..]));
        history.push(b"qrstu").unwrap();
        assert_eq!(history.read(0, 100).data, b"rstu");
        History::new(10).unwrap().resize(0).unwrap();
    }

    #[test]
    fn the_last_lines() {
        let mut history = History::new(100).unwrap();
        history.push(b"one\ntwo\nthree\n").unwrap();
        assert_eq!(history.tail(0), 14);
        assert_eq!(history.tail(1), 8);
        assert_eq!(history.tail(2), 4);
        assert_eq!(history.tail(3), 0);
        assert_eq!(history.tail(u32::MAX), 0);
        history.push(b"login: ").unwrap();
        assert_eq!(history.tail(1), 14);
        assert_eq!(history.tail(2), 8);
    }
}
