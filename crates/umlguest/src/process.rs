//! A command that runs: its process, its terminal or pipes, and what is under way (umlguest).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command};

use anyhow::Context as _;
use guest_line::{
    CHUNK, Command as Wanted, Ending, Heard, Key, Nonsense, Place, Said, Size, ToHost, WINDOW, cost,
};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::container::{Begun, Report};
use crate::launch;

/// The program itself, whatever its file is called now.
const SELF: &str = "/proc/self/exe";

/// Where a command writes.
struct Output {
    /// Nothing after its end.
    file: Option<OwnedFd>,
    message: fn(Vec<u8>) -> ToHost,
}

/// A command that runs, or has ended and left something to be read.
pub(crate) struct Process {
    key: Key,
    child: Child,
    /// If it is in a container.
    container: Option<Begun>,
    /// Nothing once there is no more input, or nobody reads it.
    input: Option<OwnedFd>,
    /// What it has not taken yet, by message.
    pending: VecDeque<Vec<u8>>,
    /// What the client said.
    heard: Heard,
    /// The client has no more input than is pending.
    last_input: bool,
    outputs: [Output; 2],
    /// What the client is told.
    said: Said<ToHost>,
    ended: Option<Ending>,
    /// The client is told of the end.
    is_over: bool,
}

/// The terminal or the pipes of a command: what it gets, and what stays here.
struct Ends {
    given: [OwnedFd; 3],
    input: OwnedFd,
    outputs: [Option<OwnedFd>; 2],
}

impl Ends {
    fn pipes() -> anyhow::Result<Ends> {
        let pipe = || std::io::pipe().context("cannot make a pipe");
        let ((stdin, input), (output, stdout), (error, stderr)) = (pipe()?, pipe()?, pipe()?);
        Ok(Ends {
            given: [stdin.into(), stdout.into(), stderr.into()],
            input: input.into(),
            outputs: [Some(output.into()), Some(error.into())],
        })
    }

    fn terminal(size: Size) -> anyhow::Result<Ends> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).context("cannot open a terminal")?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ioctl_tiocgptpeer(&ours, flags).context("cannot open a terminal")?;
        tcsetwinsize(&ours, winsize(size)).context("cannot set the size of a terminal")?;
        let again = |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, 0);
        Ok(Ends {
            given: [again(&theirs)?, again(&theirs)?, theirs],
            input: again(&ours)?,
            outputs: [Some(ours), None],
        })
    }
}

