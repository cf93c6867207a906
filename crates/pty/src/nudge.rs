//! Wakes a kernel whose wake-up was lost by the pseudo terminal. Runs in the umlmon daemon.
//!
//! A kernel that finds its terminal full waits for SIGIO. The host sends that when the reader has emptied the line
//! discipline's buffer of the master, but behind this there is another one (tty_buffer.c) which may still be full at
//! that moment: the kernel then sees that it cannot write yet and goes on waiting, and the host sends no further SIGIO
//! until the kernel has tried to write again, which it does not. It hangs although the terminal is empty, about once in
//! 100 KiB of a flood, until something else wakes it.
//!
//! The remedy is another SIGIO from here after the terminal was read empty: only then nothing is left in either buffer,
//! so one is enough. It is not lost, because a signal stays pending. A kernel that is not waiting checks its
//! descriptors once more. Floods of 20 MB arrived complete at 1 ms, 5 ms and 20 ms, the longest pause being that time;
//! the rate was best at 1 ms.
//!
//! Typed input gets lost in a similar way, see [`crate::push`].

use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// From reading a terminal empty to the nudge. The runtime rounds it up to its next tick, 1 ms at most. Nudging at once
/// would cost a signal for every few KiB of a flood; waiting longer makes a flood slower, because there is a lost
/// wake-up in each 100 KiB.
const DELAY: Duration = Duration::from_micros(100);

/// The kernel at the other end of the terminals.
pub trait Peer {
    /// Sends SIGIO to the kernel's main process, or does nothing if no kernel is up: early in its life SIGIO kills it.
    fn wake(&self);

    /// Whether it is idle at the moment; None: not known.
    fn is_idle(&self) -> Option<bool>;

    /// Whether it reads a terminal, of which this is a descriptor.
    fn hearing(&self, terminal: BorrowedFd<'_>) -> Hearing;

    /// Makes a kernel that has stopped reading a terminal read it whenever that can be written again; or stop again.
    ///
    /// # Errors
    /// If this kernel cannot be changed.
    fn lend_ear(&self, terminal: BorrowedFd<'_>, lent: bool) -> io::Result<()>;
}

/// Whether a kernel reads one of its terminals.
#[derive(Debug)]
pub enum Hearing {
    /// It does when something is typed.
    Reads,
    /// It has stopped, because it holds much that no program of the guest has read.
    Stopped,
    /// It does not wait for input there: no program of the guest has opened it.
    Unopened,
    /// That cannot be seen.
    Unknown(io::Error),
}

/// Wakes it, and nothing else.
impl<F: Fn()> Peer for F {
    fn wake(&self) {
        self();
    }

    fn is_idle(&self) -> Option<bool> {
        None
    }

    fn hearing(&self, _: BorrowedFd<'_>) -> Hearing {
        Hearing::Reads
    }

    fn lend_ear(&self, _: BorrowedFd<'_>, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// The timer of all channels of one VM.
pub struct Nudge {
    peer: Rc<dyn Peer>,
    drained: Rc<Notify>,
    task: AbortHandle,
}

impl std::fmt::Debug for Nudge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nudge").finish_non_exhaustive()
    }
}

impl Nudge {
    /// Starts the timer; needs a `LocalSet`. When a kernel has come up it should be woken once, for events before that.
    pub fn new(peer: impl Peer + 'static) -> Rc<Self> {
        Self::with_delay(DELAY, peer)
    }

    /// As [`Nudge::new`], with another delay; for measurements.
    pub fn with_delay(delay: Duration, peer: impl Peer + 'static) -> Rc<Self> {
        let drained = Rc::new(Notify::new());
        let peer: Rc<dyn Peer> = Rc::new(peer);
        let (event, sleeper) = (drained.clone(), peer.clone());
        let task = tokio::task::spawn_local(async move {
            loop {
                event.notified().await;
                tokio::time::sleep(delay).await;
                sleeper.wake();
            }
        })
        .abort_handle();
        Rc::new(Self {
            peer,
            drained,
            task,
        })
    }

    pub(crate) fn peer(&self) -> &dyn Peer {
        &*self.peer
    }

    /// A terminal has been read empty: the kernel is nudged soon.
    pub(crate) fn drained(&self) {
        self.drained.notify_one();
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        self.task.abort();
    }
}
