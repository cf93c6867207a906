//! The loop: the line, all streams, and processes that end (umlguest).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Instant;

use anyhow::Context as _;
use guest_line::{Frame, MAX_PIECE, ToHost, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::kept::Kept;
use crate::line::Line;
use crate::stream::Stream;

/// How many streams there are at most; each has up to 64 KiB.
const STREAMS: usize = 64;

/// Serves until the line fails.
pub(crate) fn serve(line: OwnedFd) -> anyhow::Result<()> {
    let (mut ended, notify) = UnixStream::pair().context("cannot make a socket")?;
    ended
        .set_nonblocking(true)
        .context("cannot prepare a socket")?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, notify)
        .context("cannot hear of processes that end")?;
    let mut server = Server {
        line: Line::new(line).context("cannot use the line")?,
        streams: BTreeMap::new(),
        kept: Kept::default(),
        newest: 0,
        hung_up: Vec::new(),
    };
    loop {
        server.wait(&ended)?;
        // What it says is only that somebody has ended.
        let _ = ended.read(&mut [0; 64]);
        server
            .hung_up
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let given_up = server.kept.give_up();
        server.hung_up.extend(given_up);
        server.line.tick();
        server.hear()?;
        server.proceed();
        server.line.flush().context("cannot write to the line")?;
    }
}

struct Server {
    line: Line,
    streams: BTreeMap<u32, Stream>,
    /// Commands of a line that has ended.
    kept: Kept,
    /// The greatest number of a stream that there was. What comes for others was under way when they ended.
    newest: u32,
    /// The processes of commands whose clients have gone.
    hung_up: Vec<Child>,
}

impl Server {
    /// Waits until there is something to do.
    fn wait(&self, ended: &UnixStream) -> anyhow::Result<()> {
        let flags = match self.line.has_output() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let line = self.line.fd();
        let mut all = vec![
            PollFd::from_borrowed_fd(line, flags),
            PollFd::new(ended, PollFlags::IN),
        ];
        if !self.line.is_crowded() {
            all.extend(self.streams.values().flat_map(|stream| {
                let process = match stream {
                    Stream::Runs(process) => Some(process),
                    _ => None,
                };
                let waits = process.into_iter().flat_map(|process| process.waits_for());
                waits.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            }));
        }
        let due = [self.line.due(), self.kept.due()].into_iter().flatten();
        let timeout = due.min().map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or_default()
        });
        match poll(&mut all, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait"),
        }
    }

    /// Takes what the line brings.
    fn hear(&mut self) -> anyhow::Result<()> {
        let frames = self.line.read().context("cannot read from the line")?;
        let Some(frames) = frames else {
            for stream in std::mem::take(&mut self.streams).into_values() {
                match stream {
                    Stream::Runs(process) => self.kept.keep(process),
                    other => self.hung_up.extend(other.hang_up()),
                }
            }
            self.newest = 0;
            return Ok(());
        };
        for frame in frames {
            match frame {
                Frame::Piece { stream, bytes } => self.piece(stream, &bytes),
                Frame::End { stream } => {
                    let stream = self.streams.remove(&stream);
                    self.hung_up.extend(stream.and_then(Stream::hang_up));
                }
                // They are for the other side.
                Frame::Hello { .. } | Frame::Welcome { .. } | Frame::Read(_) | Frame::Again => {}
            }
        }
        Ok(())
    }

    fn piece(&mut self, number: u32, piece: &[u8]) {
        let is_new = number > self.newest;
        if !is_new && !self.streams.contains_key(&number) {
            return;
        }
        self.newest = self.newest.max(number);
        if is_new && self.streams.len() >= STREAMS {
            let why = format!("{STREAMS} commands run already");
            self.say(number, &ToHost::Refused(why));
            self.line.say(&Frame::End { stream: number });
            return;
        }
        let stream = self.streams.entry(number).or_insert_with(Stream::new);
        for message in stream.hear(piece, &mut self.kept) {
            self.say(number, &message);
        }
        self.end_if_over(number);
    }

    /// Goes on with all commands, unless there is too much to be written.
    fn proceed(&mut self) {
        let numbers: Vec<_> = self.streams.keys().copied().collect();
        for number in numbers {
            if self.line.is_crowded() {
                return;
            }
            let stream = self.streams.get_mut(&number);
            for message in stream.map(Stream::proceed).unwrap_or_default() {
                self.say(number, &message);
            }
            self.end_if_over(number);
        }
    }

    fn end_if_over(&mut self, number: u32) {
        if let Some(Stream::Over(_)) = self.streams.get(&number) {
            let stream = self.streams.remove(&number);
            self.hung_up.extend(stream.and_then(Stream::hang_up));
            self.line.say(&Frame::End { stream: number });
        }
    }

    fn say(&mut self, stream: u32, message: &ToHost) {
        // Messages are shorter than a piece, but for the words of an error.
        let bytes = encode(message, MAX_PIECE)
            .or_else(|_| encode(&ToHost::Refused("it cannot be done".into()), MAX_PIECE));
        if let Ok(bytes) = bytes {
            self.line.say(&Frame::Piece { stream, bytes });
        }
    }
}
