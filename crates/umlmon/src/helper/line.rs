//! One line to a helper: what was said on it, without input and output (umlmon, the monitor process).
//!
//! The helper is not trusted: it can end its own streams and fill their inboxes up to a limit, and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use guest_line::{Decoder, Disturbed, Encoder, Frame, UNREAD, WINDOW, cost};

/// How many bytes wait for a client at most; a helper that keeps to the window has no more under way.
const MAX_INBOX: u32 = 2 * WINDOW;

/// There is no such stream: it was closed, or the helper knows nothing of it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoStream;

/// What has come for a client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// In order.
    pub pieces: Vec<Vec<u8>>,
    /// Nothing will follow.
    pub ended: bool,
}

/// What waits for a client.
#[derive(Debug, Default)]
struct Inbox {
    pieces: VecDeque<Vec<u8>>,
    cost: u32,
    ended: bool,
}

/// A line.
#[derive(Debug, Default)]
pub(super) struct Line {
    encoder: Encoder,
    decoder: Decoder,
    /// The version of the helper, once it has reported itself.
    helper: Option<u32>,
    out: Vec<u8>,
    /// The lengths of frames that the helper has not read yet.
    unread: VecDeque<usize>,
    /// The number of the frames that it has read, as it counts.
    read: u32,
    streams: BTreeMap<u32, Inbox>,
}

impl Line {
    /// The version of the helper that has reported itself.
    pub(super) fn helper(&self) -> Option<u32> {
        self.helper
    }

    /// Opens a stream; returns how many there are.
    pub(super) fn open(&mut self, number: u32) -> usize {
        self.streams.insert(number, Inbox::default());
        self.streams.len()
    }

    /// Gives a stream up.
    pub(super) fn close(&mut self, number: u32) {
        let open = self.streams.remove(&number);
        if open.is_some_and(|inbox| !inbox.ended) {
            // It may exceed the limit of what is unread, as there is one for each stream.
            let _ = self.say(&Frame::End { stream: number });
        }
    }

    /// Sends a piece; nothing if the helper has to read first.
    pub(super) fn send(&mut self, stream: u32, piece: &[u8]) -> Result<Option<()>, NoStream> {
        let inbox = self.streams.get(&stream).ok_or(NoStream)?;
        // Nobody listens, and the client learns of it by what it receives.
        if inbox.ended {
            return Ok(Some(()));
        }
        let unread: usize = self.unread.iter().sum();
        if unread + piece.len() > UNREAD {
            return Ok(None);
        }
        let bytes = piece.to_vec();
        // It was checked to be short enough.
        let _ = self.say(&Frame::Piece { stream, bytes });
        Ok(Some(()))
    }

    /// What has come for a stream, up to so many pieces; nothing if there is nothing yet.
    pub(super) fn receive(
        &mut self,
        stream: u32,
        most: usize,
    ) -> Result<Option<Received>, NoStream> {
        let inbox = self.streams.get_mut(&stream).ok_or(NoStream)?;
        let count = inbox.pieces.len().min(most);
        let pieces: Vec<_> = inbox.pieces.drain(..count).collect();
        inbox.cost -= pieces.iter().map(|piece| cost(piece.len())).sum::<u32>();
        let ended = inbox.ended && inbox.pieces.is_empty();
        let received = Received { pieces, ended };
        Ok((count > 0 || ended).then_some(received))
    }

