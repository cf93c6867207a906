//! A second process of the monitor: a program in namespaces of its own, and the pipe to it (umlmon, the monitor
//! process).
//!
//! Messages are JSON, one per packet of a `SOCK_SEQPACKET` pair. The process runs as the VM's user, like anything that
//! has broken out of a guest, so it is not trusted: its messages have a maximum length, and the receiver checks them.

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use config::is_printable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair,
};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, pidfd_send_signal, waitid,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::Network;
use tokio::io::unix::AsyncFd;

use crate::second::orders::{ARGUMENT, FIRST_END_FD, MAX_ORDER, MAX_REPORT, PIPE_FD};

/// How long the drop waits for the namespace to be empty. It takes milliseconds, unless a process hangs in the host's
/// kernel; then the daemon must go on.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// The handle on a second process, and thereby on all processes in its namespace. Dropping it kills them.
#[derive(Debug)]
pub struct Confined {
    pid: i32,
    pipe: AsyncFd<OwnedFd>,
    pidfd: AsyncFd<OwnedFd>,
    reaped: Cell<bool>,
    /// Dropping this does not end the process.
    is_let_go: Cell<bool>,
}

impl Confined {
    /// Starts this program, or the monitor's own again, shown as `title` in process listings, and gives it its order.
    /// It inherits `ends` as the descriptors from [`FIRST_END_FD`] on. It is in this network.
    ///
    /// # Errors
    /// If a process cannot be started, or the order is too long.
    pub fn launch(
        program: Option<BorrowedFd<'_>>,
        title: &str,
        order: &impl Serialize,
        ends: &[BorrowedFd<'_>],
        network: Network<'_>,
    ) -> io::Result<Self> {
        let pair = pair()?;
        give(&pair.0, order)?;
        Self::start(program, title, pair, ends, network)
    }

    /// The same without an order: the process waits for it, see [`Confined::give`], and ends with this one until then.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn launch_waiting(
        program: Option<BorrowedFd<'_>>,
        title: &str,
        ends: &[BorrowedFd<'_>],
        network: Network<'_>,
    ) -> io::Result<Self> {
        Self::start(program, title, pair()?, ends, network)
    }

    /// Gives a process that waits its order.
    ///
    /// # Errors
    /// If the order is too long, or the process has ended.
    pub fn give(&self, order: &impl Serialize) -> io::Result<()> {
        give(self.pipe(), order)
    }

    fn start(
        program: Option<BorrowedFd<'_>>,
        title: &str,
        (ours, theirs): (OwnedFd, OwnedFd),
        ends: &[BorrowedFd<'_>],
        network: Network<'_>,
    ) -> io::Result<Self> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let null = null.as_fd();
        let mut fds = vec![(null, 0), (null, 1), (null, 2), (theirs.as_fd(), PIPE_FD)];
        fds.extend(ends.iter().copied().zip(FIRST_END_FD..));
        let argv = [CString::new(title)?, ARGUMENT.to_owned()];
        let child = sys::spawn_namespaced(program, &argv, &fds, network).map_err(explained)?;
        Self::of(child, ours)
    }

    /// The handle on a process that has been started, with our end of its pipe.
    pub(crate) fn of(child: sys::Child, pipe: OwnedFd) -> io::Result<Self> {
        let pid = child.pid;
        let process = Self::watch(child, pipe).inspect_err(|_| abandon(pid))?;
        process.is_let_go.set(false);
        Ok(process)
    }

    /// The same for a process that another monitor has started. Dropping the result does not end the process before
    /// [`Confined::take_over`].
    pub(crate) fn watch(child: sys::Child, pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            pid: child.pid,
            pipe: sys::readable(pipe)?,
            pidfd: sys::readable(child.pidfd)?,
            reaped: Cell::new(false),
            is_let_go: Cell::new(true),
        })
    }

    /// The process belongs to this handle from now on.
    pub(crate) fn take_over(&self) {
        self.is_let_go.set(false);
    }

    /// Our end of the pipe.
    pub(crate) fn pipe(&self) -> &OwnedFd {
        self.pipe.get_ref()
    }

    /// The process, to be watched or signalled.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        self.pidfd.get_ref()
    }

    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// The next message, checked by `accept`; `None` when there will be no further one, because the process has ended
    /// or was killed for what it sent. Cancel safe.
    pub async fn next<T: DeserializeOwned>(
        &self,
        accept: impl Fn(T) -> io::Result<T>,
    ) -> Option<T> {
        loop {
            let mut ready = self.pipe.readable().await.ok()?;
            match self
                .receive()
                .and_then(|message| message.map(&accept).transpose())
            {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(message) => return message,
                Err(error) => {
                    tracing::error!(%error, pid = self.pid, "the child process violates the protocol and is killed");
                    self.kill();
                    return None;
                }
            }
        }
    }

    fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut buffer = [0; MAX_REPORT];
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let mut received = recv(self.pipe.get_ref(), &mut buffer, flags);
        if matches!(received, Err(Errno::CONNRESET)) {
            // It ended with an order unread. That is reported once, and before the messages it had sent.
            received = recv(self.pipe.get_ref(), &mut buffer, flags);
        }
        let (_, length) = received?;
        if length == 0 {
            return Ok(None);
        }
        let text = buffer
            .get(..length)
            .ok_or_else(|| io::Error::other("its message is too long"))?;
        Ok(Some(serde_json::from_slice(text)?))
    }

    /// Sends a further order. An order that cannot be sent is lost: a full pipe has enough orders in it, and a closed
    /// one is noticed by [`Confined::next`].
    pub fn tell(&self, order: &impl Serialize) {
        if let Ok(order) = serde_json::to_vec(order) {
            let _ = send(
                self.pipe.get_ref(),
                &order,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            );
        }
    }

    /// Closes the pipe in one direction, so that the process reads its end; what it sends is still received.
    pub fn hang_up(&self) {
        // It can only fail if the other end is closed.
        let _ = shutdown(self.pipe.get_ref(), Shutdown::Write);
    }

    /// Kills it, and with it everything in its namespace. [`Confined::ended`] returns when that is done.
    pub fn kill(&self) {
        if !self.reaped.get() {
            // It can only fail if the process has ended.
            let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        }
    }

    /// Waits until no process of the namespace is left: the first one ends as the last. Cancel safe.
    pub async fn ended(&self) {
        if !self.reaped.get() {
            let _ = self.pidfd.readable().await;
            self.reap();
        }
    }

    /// Kills it, and waits until no process of the namespace is left.
    pub(crate) fn end(&self) {
        if self.reaped.get() || self.is_let_go.get() {
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

    /// It has ended, and was waited for.
    #[cfg(test)]
    pub(crate) fn reaped(&self) -> bool {
        self.reaped.get()
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

/// The pipe to a process: our end, and its.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

fn give(pipe: &OwnedFd, order: &impl Serialize) -> io::Result<()> {
    let order = serde_json::to_vec(order)?;
    if order.len() > MAX_ORDER {
        return Err(Errno::TOOBIG.into());
    }
    send(pipe, &order, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

impl Drop for Confined {
    fn drop(&mut self) {
        self.end();
    }
}

/// Text from a second process, for logs and terminals: without control or invisible characters, and not too long.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(1000)
        .flat_map(|c| {
            if is_printable(c) {
                vec![c]
            } else {
                c.escape_default().collect()
            }
        })
        .collect()
}

/// Kills a process that was just started and cannot be watched, and collects it.
pub(crate) fn abandon(pid: i32) {
    // It has not been collected yet, so the number is its own.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
        let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
    }
}

/// The error of clone(2) on a host that cannot start or separate the process, with a hint what to do.
pub(crate) fn explained(error: sys::SpawnError) -> io::Error {
    let of_clone = Errno::from_io_error(&error.source).filter(|_| error.step == "clone");
    let hint = match of_clone {
        Some(Errno::NOSPC | Errno::USERS) => {
            "the host allows no more namespaces: see max_pid_namespaces and its like in /proc/sys/user; or PID namespaces are nested 32 deep here"
        }
        Some(Errno::INVAL | Errno::NOSYS) => {
            "the host's kernel has no PID, mount, IPC or UTS namespaces, which it needs"
        }
        Some(Errno::PERM) => {
            "new namespaces are not allowed here, as in a container that may not have any"
        }
        _ => match sys::shortage(&error.source) {
            Some(hint) => hint,
            None => return io::Error::other(error),
        },
    };
    io::Error::other(format!("{error} ({hint})"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_second_process_says_is_harmless() {
        assert_eq!(
            super::printable("a\x1b[2J\u{202e}b"),
            r"a\u{1b}[2J\u{202e}b"
        );
        assert_eq!(super::printable(&"x".repeat(2000)).len(), 1000);
    }
}
