//! Whether the kernel takes what is typed. Runs in the umlmon daemon.
//!
//! Input has been taken when the kernel has read it from the terminal; whether a program in the guest has read it,
//! cannot be seen from outside.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::Hearing;

/// How long nothing may be taken before that is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Input that the kernel has not taken for some seconds.
#[derive(Debug)]
pub struct Standstill {
    /// How many bytes wait: in the terminal, and in writes of clients.
    pub bytes: usize,
    /// How long nothing has been taken.
    pub lasts: Duration,
    /// Whether the kernel would read it.
    pub hearing: Hearing,
}

/// What has been taken of the input of one terminal.
#[derive(Debug)]
pub(crate) struct Intake {
    /// What was in the terminal when it was last looked at, in bytes.
    left: Cell<usize>,
    /// When some was last taken, or there was none.
    moved: Cell<Instant>,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            left: Cell::new(0),
            moved: Cell::new(Instant::now()),
        }
    }

    /// So many bytes are in the terminal now. To be called before more is typed.
    pub(crate) fn left(&self, bytes: usize) {
        if bytes == 0 || bytes < self.left.get() {
            self.moved.set(Instant::now());
        }
        self.left.set(bytes);
    }

    /// So many bytes have been typed.
    pub(crate) fn typed(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes);
    }

    /// How long nothing has been taken, if that is to be told.
    pub(crate) fn stands(&self) -> Option<Duration> {
        let lasts = self.moved.get().elapsed();
        (self.left.get() > 0 && lasts >= PATIENCE).then_some(lasts)
    }
}