fn winsize(size: Size) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Process {
    /// Begins a command.
    ///
    /// # Errors
    /// If it has no words, or the guest has no more processes, descriptors or terminals.
    pub(crate) fn begin(wanted: &Wanted) -> anyhow::Result<Process> {
        let ends = match wanted.terminal {
            Some(size) => Ends::terminal(size)?,
            None => Ends::pipes()?,
        };
        let (child, container) = match wanted.place {
            Place::Guest => (begin_in_guest(wanted, ends.given)?, None),
            Place::New(_) | Place::In(..) => {
                let (parent, begun) = Begun::new(wanted, ends.given)?;
                (parent, Some(begun))
            }
        };
        for fd in ends.outputs.iter().flatten().chain([&ends.input]) {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        let [output, error] = ends.outputs;
        Ok(Process {
            key: wanted.key,
            child,
            container,
            input: Some(ends.input),
            pending: VecDeque::new(),
            heard: Heard::default(),
            last_input: false,
            outputs: [
                Output {
                    file: output,
                    message: ToHost::Output,
                },
                Output {
                    file: error,
                    message: ToHost::Error,
                },
            ],
            said: Said::default(),
            ended: None,
            is_over: false,
        })
    }

    /// What its client knows it by.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The client goes on with it on another line, where it has heard and passed on so much.
    ///
    /// # Errors
    /// If that is more than it was told.
    pub(crate) fn resume(&mut self, heard: u64, taken: u64) -> Result<ToHost, Nonsense> {
        self.said.begin_again(heard, taken)?;
        let (heard, taken) = self.heard.so_far();
        Ok(ToHost::Resumed { heard, taken })
    }

    /// Takes input; false if the client sends more than it may.
    pub(crate) fn take(&mut self, bytes: Vec<u8>) -> bool {
        self.heard.hear(bytes.len());
        self.pending.push_back(bytes);
        self.heard.waiting() <= u64::from(2 * WINDOW)
    }

    pub(crate) fn end_input(&mut self) {
        self.heard.note();
        self.last_input = true;
    }

    /// The client has passed on so much.
    ///
    /// # Errors
    /// If that is more than it was told.
    pub(crate) fn taken(&mut self, taken: u64) -> Result<(), Nonsense> {
        self.said.was_taken(taken)
    }

    /// The client wants it to be signalled.
    pub(crate) fn pass_signal(&mut self, number: i32) {
        self.heard.note();
        self.signal(number);
    }

    /// Signals the command and what it has begun in its process group; in a container, only the command.
    fn signal(&self, number: i32) {
        if let Some(container) = &self.container {
            return container.signal(number);
        }
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let signal = Signal::from_named_raw(number);
        if let (Some(group), Some(signal), None) = (group, signal, self.ended) {
            // There is nobody to be told if it has just ended.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Tells a command whose client has gone what a terminal that is closed would tell it; one in a container is
    /// killed. The process is to be waited for.
    pub(crate) fn hang_up(self) -> Child {
        if self.container.is_none() {
            self.signal(Signal::HUP.as_raw());
            self.signal(Signal::CONT.as_raw());
        }
        self.child
    }

    /// Tells the terminal its new size; the kernel signals it.
    pub(crate) fn resize(&mut self, size: Size) {
        self.heard.note();
        if let Some(terminal) = &self.input {
            // Pipes have no size.
            let _ = tcsetwinsize(terminal, winsize(size));
        }
    }

    /// What this process waits for.
    pub(crate) fn waits_for(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let wants_room = !self.pending.is_empty() || self.last_input;
        let input = self.input.as_ref().filter(|_| wants_room);
        let is_begun = !self.is_being_made();
        let may_say = !self.said.is_full() && is_begun;
        let report = self.container.as_ref().and_then(Begun::fd);
        let outputs = self
            .outputs
            .iter()
            .filter_map(|output| output.file.as_ref());
        let outputs = outputs.filter(move |_| may_say);
        let input = input.map(|file| (file.as_fd(), PollFlags::OUT));
        outputs
            .map(|file| (file.as_fd(), PollFlags::IN))
            .chain(input)
            .chain(report.map(|socket| (socket, PollFlags::IN)))
    }

    /// Its program does not execute yet.
    fn is_being_made(&self) -> bool {
        self.container.as_ref().is_some_and(Begun::is_open)
    }

    /// Does what can be done, and returns what is to be said of it. The last message of a command that cannot begin
    /// says why; that of one that has ended tells how.
    pub(crate) fn proceed(&mut self) -> Vec<ToHost> {
        self.feed();
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten().map(ending);
        }
        // What was reported before the end is seen after it.
        while let Some(report) = self.container.as_mut().and_then(Begun::report) {
            match report {
                Report::Executes => self.said.say(ToHost::Begun, 0),
                Report::OutOfMemory => self.said.say(ToHost::OutOfMemory, 0),
                Report::Cannot(why) => return vec![ToHost::Refused(why)],
            }
        }
        if !self.is_being_made() {
            self.pass_on();
        }
        let taken = self.heard.due().map(ToHost::Taken);
        let said = std::iter::from_fn(|| self.said.next_due());
        taken.into_iter().chain(said).collect()
    }

    /// Passes on what it has written, and in the end how it has ended.
    fn pass_on(&mut self) {
        let said = &mut self.said;
        let quiet = self.outputs.iter_mut().all(|output| output.pass_on(said));
        if let (Some(ending), true, false) = (self.ended, quiet, self.is_over) {
            said.say(ToHost::Ended(ending), 0);
            self.is_over = true;
            // What others still write there, nobody hears.
            self.input = None;
            self.outputs
                .iter_mut()
                .for_each(|output| output.file = None);
        }
    }

    /// Gives the command what input it takes.
    fn feed(&mut self) {
        let mut taken = 0;
        while let Some(mut bytes) = self.pending.pop_front() {
            let size = cost(bytes.len());
            // If it reads no more, what is left counts as taken.
            let written = self.input.as_ref().map(|file| write(file, &bytes));
            match written {
                Some(Ok(length)) if length < bytes.len() => {
                    bytes.drain(..length);
                    taken += size - cost(bytes.len());
                    self.pending.push_front(bytes);
                }
                Some(Ok(_)) | None => taken += size,
                Some(Err(Errno::INTR)) => self.pending.push_front(bytes),
                Some(Err(Errno::AGAIN)) => {
                    self.pending.push_front(bytes);
                    break;
                }
                Some(Err(_)) => {
                    self.input = None;
                    taken += size;
                }
            }
        }
        if self.last_input && self.pending.is_empty() {
            self.input = None;
        }
        self.heard.pass_on(taken);
    }
}

impl Output {
    /// Passes on what is there and may be said; true if nothing is left.
    fn pass_on(&mut self, said: &mut Said<ToHost>) -> bool {
        let Some(file) = &self.file else { return true };
        while !said.is_full() {
            let mut buffer = vec![0; CHUNK];
            match read(file, &mut buffer) {
                Ok(length) if length > 0 => {
                    buffer.truncate(length);
                    said.say((self.message)(buffer), length);
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                // The end of a pipe; a terminal that nobody has open any more gives EIO.
                Ok(_) | Err(_) => {
                    self.file = None;
                    return true;
                }
            }
        }
        false
    }
}

fn begin_in_guest(wanted: &Wanted, streams: [OwnedFd; 3]) -> anyhow::Result<Child> {
    let [stdin, stdout, stderr] = streams;
    let mut command = Command::new(SELF);
    command.arg(launch::OPTION).args(launch::words(wanted));
    command
        .env_clear()
        .envs(wanted.environment.iter().filter_map(|variable| {
            let equals = variable.iter().position(|byte| *byte == b'=')?;
            let (name, value) = variable.split_at(equals);
            Some((OsStr::from_bytes(name), OsStr::from_bytes(value.get(1..)?)))
        }));
    let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
    child.context("cannot begin a process")
}

fn ending(status: std::process::ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, signal) => Ending::Signalled(signal.unwrap_or(0)),
    }
}
