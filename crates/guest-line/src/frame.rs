//! Frames: how pieces of streams share the line. Used by the monitor and by the helper.
//!
//! On the line, a frame is its number and its contents in postcard's encoding, made free of zeros by COBS (Cheshire and
//! Baker, 1999), and a zero. So the next frame is found again after anything, such as the half frame of a helper that
//! was killed.

use serde::{Deserialize, Serialize};

/// The version of everything that is said on the line. A helper of another version is told from one that is missing.
pub const VERSION: u32 = 4;

/// How many bytes a piece of a stream has at most.
pub const MAX_PIECE: usize = 2048;

/// How many bytes the monitor has on the line at most that the helper has not read. The terminal in the guest holds
/// 4095, and a kernel that finds room for less than 128 stops reading, for ever in versions up to now: `line_throttle`
/// takes the descriptor off its list, and nothing puts it there again.
pub const UNREAD: u32 = 3840;

/// The helper tells what it has read when it is so much. The monitor can always send the rest of [`UNREAD`].
pub const TELL_READ: u32 = 512;

/// How many bytes a frame has on the line at most: a piece, its head, and one byte for each 254 of them.
const MAX_FRAME: usize = MAX_PIECE + 64;

/// What one side says to the other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// The helper begins, and has no streams. It repeats this until it is welcome.
    Hello {
        /// Its [`VERSION`].
        version: u32,
        /// Tells this beginning from others.
        nonce: u64,
    },
    /// The monitor has seen the beginning with this nonce, and has no streams either.
    Welcome {
        /// That of the hello.
        nonce: u64,
    },
    /// The helper has read this many bytes since it was welcome, modulo 2^32. See [`UNREAD`]. It says 0 when it is
    /// welcome; the monitor says nothing between that and the welcome, so both count from the same byte.
    Read(u32),
    /// A piece of a stream. Streams begin with their first piece, which the monitor sends.
    Piece {
        /// The number of the stream.
        stream: u32,
        /// At most [`MAX_PIECE`] bytes.
        bytes: Vec<u8>,
    },
    /// The monitor does not understand what it read: the helper is to begin again.
    Again,
    /// Nothing follows in this stream, in either direction.
    End {
        /// The number of the stream.
        stream: u32,
    },
}

/// What was read from the line is no frame, or frames were lost before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line to the guest was disturbed")]
pub struct Disturbed;

/// Makes bytes of the frames of one side.
#[derive(Debug, Default)]
pub struct Encoder {
    next: u8,
}

impl Encoder {
    /// The bytes of the next frame.
    ///
    /// # Errors
    /// If a piece is too long.
    pub fn encode(&mut self, frame: &Frame) -> Result<Vec<u8>, Disturbed> {
        let plain = postcard::to_stdvec(&(self.next, frame)).map_err(|_| Disturbed)?;
        if plain.len() > MAX_FRAME {
            return Err(Disturbed);
        }
        self.next = self.next.wrapping_add(1);
        let mut bytes = cobs::encode_vec(&plain);
        bytes.push(0);
        Ok(bytes)
    }
}

/// Finds the frames of the other side in what is read from the line.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a frame.
    begun: Vec<u8>,
    /// The number that the next frame must have; nothing before the first one.
    next: Option<u8>,
}

impl Decoder {
    /// Takes what was read, and returns what it completes. After an error, frames of before are not continued: the next
    /// one that is understood may have any number.
    pub fn take(&mut self, mut bytes: &[u8]) -> Vec<Result<Frame, Disturbed>> {
        let mut found = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            let (rest_of_frame, rest) = bytes.split_at(end);
            self.begun.extend_from_slice(rest_of_frame);
            let frame = std::mem::take(&mut self.begun);
            found.push(self.decode(&frame));
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.begun.extend_from_slice(bytes);
        // What is longer is none, however long it goes on.
        self.begun.truncate(2 * MAX_FRAME);
        found
    }