    /// Takes what was read from the socket.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for frame in self.decoder.take(bytes) {
            match (frame, self.helper) {
                (Ok(Frame::Hello { version, nonce }), _) => self.welcome(version, nonce),
                (Ok(Frame::Read(read)), Some(_)) => self.was_read(read),
                (Ok(Frame::Piece { stream, bytes }), Some(_)) => self.deliver(stream, bytes),
                (Ok(Frame::End { stream }), Some(_)) => {
                    if let Some(inbox) = self.streams.get_mut(&stream) {
                        inbox.ended = true;
                    }
                }
                (Err(Disturbed), Some(_)) => self.begin_again(),
                // Before a helper reports itself, the guest may write anything.
                (Ok(_) | Err(Disturbed), _) => {}
            }
        }
    }

    /// The helper begins, and knows nothing of the streams that there are.
    fn welcome(&mut self, version: u32, nonce: u64) {
        self.streams.clear();
        self.encoder = Encoder::default();
        self.unread.clear();
        self.read = 0;
        self.helper = Some(version);
        // What was half written before is ended by the zero.
        self.out = vec![0];
        if let Ok(bytes) = self.encoder.encode(&Frame::Welcome { nonce }) {
            self.out.extend(bytes);
        }
    }

    /// Something was lost.
    fn begin_again(&mut self) {
        self.streams.clear();
        self.helper = None;
        let _ = self.say(&Frame::Again);
    }

    fn was_read(&mut self, read: u32) {
        let more = read.wrapping_sub(self.read) as usize;
        // A helper that has read more than was sent is not believed.
        if more <= self.unread.len() {
            self.unread.drain(..more);
            self.read = read;
        }
    }

    fn deliver(&mut self, stream: u32, piece: Vec<u8>) {
        let Some(inbox) = self.streams.get_mut(&stream).filter(|inbox| !inbox.ended) else {
            return;
        };
        inbox.cost += cost(piece.len());
        inbox.pieces.push_back(piece);
        if inbox.cost > MAX_INBOX {
            inbox.ended = true;
            let _ = self.say(&Frame::End { stream });
        }
    }

    fn say(&mut self, frame: &Frame) -> Result<(), Disturbed> {
        let bytes = self.encoder.encode(frame)?;
        self.unread.push_back(bytes.len());
        self.out.extend(bytes);
        Ok(())
    }

    /// There is something to be written to the socket.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes what `write` takes.
    pub(super) fn write(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !self.out.is_empty() {
            let written = write(&self.out)?;
            self.out.drain(..written);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use guest_line::{MAX_PIECE, VERSION};

    use super::*;

    /// A line whose helper has reported itself, and the helper's side of it.
    fn greeted() -> (Line, Encoder, Decoder) {
        let mut line = Line::default();
        let mut encoder = Encoder::default();
        let hello = Frame::Hello {
            version: VERSION,
            nonce: 7,
        };
        line.hear(&encoder.encode(&hello).unwrap());
        let mut decoder = Decoder::default();
        assert_eq!(said(&mut line, &mut decoder), [Frame::Welcome { nonce: 7 }]);
        assert_eq!(line.helper(), Some(VERSION));
        (line, encoder, decoder)
    }

    /// What the monitor has to say.
    fn said(line: &mut Line, decoder: &mut Decoder) -> Vec<Frame> {
        let mut frames = Vec::new();
        line.write(|bytes| {
            frames.extend(decoder.take(bytes).into_iter().flatten());
            Ok(bytes.len())
        })
        .unwrap();
        frames
    }

    fn piece(stream: u32, bytes: &[u8]) -> Frame {
        let bytes = bytes.to_vec();
        Frame::Piece { stream, bytes }
    }

    #[test]
    fn no_more_is_said_than_the_guest_can_hold_unread() {
        let (mut line, mut encoder, mut decoder) = greeted();
        line.open(1);
        assert_eq!(line.send(1, &[1; MAX_PIECE]), Ok(Some(())));
        assert_eq!(line.send(1, &[2; MAX_PIECE]), Ok(None));
        assert_eq!(said(&mut line, &mut decoder).len(), 1);
        // One that claims to have read more than was sent is not believed.
        line.hear(&encoder.encode(&Frame::Read(2)).unwrap());
        assert_eq!(line.send(1, &[2; MAX_PIECE]), Ok(None));
        line.hear(&encoder.encode(&Frame::Read(1)).unwrap());
        assert_eq!(line.send(1, &[2; MAX_PIECE]), Ok(Some(())));
    }

    #[test]
    fn a_helper_that_says_too_much_loses_that_stream_only() {
        let (mut line, mut encoder, mut decoder) = greeted();
        line.open(1);
        line.open(2);
        for _ in 0..100 {
            line.hear(&encoder.encode(&piece(1, &[0; MAX_PIECE])).unwrap());
        }
        line.hear(&encoder.encode(&piece(2, b"well")).unwrap());
        assert_eq!(said(&mut line, &mut decoder), [Frame::End { stream: 1 }]);
        let kept = line.receive(1, 1000).unwrap().unwrap();
        assert!(
            kept.ended && kept.pieces.len() < 40,
            "{}",
            kept.pieces.len()
        );
        let other = line.receive(2, 1000).unwrap().unwrap();
        assert_eq!((other.pieces, other.ended), (vec![b"well".to_vec()], false));
    }

    #[test]
    fn a_helper_that_begins_again_and_noise_end_all_streams() {
        let (mut line, mut encoder, mut decoder) = greeted();
        line.open(1);
        let hello = Frame::Hello {
            version: VERSION,
            nonce: 8,
        };
        line.hear(&Encoder::default().encode(&hello).unwrap());
        assert_eq!(line.send(1, b"x"), Err(NoStream));
        line.open(2);
        let _lost = encoder.encode(&Frame::Read(0)).unwrap();
        said(&mut line, &mut decoder);
        line.hear(b"noise\0");
        assert_eq!(line.receive(2, 1), Err(NoStream));
        assert_eq!(line.helper(), None);
        assert_eq!(said(&mut line, &mut decoder), [Frame::Again]);
    }

    #[test]
    fn a_client_that_goes_is_told_and_what_comes_late_is_dropped() {
        let (mut line, mut encoder, mut decoder) = greeted();
        line.open(1);
        line.close(1);
        assert_eq!(said(&mut line, &mut decoder), [Frame::End { stream: 1 }]);
        line.hear(&encoder.encode(&piece(1, b"late")).unwrap());
        assert_eq!(line.receive(1, 1), Err(NoStream));
    }
}
