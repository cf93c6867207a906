//! One line to a helper: what was said on it, without input and output (umlmon, the monitor process).
//!
//! The helper is not trusted: it can end its own streams and fill their inboxes up to a limit, and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use guest_line::{Decoder, Disturbed, Encoder, Frame, UNREAD, WINDOW, cost};

/// How many bytes wait for a client at most; a helper that keeps to the window has no more under way.
const MAX_INBOX: u32 = 2 * WINDOW;

/// How many pieces of one stream wait to be written at most, so that each stream has its turn.
const MAX_QUEUED: usize = 2;

/// How many frames wait to be written at most when a stream begins.
const MAX_WAITING: usize = 256;

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
    /// How many pieces of the client wait to be written.
    queued: usize,
}

/// What the helper is known to have read, once it has said that it is welcome.
#[derive(Debug, Default)]
struct Read {
    /// How many bytes were written since, modulo 2^32.
    written: u32,
    /// How many of them it has read.
    read: u32,
}

/// A line.
#[derive(Debug, Default)]
pub(super) struct Line {
    encoder: Encoder,
    decoder: Decoder,
    /// The version of the helper, once it has reported itself.
    helper: Option<u32>,
    /// The greeting, which is written whatever the helper reads.
    greeting: Vec<u8>,
    /// Nothing else is written until it has answered that.
    read: Option<Read>,
    /// What else is to be written, each frame with its stream, and how much of the first one was.
    waiting: VecDeque<(u32, Vec<u8>)>,
    begun: usize,
    streams: BTreeMap<u32, Inbox>,
}

impl Line {
    /// That of a kernel that has been running for some time: the helper is to begin again.
    pub(super) fn resumed() -> Line {
        let mut line = Line::default();
        line.begin_again();
        line
    }

    /// The version of the helper that has reported itself.
    pub(super) fn helper(&self) -> Option<u32> {
        self.helper
    }

    /// Opens a stream; returns how many there are. Nothing if the helper does not read.
    pub(super) fn open(&mut self, number: u32) -> Option<usize> {
        if self.waiting.len() > MAX_WAITING {
            return None;
        }
        self.streams.insert(number, Inbox::default());
        Some(self.streams.len())
    }

    /// Gives a stream up.
    pub(super) fn close(&mut self, number: u32) {
        let open = self.streams.remove(&number);
        if open.is_some_and(|inbox| !inbox.ended) {
            self.say(number, &Frame::End { stream: number });
        }
    }

    /// Sends a piece; nothing if the helper has to read first.
    pub(super) fn send(&mut self, stream: u32, piece: &[u8]) -> Result<Option<()>, NoStream> {
        let inbox = self.streams.get_mut(&stream).ok_or(NoStream)?;
        // Nobody listens, and the client learns of it by what it receives.
        if inbox.ended {
            return Ok(Some(()));
        }
        if inbox.queued >= MAX_QUEUED {
            return Ok(None);
        }
        inbox.queued += 1;
        let bytes = piece.to_vec();
        self.say(stream, &Frame::Piece { stream, bytes });
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
        self.encoder = Encoder::default();
        self.helper = Some(version);
        self.greet(&Frame::Welcome { nonce });
    }

    /// Nothing else is said until the helper answers.
    fn greet(&mut self, frame: &Frame) {
        self.streams.clear();
        self.waiting.clear();
        self.begun = 0;
        self.read = None;
        // What was half written before is ended by the zero.
        self.greeting = vec![0];
        self.greeting
            .extend(self.encoder.encode(frame).unwrap_or_default());
    }

    /// Something was lost.
    fn begin_again(&mut self) {
        self.helper = None;
        self.greet(&Frame::Again);
    }

