//! What the helper has of a command in a container: its parent, and the socket to it (umlguest, the helper).

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use guest_line::Command as Wanted;

use super::hand::Hand;
use super::parent::{EXECUTES, OPTION};

/// The program itself, whatever its file is called now.
const SELF: &str = "/proc/self/exe";

/// How long the words of an error may be.
const MAX_WORDS: usize = 4 << 10;

/// A command in a container. If this is dropped, its process is killed.
pub(crate) struct Begun {
    socket: UnixStream,
    /// What the parent has said.
    said: Vec<u8>,
    told: bool,
}

/// What has become of it.
pub(crate) enum Report {
    /// The program executes.
    Executes,
    /// It cannot: in words.
    Cannot(String),
}

impl Begun {
    /// Begins it with these streams. The process that is returned is the parent; it ends as the command does, and
    /// leaves nothing.
    pub(crate) fn new(wanted: &Wanted, streams: [OwnedFd; 3]) -> anyhow::Result<(Child, Begun)> {
        let (socket, theirs) = UnixStream::pair().context("cannot make a socket")?;
        Hand::new(streams, wanted)?.send(&socket)?;
        socket.set_nonblocking(true)?;
        let mut parent = Command::new(SELF);
        let parent = parent.arg(OPTION).env_clear().stdout(Stdio::null());
        let parent = parent.stdin(OwnedFd::from(theirs)).spawn();
        let begun = Begun {
            socket,
            said: Vec::new(),
            told: false,
        };
        Ok((parent.context("cannot begin a process")?, begun))
    }

    /// Whether it is not known yet if the program executes.
    pub(crate) fn is_open(&self) -> bool {
        !self.told
    }

    /// What is to be polled for input while it is not known.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Signals the process; others of the container are not.
    pub(crate) fn signal(&self, number: i32) {
        if let Ok(number) = u8::try_from(number) {
            // There is nobody to be told if it has just ended.
            let _ = (&self.socket).write(&[number]);
        }
    }

    /// What has become of it, once, when it is known.
    pub(crate) fn report(&mut self) -> Option<Report> {
        if self.told {
            return None;
        }
        let mut buffer = [0; 512];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => self.said.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.said.first() == Some(&EXECUTES) {
                        break;
                    }
                    return None;
                }
                Err(_) => break,
            }
        }
        self.told = true;
        if self.said.first() == Some(&EXECUTES) {
            return Some(Report::Executes);
        }
        self.said.truncate(MAX_WORDS);
        let words = match &self.said[..] {
            [] => "the process that was to begin it has ended".into(),
            said => String::from_utf8_lossy(said).into_owned(),
        };
        Some(Report::Cannot(words))
    }
}
