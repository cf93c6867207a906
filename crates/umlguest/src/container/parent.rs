//! The parent of a command in a container: see `container.rs` (umlguest, in a process of its own).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, exit};

use anyhow::{Context as _, bail, ensure};
use guest_line::{Place, is_container_id};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal as Named, raise};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, setrlimit,
};

use super::entry::{self, Entry};
use super::group::Group;
use super::hand::{self, Hand};
use super::inside;
use super::kills::Kills;

/// The word that tells this program that it is the parent.
pub(crate) const OPTION: &str = "-container";

/// What the parent says when the program executes; everything else is why it does not.
pub(super) const EXECUTES: u8 = 1;
/// What it says after that, when a process of the container was killed because its memory was used up.
pub(super) const OUT_OF_MEMORY: u8 = 2;

/// Begins the command, waits for its end, removes what is left, and ends as the command did. Without the helper, which
/// is at the other end of the standard input, the command is killed.
pub(crate) fn attend() -> anyhow::Result<()> {
    let helper = hand::socket()?;
    match attend_for(&helper) {
        Ok(status) => end_as(status),
        // It is heard there only, when nothing is left.
        Err(error) => {
            let _ = (&helper).write_all(format!("{error:#}").as_bytes());
            exit(1)
        }
    }
}

fn attend_for(helper: &UnixStream) -> anyhow::Result<ExitStatus> {
    let mut hand = Hand::receive(helper)?;
    match &hand.command()?.place {
        Place::Guest => bail!("no container is given"),
        Place::New(container) => {
            ensure!(is_container_id(&container.id), "the identifier is none");
            // In this order, they are gone in the other one.
            let entry = Entry::take(&container.id)?;
            let group = Group::make(&container.id)?;
            group.limit(&container.limits)?;
            unshare(CloneFlags::CLONE_NEWPID)
                .context("this kernel has no namespaces of processes")?;
            let mut attended = Attended::begin(hand, helper)?;
            attended.kills = Kills::of(&group);
            attended.wait(|pid| entry.tell(pid))
        }
        Place::In(id, _) => {
            ensure!(is_container_id(id), "the identifier is none");
            let first = entry::first(id)?;
            setns(&first, CloneFlags::CLONE_NEWPID).context("cannot join the container")?;
            hand.first = Some(first);
            Attended::begin(hand, helper)?.wait(|_| Ok(()))
        }
    }
}

/// The process inside. If this is dropped, it is killed.
struct Attended<'a> {
    child: Child,
    /// For polls, and for signals that reach no other process.
    handle: OwnedFd,
    /// It ends when the program executes, and after words if it cannot; then this is none.
    inside: Option<UnixStream>,
    /// None once it has gone.
    helper: Option<&'a UnixStream>,
    /// Of the whole container, if this is its first process.
    kills: Option<Kills>,
}

impl<'a> Attended<'a> {
    fn begin(hand: Hand, helper: &'a UnixStream) -> anyhow::Result<Self> {
        let program = sealed_program().context("cannot copy this program")?;
        let (inside, theirs) = UnixStream::pair().context("cannot make a socket")?;
        hand.send(&inside)?;
        for socket in [&inside, helper] {
            socket.set_nonblocking(true)?;
        }
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let mut command = Command::new(path);
        let command = command.arg(inside::OPTION).stdin(OwnedFd::from(theirs));
        let mut child = command.spawn().context("cannot begin a process")?;
        let handle = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match handle {
            Ok(handle) => Ok(Attended {
                child,
                handle,
                inside: Some(inside),
                helper: Some(helper),
                kills: None,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error).context("cannot watch a process")
            }
        }
    }

    /// Waits for its end. `begun` is told its number when the program executes, before the helper is.
    fn wait(mut self, begun: impl Fn(u32) -> anyhow::Result<()>) -> anyhow::Result<ExitStatus> {
        let mut words = Vec::new();
        loop {
            self.pause()?;
            // What it said before its end is heard.
            let ended = self.child.try_wait();
            let ended = ended.context("cannot wait for the command")?;
            let heard = self
                .inside
                .as_ref()
                .map(|mut it| it.read_to_end(&mut words));
            if matches!(&heard, Some(result) if !is_open(result)) {
                ensure!(words.is_empty(), "{}", String::from_utf8_lossy(&words));
                self.inside = None;
                begun(self.child.id())?;
                self.tell(EXECUTES);
            }
            let executes = self.inside.is_none();
            if executes && self.kills.as_mut().is_some_and(Kills::are_new) {
                self.tell(OUT_OF_MEMORY);
            }
            if let Some(status) = ended {
                return Ok(status);
            }
            self.pass_on();
        }
    }

    fn tell(&self, what: u8) {
        // If the helper is not there, that is seen when signals are passed on.
        let _ = self.helper.map(|mut helper| helper.write_all(&[what]));
    }

    /// Waits until something has happened.
    fn pause(&self) -> anyhow::Result<()> {
        let mut all = vec![PollFd::new(&self.handle, PollFlags::IN)];
        let sockets = self.inside.iter().chain(self.helper);
        all.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        let kills = self.kills.iter();
        all.extend(kills.map(|kills| PollFd::from_borrowed_fd(kills.fd(), PollFlags::PRI)));
        match poll(&mut all, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait"),
        }
    }

    /// Passes signals on. If the helper has gone, the command goes, too.
    fn pass_on(&mut self) {
        let Some(mut helper) = self.helper else {
            return;
        };
        let mut numbers = Vec::new();
        let heard = helper.read_to_end(&mut numbers);
        let signals = numbers.iter().map(|number| i32::from(*number));
        for signal in signals.filter_map(Signal::from_named_raw) {
            let _ = pidfd_send_signal(&self.handle, signal);
        }
        if !is_open(&heard) {
            self.helper = None;
            let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        }
    }
}

/// Whether there may be more to read.
fn is_open(read: &io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        // It does nothing if that was done already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A copy of this program that nobody can change. Why: a program in a container can have itself executed by the name
/// `/proc/self/exe`, and change the file that it is then; all others of the guest would execute what it wrote.
fn sealed_program() -> anyhow::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create("umlguest", flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, all)?;
    Ok(copy)
}

/// Ends this process in the same way, if that is possible; else as a shell would.
fn end_as(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal() {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        // The memory of this process tells nobody anything.
        let _ = setrlimit(Resource::Core, none);
        if let Ok(signal) = Named::try_from(signal) {
            let _ = raise(signal);
        }
        exit(128 + signal);
    }
    exit(status.code().unwrap_or(1))
}
