//! Record marking (RFC 5531 section 11): a stream of bytes to messages, in every process that speaks RPC.
//!
//! A length is checked when it is announced; memory is taken for what has arrived.

use bytes::{Buf as _, BytesMut};

/// Set in the mark of the last fragment of a record.
const LAST: u32 = 1 << 31;

/// Bytes of a mark.
pub(crate) const MARK: usize = 4;

/// Bytes of credentials, and of a verifier, at most (RFC 5531 section 8.2).
pub(crate) const MAX_AUTH: usize = 400;

/// Headers of a call or reply without arguments or result, at most: six numbers, credentials and verifier.
pub(crate) const MAX_HEADER: usize = 24 + 2 * (8 + MAX_AUTH);

/// What a peer may send as one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, without marks.
    pub max_record: usize,
    /// The most fragments of a record.
    pub max_fragments: u32,
}

/// Why a stream cannot be read on: where the next record begins is not known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The announced size is above the limit.
    #[error("the peer announced a record of at least {size} bytes, {max} are accepted")]
    TooLarge {
        /// Announced so far, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// Too many fragments, or an empty one that is not the last.
    #[error("the peer sent a record in too many fragments, or an empty fragment")]
    Fragments,
}

/// Puts records together.
#[derive(Debug, Default)]
pub struct Framer {
    /// Fragments so far, behind room for the mark.
    record: BytesMut,
    fragments: u32,
}

impl Framer {
    /// Takes the next record from the begin of `input`, with a mark as if it had come in one fragment; None if it has
    /// not arrived completely. Call it until it gives None before reading more.
    pub fn next(
        &mut self,
        input: &mut BytesMut,
        bounds: &Bounds,
    ) -> Result<Option<BytesMut>, RecordError> {
        loop {
            let Some(mark) = input
                .first_chunk::<MARK>()
                .map(|mark| u32::from_be_bytes(*mark))
            else {
                return Ok(None);
            };
            let (last, length) = (mark & LAST != 0, (mark & !LAST) as usize);
            let size = length.saturating_add(self.record.len().saturating_sub(MARK));
            if size > bounds.max_record {
                return Err(RecordError::TooLarge {
                    size,
                    max: bounds.max_record,
                });
            }
            if length == 0 && !last {
                return Err(RecordError::Fragments);
            }
            if input.len() < MARK + length {
                return Ok(None);
            }
            if last && self.record.is_empty() {
                return Ok(Some(input.split_to(MARK + length)));
            }
            self.fragments += 1;
            if self.fragments > bounds.max_fragments {
                return Err(RecordError::Fragments);
            }
            if self.record.is_empty() {
                self.record.extend_from_slice(&[0; MARK]);
            }
            input.advance(MARK);
            self.record.extend_from_slice(&input.split_to(length));
            if last {
                let mut record = std::mem::take(&mut self.record);
                self.fragments = 0;
                finish(&mut record);
                return Ok(Some(record));
            }
        }
    }
}

/// Writes the mark of a record that is complete in one fragment, over its first four bytes.
pub(crate) fn finish(record: &mut [u8]) {
    let length = u32::try_from(record.len().saturating_sub(MARK)).unwrap_or(u32::MAX);
    if let Some(mark) = record.first_chunk_mut::<MARK>() {
        *mark = (length | LAST).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        max_record: 100,
        max_fragments: 64,
    };

    fn fragment(mark: u32, data: &[u8]) -> Vec<u8> {
        [&mark.to_be_bytes(), data].concat()
    }

    /// All records in `input`, given to the framer byte by byte.
    fn records(input: &[u8]) -> Result<Vec<BytesMut>, RecordError> {
        let (mut framer, mut buffer, mut records) =
            (Framer::default(), BytesMut::new(), Vec::new());
        for byte in input {
            buffer.extend_from_slice(&[*byte]);
            while let Some(record) = framer.next(&mut buffer, &BOUNDS)? {
                records.push(record);
            }
        }
        Ok(records)
    }

    #[test]
    fn records_come_whole_however_they_were_cut() {
        let one = fragment(LAST | 6, b"abcdef");
        let three = [
            fragment(2, b"ab"),
            fragment(3, b"cde"),
            fragment(LAST | 1, b"f"),
        ]
        .concat();
        let empty_end = [fragment(6, b"abcdef"), fragment(LAST, b"")].concat();
        let all = [one.clone(), three, empty_end, one.clone()].concat();
        assert_eq!(records(&all).unwrap(), vec![one.as_slice(); 4]);
    }

    #[test]
    fn several_records_in_one_read() {
        let mut buffer = BytesMut::from(fragment(LAST | 1, b"a").repeat(3).as_slice());
        let mut framer = Framer::default();
        for _ in 0..3 {
            assert_eq!(
                framer.next(&mut buffer, &BOUNDS).unwrap().unwrap(),
                fragment(LAST | 1, b"a")
            );
        }
        assert_eq!(framer.next(&mut buffer, &BOUNDS), Ok(None));
    }

    #[test]
    fn a_size_is_refused_when_it_is_announced() {
        for mark in [0x7fff_ffff, 0xffff_ffff, 101, LAST | 101] {
            assert!(
                matches!(
                    records(&fragment(mark, b"")),
                    Err(RecordError::TooLarge { .. })
                ),
                "{mark:x}"
            );
        }
        let sum = [fragment(60, &[0; 60]), fragment(LAST | 41, b"")].concat();
        assert_eq!(
            records(&sum),
            Err(RecordError::TooLarge {
                size: 101,
                max: 100
            })
        );
    }

    #[test]
    fn endless_fragments_are_refused() {
        assert_eq!(records(&fragment(0, b"")), Err(RecordError::Fragments));
        assert_eq!(
            records(&fragment(1, b"x").repeat(100)),
            Err(RecordError::Fragments)
        );
    }

    #[test]
    fn an_announcement_takes_no_memory() {
        let (mut framer, bounds) = (
            Framer::default(),
            Bounds {
                max_record: 1 << 30,
                max_fragments: 2,
            },
        );
        let mut buffer = BytesMut::from(fragment(1 << 30, b"few").as_slice());
        assert_eq!(framer.next(&mut buffer, &bounds), Ok(None));
        assert!(buffer.capacity() + framer.record.capacity() < 1000);
    }
}
