//! The kernel that the channels nudge (umlmon, the monitor process).

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

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

    fn listening(&self, terminal: BorrowedFd<'_>) -> io::Result<Listening> {
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

    fn is_deaf(&self, terminal: BorrowedFd<'_>) -> bool {
        let listening = self.listening(terminal);
        listening.is_ok_and(|listening| listening.is_over())
    }

    fn lend_ear(&self, terminal: BorrowedFd<'_>, lent: bool) -> io::Result<()> {
        self.listening(terminal)?.lend(lent)
    }
}
