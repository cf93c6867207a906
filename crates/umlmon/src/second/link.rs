//! The monitor's handle on the process that supervises the kernel (umlmon, the monitor process).
//!
//! The second process is not trusted: a message that is too long, malformed or not expected at that point kills it, and
//! the VM with it.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::Network;

use crate::second::confined::{Confined, printable};
use crate::second::keeper::Keeper;
use crate::second::listening::Listening;
use crate::second::orders::{FromChild, Launch, MAX_HELD, ToChild, send_with};

/// The monitor's handle on the second process of a running kernel. Dropping it kills all processes of the VM.
#[derive(Debug)]
pub struct Link {
    process: Confined,
    expected: Cell<Expected>,
    /// How many descriptors it was given to hold, and has not said the numbers of.
    asked: Cell<usize>,
    /// Another monitor has started it, and may have heard some of what it says again.
    adopted: bool,
}

/// What the second process may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Start,
    End,
    Nothing,
}

impl Link {
    /// Starts the second process and gives it its task. `ends` are the kernel's ends of the channels, in the order of
    /// their numbers, and then open taps: the first one becomes its descriptors 0, 1 and 2, the others 3 and so on. The
    /// mounts of shared directories come last, and are for the second process only. All of it is in this network.
    ///
    /// # Errors
    /// If a process cannot be started, or the arguments are too long.
    pub fn launch(
        keeper: &Keeper,
        launch: &Launch,
        ends: &[BorrowedFd<'_>],
        network: Network<'_>,
    ) -> io::Result<Self> {
        let order = ToChild::Launch(Box::new(launch.clone()), ends.len());
        let title = format!("umlmon: {}", launch.name);
        match Confined::launch(Some(keeper.program()), &title, &order, ends, network) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOBIG) => Err(
                io::Error::other("the kernel's arguments are too long; shorten kernelarg"),
            ),
            process => Ok(Self::to(process?, Expected::Start)),
        }
    }

    fn to(process: Confined, expected: Expected) -> Self {
        Self {
            process,
            expected: Cell::new(expected),
            asked: Cell::new(0),
            adopted: false,
        }
    }

    /// The link to a second process that keeps a kernel, and that another monitor has started. `pipe` is the monitor's
    /// end. Dropping it ends nothing before [`Link::take_over`].
    ///
    /// # Errors
    /// If it cannot be watched.
    pub fn adopt(child: sys::Child, pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            adopted: true,
            ..Self::to(Confined::watch(child, pipe)?, Expected::End)
        })
    }

    /// The second process belongs to this link from now on. What a former monitor may have heard of it is told again.
    pub fn take_over(&self) {
        self.process.take_over();
        self.process.tell(&ToChild::Report);
    }

    /// Has it hold our end of the pipe, and then these descriptors, until it ends. Their numbers come in one or more
    /// [`FromChild::Holds`].
    ///
    /// # Errors
    /// If they cannot be sent.
    pub fn hold(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let pipe = self.process.pipe();
        let all: Vec<_> = [pipe.as_fd()]
            .into_iter()
            .chain(descriptors.iter().copied())
            .collect();
        for some in all.chunks(MAX_HELD) {
            send_with(pipe, &ToChild::Hold, some)?;
            self.asked.set(self.asked.get() + some.len());
        }
        Ok(())
    }

    /// Whether all numbers that were asked for have come.
    pub fn holds_all(&self) -> bool {
        self.asked.get() == 0
    }

    /// Has it go on when this monitor dies.
    pub fn outlive(&self) {
        self.process.tell(&ToChild::Outlive);
    }

    /// Our end of the pipe to it.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.process.pipe().as_fd()
    }

    /// A pidfd of it.
    pub fn pidfd(&self) -> &OwnedFd {
        self.process.pidfd()
    }

    /// The process ID of the second process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The next message; `None` when there will be no further one, because the process has ended or was killed for what
    /// it sent. Cancel safe.
    pub async fn next_message(&self) -> Option<FromChild> {
        self.process.next(|message| self.check(message)).await
    }

    /// Accepts a message only where it is expected, and trusts nothing in it.
    fn check(&self, message: FromChild) -> io::Result<FromChild> {
        let (next, message) = match (self.expected.get(), message) {
            (Expected::Start, FromChild::Started { .. }) => (
                Expected::End,
                FromChild::Started {
                    kernel_pid: self.kernel_pid().unwrap_or(0),
                },
            ),
            (Expected::Start, FromChild::Failed { step, error }) => (
                Expected::Nothing,
                FromChild::Failed {
                    step: printable(&step),
                    error: printable(&error),
                },
            ),
            (Expected::End, FromChild::Holds { numbers }) if numbers.len() <= self.asked.get() => {
                self.asked.set(self.asked.get() - numbers.len());
                (Expected::End, FromChild::Holds { numbers })
            }
            (Expected::End, message @ FromChild::Exited { .. }) => (Expected::Nothing, message),
            // What a former monitor has not heard, and the answer to the question of this one.
            (Expected::Nothing, message @ FromChild::Exited { .. }) if self.adopted => {
                (Expected::Nothing, message)
            }
            (expected, message) => {
                return Err(io::Error::other(format!(
                    "it sent {message:?} where {expected:?} is expected"
                )));
            }
        };
        self.expected.set(next);
        if let FromChild::Exited { .. } = message {
            self.process.tell(&ToChild::End);
        }
        Ok(message)
    }

    /// The network namespace of the kernel, if it can still be told.
    pub fn network(&self) -> Option<OwnedFd> {
        let file = std::fs::File::open(format!("/proc/{}/ns/net", self.pid()));
        file.ok().map(OwnedFd::from)
    }

    /// The kernel is the first child of the second process (proc_pid_task(5), `children`).
    fn kernel_pid(&self) -> Option<u32> {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).ok()?;
        children.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Makes the kernel check its descriptors again. Only when its mconsole is up: before, the signal ends it.
    pub fn nudge(&self) {
        self.process.tell(&ToChild::Nudge);
    }

    /// Whether the kernel is idle: it waits, and not for a program of the guest. None if that cannot be read.
    pub fn kernel_is_idle(&self) -> Option<bool> {
        let pid = self.kernel_pid()?;
        let doing = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        Some(waits_for_events(&doing))
    }

    /// How the kernel reads one of its terminals, of which `terminal` is any descriptor.
    ///
    /// # Errors
    /// See [`Listening::find`].
    pub fn listening(&self, terminal: BorrowedFd<'_>) -> io::Result<Option<Listening>> {
        let pid = self.kernel_pid().ok_or(Errno::SRCH)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
        // Between the two steps the number may have become that of another process.
        if self.kernel_pid() != Some(pid) {
            return Err(Errno::SRCH.into());
        }
        Listening::find(&process, terminal)
    }

    /// Kills the second process, and with it everything in its namespace. [`Link::ended`] returns when that is done.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Waits until no process of the VM is left. Cancel safe.
    pub async fn ended(&self) {
        self.process.ended().await;
    }
}

