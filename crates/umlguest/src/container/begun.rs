//! What the helper has of a command in a container: its parent, and the socket to it (umlguest, the helper).

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use guest_line::Command as Wanted;

use super::hand::Hand;
use super::parent::{EXECUTES, OPTION, OUT_OF_MEMORY};

/// The program itself, whatever its file is called now.
const SELF: &str = "/proc/self/exe";

/// How long the words of an error may be.
const MAX_WORDS: usize = 4 << 10;

/// A command in a container. If this is dropped, its process is killed.
pub(crate) struct Begun {
    socket: UnixStream,
    /// What the parent has said, and nobody has heard yet.
    said: Vec<u8>,
    state: State,
}

/// What is known of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Open,
    /// The program executes.
    Executes,
    /// Nothing more is said.
    Over,
}

/// What has become of it.
pub(crate) enum Report {
    /// The program executes.
    Executes,
    /// It cannot: in words.
    Cannot(String),
    /// A process of the container was killed because its memory was used up.
    OutOfMemory,
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
            state: State::Open,
        };
        Ok((parent.context("cannot begin a process")?, begun))
    }

    /// Whether it is not known yet if the program executes.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// What is to be polled for input.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (self.state != State::Over).then(|| self.socket.as_fd())
    }

    /// Signals the process; others of the container are not.
    pub(crate) fn signal(&self, number: i32) {
        if let Ok(number) = u8::try_from(number) {
            // There is nobody to be told if it has just ended.
            let _ = (&self.socket).write(&[number]);
        }
    }

    /// What has become of it, each thing once.
    pub(crate) fn report(&mut self) -> Option<Report> {
        if self.state == State::Over {
            return None;
        }
        let says_more = self.hear();
        let first = self.said.first().copied();
        match self.state {
            State::Open if first == Some(EXECUTES) => {
                self.said.remove(0);
                self.state = State::Executes;
                return Some(Report::Executes);
            }
            State::Executes if first == Some(OUT_OF_MEMORY) => {
                self.said.clear();
                return Some(Report::OutOfMemory);
            }
            _ if says_more => return None,
            _ => {}
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open => Some(Report::Cannot(self.words())),
            State::Executes | State::Over => None,
        }
    }

    /// Takes what the parent says; false if it says nothing more.
    fn hear(&mut self) -> bool {
        let mut buffer = [0; 512];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.said.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// Why the program does not execute.
    fn words(&mut self) -> String {
        self.said.truncate(MAX_WORDS);
        match &self.said[..] {
            [] => "the process that was to begin it has ended".into(),
            said => String::from_utf8_lossy(said).into_owned(),
        }
    }
}
