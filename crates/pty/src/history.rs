//! The last bytes of a channel, kept in memory and addressed by their position in the stream. Used by the umlmon
//! daemon.

use std::convert::Infallible;
use std::ops::Range;

use crate::lines::last_lines;

/// How much of a channel is kept in memory by default, in bytes.
pub const HISTORY_BYTES: usize = 256 * 1024;

/// What the ring takes at first, in bytes; it doubles as data arrive.
const FIRST_BYTES: usize = 4096;

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Offset of the first byte of `data`, counted from the first byte of the stream. Greater than asked for: the
    /// bytes between are no longer kept.
    pub offset: u64,
    /// The bytes; empty if there are none (yet).
    pub data: Vec<u8>,
}

/// A ring: the byte at stream offset `n` lies at index `(n - base) % capacity`. It grows with the data up to its
/// capacity, so a channel without output needs no memory.
#[derive(Debug)]
pub struct History {
    ring: Vec<u8>,
    capacity: usize,
    base: u64,
    end: u64,
}

impl History {
    /// An empty history that will keep the last `capacity` bytes (at least 1).
    pub fn new(capacity: usize) -> Self {
        Self {
            ring: Vec::new(),
            capacity: capacity.max(1),
            base: 0,
            end: 0,
        }
    }

    /// Keeps the last `capacity` bytes (at least 1) from now on.
    pub fn resize(&mut self, capacity: usize) {
        let capacity = capacity.max(1);
        if capacity == self.capacity {
            return;
        }
        let kept = self.read(self.end.saturating_sub(capacity as u64), capacity);
        let mut resized = Self {
            base: kept.offset,
            end: kept.offset,
            ..Self::new(capacity)
        };
        resized.push(&kept.data);
        *self = resized;
    }

    /// The offsets of the bytes that are kept.
    pub fn range(&self) -> Range<u64> {
        self.end - self.ring.len() as u64..self.end
    }

    /// Appends bytes to the stream; the oldest ones are forgotten when the capacity is reached.
    pub fn push(&mut self, data: &[u8]) {
        for piece in data.chunks(self.capacity) {
            let at = self.index(self.end);
            let (before, after) = piece
                .split_at_checked(self.capacity - at)
                .unwrap_or((piece, &[]));
            self.put(at, before);
            self.put(0, after);
            self.end += piece.len() as u64;
        }
    }

    /// Returns at most `max` bytes from `offset` on; from the oldest byte kept if `offset` is older.
    pub fn read(&self, offset: u64, max: usize) -> Chunk {
        let kept = self.range();
        let offset = offset.clamp(kept.start, kept.end);
        let len = usize::try_from(kept.end - offset).map_or(max, |there| there.min(max));
        let at = self.index(offset);
        let older = self.ring.get(at..).unwrap_or_default();
        let older = older.get(..len).unwrap_or(older);
        let newer = self.ring.get(..len - older.len()).unwrap_or_default();
        let data = [older, newer].concat();
        Chunk { offset, data }
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
        ((offset - self.base) % self.capacity as u64) as usize
    }

    /// Writes at an index, which is either within the ring or, as long as it grows, its end.
    fn put(&mut self, at: usize, part: &[u8]) {
        if let Some(old) = self.ring.get_mut(at..at + part.len()) {
            old.copy_from_slice(part);
            return;
        }
        let needed = at + part.len();
        if needed > self.ring.capacity() {
            let size = needed.max(2 * self.ring.capacity()).max(FIRST_BYTES);
            self.ring
                .reserve_exact(size.min(self.capacity).max(needed) - self.ring.len());
        }
        self.ring.truncate(at);
        self.ring.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_absolute_and_old_bytes_are_skipped() {
        let mut history = History::new(10);
        assert_eq!(history.read(0, 100), Chunk::default());
        history.push(b"hello ");
        assert_eq!(history.read(2, 2).data, b"ll");
        history.push(b"world, again");
        assert_eq!(history.range(), 8..18);
        let chunk = history.read(0, 100);
        assert_eq!((chunk.offset, &chunk.data[..]), (8, &b"rld, again"[..]));
        assert_eq!(history.read(99, 5).offset, 18);
    }

    /// Against a plain vector, with pieces of all sizes around the capacity.
    #[test]
    fn equals_the_end_of_a_plain_vector() {
        let mut all = Vec::new();
        let mut history = History::new(4500);
        for n in 0..9000_usize {
            let piece: Vec<u8> = (0..n * 37 % 5003)
                .map(|i| ((i * 7 + n) % 251).to_le_bytes()[0])
                .collect();
            if n % 100 != 0 && piece.len() > 300 {
                continue;
            }
            history.push(&piece);
            all.extend_from_slice(&piece);
            let kept = all.len().min(4500);
            assert_eq!(history.range(), (all.len() - kept) as u64..all.len() as u64);
            assert!(history.read(0, usize::MAX).data == all[all.len() - kept..]);
        }
        assert!(all.len() > 100_000 && history.ring.capacity() <= 4500);
    }

    #[test]
    fn memory_grows_with_the_data_only() {
        let mut history = History::new(HISTORY_BYTES);
        assert_eq!(history.ring.capacity(), 0);
        history.push(b"x");
        assert_eq!(history.ring.capacity(), FIRST_BYTES);
        for _ in 0..100 {
            history.push(&[7; 4095]);
        }
        assert_eq!(history.ring.capacity(), HISTORY_BYTES);
    }

    #[test]
    fn a_history_can_be_made_longer_and_shorter() {
        let mut history = History::new(10);
        history.push(b"0123456789abc");
        history.resize(20);
        assert_eq!(history.range(), 3..13);
        history.push(b"defghijklmnop");
        assert_eq!(history.range(), 6..26);
        assert_eq!(history.read(0, 100).data, b"6789abcdefghijklmnop");
        history.resize(4);
        let chunk = history.read(0, 100);
        assert_eq!((chunk.offset, &chunk.data[..]), (22, &b"mnop"[..]));
        history.push(b"qrstu");
        assert_eq!(history.read(0, 100).data, b"rstu");
        History::new(10).resize(0);
    }

    #[test]
    fn the_last_lines() {
        let mut history = History::new(100);
        history.push(b"one\ntwo\nthree\n");
        assert_eq!(history.tail(0), 14);
        assert_eq!(history.tail(1), 8);
        assert_eq!(history.tail(2), 4);
        assert_eq!(history.tail(3), 0);
        assert_eq!(history.tail(u32::MAX), 0);
        history.push(b"login: ");
        assert_eq!(history.tail(1), 14);
        assert_eq!(history.tail(2), 8);
    }
}