/// What /proc/PID/syscall has for an idle kernel. For a busy one it is "running"; one whose guest is busy waits for the
/// process in which that runs: by wait4(2), or by futex(2) with `seccomp=on`.
fn waits_for_events(doing: &str) -> bool {
    let call = doing.split_ascii_whitespace().next();
    let call = call.and_then(|number| number.parse().ok());
    call.is_some_and(|number: i64| ![nix::libc::SYS_wait4, nix::libc::SYS_futex].contains(&number))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
    use std::ffi::CString;

    use super::*;

    /// A link to a process that does nothing, whose messages the test sends.
    fn played() -> (Link, OwnedFd) {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let argv = ["sleep", "1000"].map(|word| CString::new(word).unwrap());
        let child = sys::spawn_session(c"/bin/sleep", &argv, &[], &[]).unwrap();
        let link = Link::to(Confined::of(child, ours).unwrap(), Expected::Start);
        (link, theirs)
    }

    fn say(pipe: &OwnedFd, text: &str) {
        send(pipe, text.as_bytes(), SendFlags::NOSIGNAL).unwrap();
    }

    const STARTED: &str = r#"{"Started":{"kernel_pid":1}}"#;
    const EXITED: &str = r#"{"Exited":{"status":0,"signal":null}}"#;

    /// A pipe that is closed with something unread reports that before what was sent.
    #[test]
    fn a_kernel_is_idle_if_it_waits_for_nobody() {
        let idle = "130 0x608cfda0 0x8 0x0 0x8 0x0 0x608cfe60 0x608cfcf8 0x7ffff7e1a2d5\n";
        assert!(waits_for_events(idle));
        let of_a_program = "61 0x2a 0x7fbff4905c 0x40000000 0x0 0x0 0x0 0x7fbff49038 0x460a63\n";
        assert!(!waits_for_events(of_a_program));
        assert!(!waits_for_events("running\n"));
        assert!(!waits_for_events(""));
    }

    #[tokio::test]
    async fn an_unread_nudge_does_not_hide_the_last_message() {
        let (link, theirs) = played();
        say(&theirs, STARTED);
        link.next_message().await;
        link.nudge();
        say(&theirs, EXITED);
        drop(theirs);
        let exited = FromChild::Exited {
            status: Some(0),
            signal: None,
        };
        assert_eq!(link.next_message().await, Some(exited));
        assert_eq!(link.next_message().await, None);
    }

    #[tokio::test]
    async fn a_child_that_breaks_the_rules_is_killed() {
        let long = format!(
            r#"{{"Failed":{{"step":"x","error":"{}"}}}}"#,
            "y".repeat(8 << 10)
        );
        for messages in [
            &["nonsense"][..],
            &["\u{0}\u{ff}"],
            &[EXITED],
            &[r#""Nudge""#],
            &[r#"{"Exited":{"status":99999999999}}"#],
            &[&long],
            &[STARTED, STARTED],
            &[STARTED, r#"{"Failed":{"step":"x","error":"y"}}"#],
            &[STARTED, EXITED, EXITED],
        ] {
            let (link, child) = played();
            messages.iter().for_each(|text| say(&child, text));
            for _ in 1..messages.len() {
                assert!(link.next_message().await.is_some());
            }
            assert_eq!(link.next_message().await, None, "{messages:?}");
            link.ended().await;
            assert!(link.process.reaped());
        }
    }

    #[tokio::test]
    async fn nothing_it_says_is_believed_or_printed_as_it_is() {
        let (link, child) = played();
        say(&child, STARTED);
        // It has no children, whatever it says.
        assert_eq!(
            link.next_message().await,
            Some(FromChild::Started { kernel_pid: 0 })
        );
        let (link, child) = played();
        say(
            &child,
            r#"{"Failed":{"step":"\u001b]0;x\u0007","error":"a\nb"}}"#,
        );
        let Some(FromChild::Failed { step, error }) = link.next_message().await else {
            panic!()
        };
        assert_eq!((&*step, &*error), (r"\u{1b}]0;x\u{7}", r"a\nb"));
    }

    #[tokio::test]
    async fn nudges_to_a_child_that_does_not_listen_do_not_block() {
        let (link, _child) = played();
        (0..10_000).for_each(|_| link.nudge());
    }
}
