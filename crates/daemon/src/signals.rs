//! The signals that make a daemon end, or open its logs anew. Used by the daemons.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// SIGTERM, SIGINT, SIGHUP and SIGUSR2, received in the event loop from a descriptor (signalfd(2)).
///
/// The event loop's own handling of signals keeps a record for each of the 64 signals there are; in a monitor without a
/// running VM that was a tenth of all memory.
#[derive(Debug)]
pub struct Signals {
    signals: SignalFd,
    ready: AsyncFd<OwnedFd>,
}

/// What a signal means for a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To end: SIGTERM, and SIGINT, which a terminal sends.
    End,
    /// SIGHUP: see [`crate::has_terminal`].
    HangUp,
    /// To go on with the program that is on the disk now: SIGUSR2. A daemon that cannot do that ignores it.
    Upgrade,
}

impl Signals {
    /// From now on the signals wait to be received here. Programs that are executed inherit that they are blocked.
    ///
    /// # Errors
    /// If no descriptor is available.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn receive() -> io::Result<Signals> {
        let mask = Signals::hold()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags)?;
        let ready = sys::readable(signals.as_fd().try_clone_to_owned()?)?;
        Ok(Signals { signals, ready })
    }

    /// From now on the signals wait until [`Signals::receive`]. To be called before that where a daemon must not end
    /// without further ado. Returns the signals.
    ///
    /// # Errors
    /// As sigprocmask(2).
    pub fn hold() -> io::Result<SigSet> {
        let mask = SigSet::from_iter([
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR2,
        ]);
        mask.thread_block()?;
        Ok(mask)
    }

    /// The next signal. Cancel safe.
    pub async fn next(&self) -> Told {
        loop {
            let Ok(mut ready) = self.ready.readable().await else {
                // The runtime shuts down, and all its tasks with it.
                return Told::End;
            };
            match self.signals.read_signal() {
                Ok(Some(info)) if info.ssi_signo == Signal::SIGHUP as u32 => return Told::HangUp,
                Ok(Some(info)) if info.ssi_signo == Signal::SIGUSR2 as u32 => return Told::Upgrade,
                Ok(Some(_)) => return Told::End,
                Ok(None) | Err(_) => ready.clear_ready(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[tokio::test]
    async fn signals_are_received_instead_of_ending_the_process() {
        let signals = Signals::receive().unwrap();
        raise(Signal::SIGHUP).unwrap();
        assert_eq!(signals.next().await, Told::HangUp);
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(signals.next().await, Told::End);
        raise(Signal::SIGINT).unwrap();
        assert_eq!(signals.next().await, Told::End);
    }
}