    fn was_read(&mut self, all: u32) {
        match &mut self.read {
            None if all == 0 => self.read = Some(Read::default()),
            // A helper that has read more than was written is not believed.
            Some(Read { written, read })
                if all.wrapping_sub(*read) <= written.wrapping_sub(*read) =>
            {
                *read = all;
            }
            _ => {}
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
            self.say(stream, &Frame::End { stream });
        }
    }

    fn say(&mut self, stream: u32, frame: &Frame) {
        // Pieces were checked to be short enough.
        if let Ok(bytes) = self.encoder.encode(frame) {
            self.waiting.push_back((stream, bytes));
        }
    }

    /// What may be written to the socket now.
    fn due(&self) -> &[u8] {
        let room = self
            .read
            .as_ref()
            .map(|Read { written, read }| UNREAD.saturating_sub(written.wrapping_sub(*read)));
        match (&self.greeting[..], room, self.waiting.front()) {
            ([], Some(room), Some((_, frame))) => {
                let rest = frame.get(self.begun..).unwrap_or_default();
                rest.get(..room as usize).unwrap_or(rest)
            }
            (greeting, ..) => greeting,
        }
    }

    /// There is something to be written to the socket.
    pub(super) fn has_output(&self) -> bool {
        !self.due().is_empty()
    }

    /// Writes what `write` takes.
    pub(super) fn write(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while self.has_output() {
            let written = write(self.due())?;
            if !self.greeting.is_empty() {
                self.greeting.drain(..written);
                continue;
            }
            if let Some(read) = &mut self.read {
                read.written = read
                    .written
                    .wrapping_add(u32::try_from(written).unwrap_or(0));
            }
            self.begun += written;
            let is_whole = |(_, frame): &mut (u32, Vec<u8>)| frame.len() <= self.begun;
            if let Some((stream, _)) = self.waiting.pop_front_if(is_whole) {
                self.begun = 0;
                if let Some(inbox) = self.streams.get_mut(&stream) {
                    inbox.queued = inbox.queued.saturating_sub(1);
                }
            }
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
        line.hear(&encoder.encode(&Frame::Read(0)).unwrap());
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

    /// How many bytes the monitor writes.
    fn written(line: &mut Line) -> u32 {
        let mut all = 0;
        line.write(|bytes| {
            all += bytes.len();
            Ok(bytes.len())
        })
        .unwrap();
        u32::try_from(all).unwrap()
    }

    #[test]
    fn no_more_is_said_than_the_guest_can_hold_unread() {
        let (mut line, mut encoder, _) = greeted();
        line.open(1);
        line.open(2);
        for stream in [1, 1, 2] {
            assert_eq!(line.send(stream, &[1; MAX_PIECE]), Ok(Some(())));
        }
        // Each stream has its turn.
        assert_eq!(line.send(1, &[1; MAX_PIECE]), Ok(None));
        assert_eq!(written(&mut line), UNREAD);
        assert!(!line.has_output());
        assert_eq!(line.send(1, &[1; MAX_PIECE]), Ok(Some(())));
        let mut hear = |line: &mut Line, read| {
            line.hear(&encoder.encode(&Frame::Read(read)).unwrap());
            written(line)
        };
        // One that claims to have read more than was written is not believed.
        assert_eq!(hear(&mut line, UNREAD + 1), 0);
        assert_eq!(hear(&mut line, u32::MAX), 0);
        assert_eq!(hear(&mut line, 1000), 1000);
        assert_eq!(hear(&mut line, 0), 0);
        assert_eq!(hear(&mut line, UNREAD), UNREAD - 1000);
    }

    #[test]
    fn a_helper_that_reads_nothing_takes_no_memory() {
        let (mut line, ..) = greeted();
        let opened = (1..10_000).take_while(|number| {
            let open = line.open(*number).is_some();
            for _ in 0..3 {
                let _ = line.send(*number, &[1; MAX_PIECE]);
            }
            line.close(*number);
            open
        });
        assert!(opened.count() < MAX_WAITING);
        assert!(line.waiting.len() < MAX_WAITING + 8);
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