    fn decode(&mut self, frame: &[u8]) -> Result<Frame, Disturbed> {
        let wanted = self.next.take();
        let plain = cobs::decode_vec(frame).map_err(|_| Disturbed)?;
        if plain.len() > MAX_FRAME {
            return Err(Disturbed);
        }
        let ((number, frame), rest): ((u8, Frame), _) =
            postcard::take_from_bytes(&plain).map_err(|_| Disturbed)?;
        let begins = matches!(frame, Frame::Hello { .. });
        let is_next = begins || wanted.is_none_or(|wanted| wanted == number);
        let is_short = !matches!(&frame, Frame::Piece { bytes, .. } if bytes.len() > MAX_PIECE);
        if !rest.is_empty() || !is_next || !is_short {
            return Err(Disturbed);
        }
        self.next = Some(number.wrapping_add(1));
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(stream: u32, bytes: &[u8]) -> Frame {
        Frame::Piece {
            stream,
            bytes: bytes.to_vec(),
        }
    }

    fn line(frames: &[Frame]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let all = frames.iter().map(|frame| encoder.encode(frame).unwrap());
        all.flatten().collect()
    }

    proptest! {
        #[test]
        fn frames_arrive_however_they_are_cut(
            pieces in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..MAX_PIECE)), 0..8),
            cut in 1_usize..3000,
        ) {
            let frames: Vec<_> = pieces.iter().map(|(stream, bytes)| piece(*stream, bytes)).collect();
            let mut decoder = Decoder::default();
            let line = line(&frames);
            let arrived: Vec<_> = line.chunks(cut).flat_map(|part| decoder.take(part)).collect();
            prop_assert_eq!(arrived, frames.into_iter().map(Ok).collect::<Vec<_>>());
        }

        #[test]
        fn noise_is_no_frame_and_takes_no_memory(noise in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let mut decoder = Decoder::default();
            for part in noise.chunks(777) {
                let _ = decoder.take(part);
            }
            prop_assert!(decoder.begun.len() <= 2 * MAX_FRAME);
            decoder.take(&[0]);
            let hello = Frame::Hello { version: VERSION, nonce: 7 };
            prop_assert_eq!(decoder.take(&line(std::slice::from_ref(&hello))), [Ok(hello)]);
        }
    }

    #[test]
    fn a_lost_frame_and_a_lost_byte_are_noticed() {
        let mut encoder = Encoder::default();
        let [first, lost, third] =
            [b"1", b"2", b"3"].map(|text| encoder.encode(&piece(1, text)).unwrap());
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(&first), [Ok(piece(1, b"1"))]);
        assert_eq!(decoder.take(&third), [Err(Disturbed)]);
        let mut decoder = Decoder::default();
        let mut bytes = [first, lost].concat();
        bytes.remove(3);
        assert_eq!(decoder.take(&bytes).first(), Some(&Err(Disturbed)));
    }

    #[test]
    fn a_helper_that_begins_again_is_understood_in_the_middle_of_a_frame() {
        let half = Encoder::default().encode(&piece(1, b"half")).unwrap();
        let hello = Frame::Hello {
            version: VERSION,
            nonce: 1,
        };
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(&half[..4]), []);
        // It ends first what may be there.
        let again = [vec![0], line(std::slice::from_ref(&hello))].concat();
        assert_eq!(decoder.take(&again), [Err(Disturbed), Ok(hello)]);
    }

    #[test]
    fn a_piece_that_is_too_long_is_refused_on_both_sides() {
        let long = piece(1, &vec![1; MAX_PIECE + 64]);
        assert_eq!(Encoder::default().encode(&long), Err(Disturbed));
        let plain = postcard::to_stdvec(&(0_u8, piece(1, &vec![1; MAX_PIECE + 1]))).unwrap();
        let mut bytes = cobs::encode_vec(&plain);
        bytes.push(0);
        assert_eq!(Decoder::default().take(&bytes), [Err(Disturbed)]);
    }
}
