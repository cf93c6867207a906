//! The kernel that the channels nudge (umlmon, the monitor process).

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use pty::Hearing;

use crate::second::link::Link;
use crate::second::listening::Listening;

/// The kernel of the present run, from when its mconsole is up until it ends: before, a nudge would end it. Clones are
/// the same one.
#[derive(Debug, Clone, Default)]
pub struct Nudged(Rc<RefCell<Option<Rc<Link>>>>);

impl Nudged {
    /// The mconsole of this kernel is up.
    pub fn begin(&self, kernel: &Rc<Link>) {
        self.0.replace(Some(Rc::clone(kernel)));
        // For channels that may have stalled before nudges were possible.
        kernel.nudge();
    }

    /// The run is over.
    pub fn end(&self) {
        self.0.replace(None);
    }

    fn listening(&self, terminal: BorrowedFd<'_>) -> io::Result<Option<Listening>> {
        let kernel = self.0.borrow();
        let kernel = kernel.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        kernel.listening(terminal)
    }
}

impl pty::Peer for Nudged {
    fn wake(&self) {
        if let Some(kernel) = &*self.0.borrow() {
            kernel.nudge();
        }
    }

    fn is_idle(&self) -> Option<bool> {
        self.0.borrow().as_ref()?.kernel_is_idle()
    }

    fn hearing(&self, terminal: BorrowedFd<'_>) -> Hearing {
        match self.listening(terminal) {
            Ok(Some(listening)) if listening.is_over() => Hearing::Stopped,
            Ok(Some(_)) => Hearing::Reads,
            Ok(None) => Hearing::Unopened,
            Err(error) => Hearing::Unknown(error),
        }
    }

    fn lend_ear(&self, terminal: BorrowedFd<'_>, lent: bool) -> io::Result<()> {
        match self.listening(terminal)? {
            Some(listening) => listening.lend(lent),
            None => Ok(()),
        }
    }
}
