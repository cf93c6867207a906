//! The private pipe between the monitor and its second process, and the monitor's handle on that process (umlmon, the
//! monitor process; the second process uses the message types only).
//!
//! Messages are JSON, one per packet of a `SOCK_SEQPACKET` pair, with one enum per direction. The second process runs
//! next to a kernel that may be hostile, so it is not trusted: a message that is too long, malformed or not expected at
//! that point kills it, and the VM with it.

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use jail::Confinement;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// The number under which the second process inherits its end of the pipe.
pub(crate) const PIPE_FD: i32 = 3;
/// The number of the first of the kernel's channels in the second process.
pub(crate) const FIRST_END_FD: i32 = 4;
/// The longest order, and the longest report. An order has the kernel's arguments in it; a report has one sentence.
pub(crate) const MAX_ORDER: usize = 64 << 10;
const MAX_REPORT: usize = 4 << 10;

/// How long [`Link`]'s drop waits for the namespace to be empty. It takes milliseconds, unless a process hangs in the
/// host's kernel; then the daemon must go on.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// What the second process is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Name of the VM, shown in the process listing.
    pub name: String,
    /// How to confine itself.
    pub confinement: Confinement,
    /// The kernel, as seen in the jail.
    pub kernel: String,
    /// Its arguments, with the zeroth.
    pub argv: Vec<String>,
    /// Its environment, as `NAME=value`.
    pub env: Vec<String>,
}

/// From the monitor to the second process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// The first message: start the kernel, with this number of channels.
    Launch(Box<Launch>, usize),
    /// Make the kernel look at its descriptors again (SIGIO).
    Nudge,
}

/// From the second process to the monitor: `Started` or `Failed`, then, if it was started, `Exited`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// The kernel is executing.
    Started {
        /// Its process ID on the host, 0 if it cannot be told.
        kernel_pid: u32,
    },
    /// The kernel could not be started.
    Failed {
        /// What was being done.
        step: String,
        /// Why it did not work.
        error: String,
    },
    /// The kernel has ended.
    Exited {
        /// Exit status, if it exited.
        status: Option<i32>,
        /// The signal, if one ended it.
        signal: Option<i32>,
    },
}

/// The monitor's handle on its second process, and thereby on all processes of the VM. Dropping it kills them.
#[derive(Debug)]
pub struct Link {
    pid: i32,
    pipe: AsyncFd<OwnedFd>,
    pidfd: AsyncFd<OwnedFd>,
    expected: Cell<Expected>,
    reaped: Cell<bool>,
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
    /// their numbers: the first one becomes its descriptors 0, 1 and 2, the others 3 and so on.
    ///
    /// # Errors
    /// If a process cannot be started, or the arguments are too long.
    pub fn launch(launch: &Launch, ends: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let order = serde_json::to_vec(&ToChild::Launch(Box::new(launch.clone()), ends.len()))?;
        if order.len() > MAX_ORDER {
            return Err(io::Error::other(
                "the kernel's arguments are too long; shorten kernelarg",
            ));
        }
        send(&ours, &order, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let null = null.as_fd();
        let mut fds = vec![(null, 0), (null, 1), (null, 2), (theirs.as_fd(), PIPE_FD)];
        fds.extend(ends.iter().copied().zip(FIRST_END_FD..));
        let title = CString::new(format!("umlmon: {}", launch.name))?;
        let argv = [title, crate::child::ARGUMENT.to_owned()];
        let child = sys::spawn_namespaced(&argv, &fds).map_err(io::Error::other)?;
        // From here on the drop of a part kills: by the end of the pipe.
        Ok(Self {
            pid: child.pid,
            pipe: sys::readable(ours)?,
            pidfd: sys::readable(child.pidfd)?,
            expected: Cell::new(Expected::Start),
            reaped: Cell::new(false),
        })
    }

    /// The process ID of the second process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// The next message; `None` when there will be no further one, because the process has ended or was killed for what
    /// it sent. Cancel safe.
    pub async fn next_message(&self) -> Option<FromChild> {
        loop {
            let mut ready = self.pipe.readable().await.ok()?;
            match self.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(message) => return message,
                Err(error) => {
                    tracing::error!(%error, pid = self.pid, "the child process does not keep to the rules, killing it");
                    self.kill();
                    return None;
                }
            }
        }
    }

