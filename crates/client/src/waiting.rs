//! What a session waits for: the monitor, signals, and the user.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::signals::Signals;
use crate::stream::Stream;
use cli::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;

/// What has come.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// Something on the connection.
    pub answer: bool,
    /// A signal that is held.
    pub signal: bool,
    /// Something on stdin, or its end.
    pub input: bool,
}

impl Came {
    /// Waits until something comes, on the connection if there is one, on stdin only if `listening`, or the time is
    /// over.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait<'a>(
        connection: impl Into<Option<&'a Stream>>,
        signals: &Signals,
        listening: bool,
        timeout: Option<Duration>,
    ) -> Result<Came, Failure> {
        let timeout = timeout.map(|left| Timespec::try_from(left).unwrap_or_default());
        let stdin = stdin();
        let connection = connection.into();
        let stream = connection.map_or(signals.as_fd(), AsFd::as_fd);
        let mut fds = [
            PollFd::from_borrowed_fd(stream, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&stdin, PollFlags::IN),
        ];
        let watched = if listening {
            &mut fds[..]
        } else {
            fds.split_at_mut(2).0
        };
        match poll(watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(std::io::Error::from(e).into()),
        }
        let [answer, signal, input] = fds.each_ref().map(|fd| !fd.revents().is_empty());
        Ok(Came {
            answer: answer && connection.is_some(),
            signal,
            input,
        })
    }
}

/// What is on stdin: empty at its end, nothing if there is nothing yet.
///
/// # Errors
/// Those of read(2), but the end of a terminal.
pub fn read_stdin(buffer: &mut [u8]) -> Result<Option<&[u8]>, Failure> {
    match rustix::io::read(stdin(), &mut *buffer) {
        // A terminal that is gone reads as EIO.
        Ok(0) | Err(Errno::IO) => Ok(Some(&[])),
        Ok(length) => Ok(Some(buffer.get(..length).unwrap_or_default())),
        Err(Errno::INTR | Errno::AGAIN) => Ok(None),
        Err(e) => Err(Failure::from(std::io::Error::from(e)).about("cannot read stdin")),
    }
}
