//! Signals that a client handles when it is ready for them. Runs in the clients.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use cli::Failure;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that end a session or change the window: blocked until this is dropped, and read from a descriptor. One
/// that has not been read then has its usual effect. SIGHUP is not among them in a program that ignores it (nohup(1)).
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks them from now on, in this thread.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn hold() -> io::Result<Signals> {
        let mut held = SigSet::from_iter([
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGWINCH,
        ]);
        // Else it would be read nevertheless: a signal is not ignored while it is blocked.
        if cli::ignores_hangup() {
            held.remove(Signal::SIGHUP);
        }
        let fd = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = SigSet::thread_get_mask()?;
        held.thread_block()?;
        Ok(Signals { fd, before })
    }

    /// The next signal that has come.
    pub fn next(&self) -> Option<Signal> {
        let info = self.fd.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }
}

/// Gives a signal that was read from [`Signals`] its usual effect, as soon as it is no longer blocked.
///
/// # Errors
/// Those of raise(3).
pub fn obey(signal: Signal) -> Result<(), Failure> {
    Ok(raise(signal).map_err(io::Error::from)?)
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // The mask came from the kernel, so it is valid.
        let _ = self.before.thread_set_mask();
    }
}