    fn receive(&self) -> io::Result<Option<FromChild>> {
        let mut buffer = [0; MAX_REPORT];
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let mut received = recv(self.pipe.get_ref(), &mut buffer, flags);
        if matches!(received, Err(Errno::CONNRESET)) {
            // It ended with a nudge unread. That is told once, and before the messages it had sent.
            received = recv(self.pipe.get_ref(), &mut buffer, flags);
        }
        let (_, length) = received?;
        if length == 0 {
            return Ok(None);
        }
        let text = buffer
            .get(..length)
            .ok_or_else(|| io::Error::other("its message is too long"))?;
        let message: FromChild = serde_json::from_slice(text)?;
        self.check(message).map(Some)
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
            (Expected::End, message @ FromChild::Exited { .. }) => (Expected::Nothing, message),
            (expected, message) => {
                return Err(io::Error::other(format!(
                    "it sent {message:?} where {expected:?} is expected"
                )));
            }
        };
        self.expected.set(next);
        Ok(message)
    }

    /// The kernel is the first child of the second process (proc_pid_task(5), `children`).
    fn kernel_pid(&self) -> Option<u32> {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        children.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Makes the kernel look at its descriptors again. Only when its mconsole is up: before, the signal ends it.
    pub fn nudge(&self) {
        if let Ok(order) = serde_json::to_vec(&ToChild::Nudge) {
            // A full pipe has nudges enough in it; a closed one is seen by next_message.
            let _ = send(
                self.pipe.get_ref(),
                &order,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            );
        }
    }

    /// Kills the second process, and with it everything in its namespace. [`Link::ended`] tells when that is done.
    pub fn kill(&self) {
        if !self.reaped.get() {
            // It can only fail if the process has ended.
            let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        }
    }

    /// Waits until no process of the VM is left: the first process of a namespace ends as the last one. Cancel safe.
    pub async fn ended(&self) {
        if !self.reaped.get() {
            let _ = self.pidfd.readable().await;
            self.reap();
        }
    }

    fn reap(&self) {
        let id = WaitId::PidFd(self.pidfd.get_ref().as_fd());
        if !matches!(
            waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG),
            Ok(None)
        ) {
            self.reaped.set(true);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.reaped.get() {
            return;
        }
        self.kill();
        let timeout = Timespec::try_from(DROP_TIMEOUT).ok();
        let mut ended = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        while poll(&mut ended, timeout.as_ref()) == Err(Errno::INTR) {}
        self.reap();
        if !self.reaped.get() {
            tracing::error!(
                pid = self.pid,
                "processes of the VM hang in the host's kernel and cannot be killed"
            );
        }
    }
}

/// Text from the second process for logs and terminals: no control characters, not too long.
fn printable(text: &str) -> String {
    text.chars()
        .take(1000)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
        let link = Link {
            pid: child.pid,
            pipe: sys::readable(ours).unwrap(),
            pidfd: sys::readable(child.pidfd).unwrap(),
            expected: Cell::new(Expected::Start),
            reaped: Cell::new(false),
        };
        (link, theirs)
    }

    fn say(pipe: &OwnedFd, text: &str) {
        send(pipe, text.as_bytes(), SendFlags::NOSIGNAL).unwrap();
    }

    const STARTED: &str = r#"{"Started":{"kernel_pid":1}}"#;
    const EXITED: &str = r#"{"Exited":{"status":0,"signal":null}}"#;

    /// A pipe that is closed with something unread tells that before what was sent.
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
            "y".repeat(MAX_REPORT)
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
            assert!(link.reaped.get());
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
