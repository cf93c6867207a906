//! A value in a file that is there as a whole whenever its writer is killed. Used by the umlmon daemon.
//!
//! It is written into two slots in turn; the latest that is whole counts. A slot is a number that grows with each
//! write, the length, a sum of all, and the bytes; numbers are little-endian.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// What precedes the bytes: number, length, sum, of 8 bytes each.
const HEAD: usize = 24;

/// Where the slots are, and the number of the latest write.
#[derive(Debug)]
pub(crate) struct Slots {
    at: u64,
    size: u64,
    latest: Cell<u64>,
}

impl Slots {
    /// Slots that take so many bytes of the file together, from an offset on.
    pub(crate) fn new(at: u64, bytes: u64) -> Self {
        Self {
            at,
            size: bytes / 2,
            latest: Cell::new(0),
        }
    }

    /// How many bytes a value has at most.
    pub(crate) fn room(&self) -> usize {
        usize::try_from(self.size).map_or(0, |size| size.saturating_sub(HEAD))
    }

    /// Writes a value in place of the one before the last.
    ///
    /// # Errors
    /// `FileTooLarge` if there is no room for it; those of pwrite(2). The latest value counts then.
    pub(crate) fn store(&self, file: &File, value: &[u8]) -> io::Result<()> {
        if value.len() > self.room() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let number = self.latest.get().wrapping_add(1);
        let length = value.len() as u64;
        let sum = sum(number, value);
        let mut slot = Vec::with_capacity(HEAD + value.len());
        [number, length, sum]
            .iter()
            .for_each(|n| slot.extend_from_slice(&n.to_le_bytes()));
        slot.extend_from_slice(value);
        file.write_all_at(&slot, self.place(number))?;
        self.latest.set(number);
        Ok(())
    }

    /// The latest value that is whole; writes go on after it. None: there is none.
    ///
    /// # Errors
    /// Those of pread(2).
    pub(crate) fn load(&self, file: &File) -> io::Result<Option<Vec<u8>>> {
        let slots = [self.slot(file, 0)?, self.slot(file, 1)?];
        let latest = slots
            .into_iter()
            .flatten()
            .max_by_key(|(number, _)| *number);
        Ok(latest.map(|(number, value)| {
            self.latest.set(number);
            value
        }))
    }

    fn slot(&self, file: &File, which: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, self.place(which))?;
        let mut head = head.as_slice();
        let mut next = || take_u64(&mut head).unwrap_or_default();
        let (number, length, sum_there) = (next(), next(), next());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if number % 2 != which || length > self.room() {
            return Ok(None);
        }
        let mut value = vec![0; length];
        file.read_exact_at(&mut value, self.place(which) + HEAD as u64)?;
        Ok((sum(number, &value) == sum_there).then_some((number, value)))
    }

    fn place(&self, number: u64) -> u64 {
        self.at + number % 2 * self.size
    }
}

/// The FNV-1a hash (draft-eastlake-fnv) of the number, the length, and eight bytes of the value at a time. It finds a
/// write that was cut off, no forgery.
fn sum(number: u64, value: &[u8]) -> u64 {
    let words = value.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word.iter_mut()
            .zip(chunk)
            .for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    });
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3);
    let numbers = [number, value.len() as u64];
    numbers
        .into_iter()
        .chain(words)
        .fold(0xcbf2_9ce4_8422_2325, step)
}

/// Takes a number of 8 bytes from the beginning of a slice.
pub(crate) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1100).unwrap();
        file
    }

    #[test]
    fn the_latest_value_counts() {
        let file = file();
        let slots = || Slots::new(100, 1000);
        assert_eq!(slots().load(&file).unwrap(), None);
        let writer = slots();
        for n in 0..10 {
            let value = vec![n; usize::from(n) * 10];
            writer.store(&file, &value).unwrap();
            assert_eq!(slots().load(&file).unwrap(), Some(value));
        }
        writer.store(&file, &[1; 476]).unwrap();
        assert!(writer.store(&file, &[1; 477]).is_err());
        // The next writer goes on.
        let next = slots();
        assert_eq!(next.load(&file).unwrap(), Some(vec![1; 476]));
        next.store(&file, b"next").unwrap();
        assert_eq!(slots().load(&file).unwrap().unwrap(), b"next");
    }

    /// A write that is cut off anywhere leaves the value before it.
    #[test]
    fn a_value_that_is_not_whole_does_not_count() {
        let file = file();
        let slots = Slots::new(0, 200);
        slots.store(&file, b"first").unwrap();
        slots.store(&file, b"second").unwrap();
        let mut before = [0; 200];
        file.read_exact_at(&mut before, 0).unwrap();
        slots.store(&file, b"the third value").unwrap();
        let mut after = [0; 200];
        file.read_exact_at(&mut after, 0).unwrap();
        let written = HEAD + b"the third value".len();
        for cut in 0..=written {
            let torn = [&after[100..100 + cut], &before[100 + cut..]].concat();
            file.write_all_at(&torn, 100).unwrap();
            let there = Slots::new(0, 200).load(&file).unwrap().unwrap();
            let whole = torn == after[100..];
            assert_eq!(there == b"the third value", whole, "{cut}");
            assert!(whole || there == b"second", "{cut}");
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let file = file();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..400).map(|_| random.u8(..4) * 85).collect();
            file.write_all_at(&bytes, 0).unwrap();
            let slots = Slots::new(0, 400);
            let _ = slots.load(&file).unwrap();
            slots.store(&file, b"x").unwrap();
        }
        // The number of the greatest is followed by the least.
        let slots = Slots::new(0, 400);
        slots.latest.set(u64::MAX);
        slots.store(&file, b"x").unwrap();
    }
}
