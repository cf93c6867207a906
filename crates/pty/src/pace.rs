//! How fast is typed, so that the kernel never holds more than it can. Runs in the umlmon daemon.
//!
//! A kernel that holds 3968 bytes of a console that no program has read stops reading that console, and never begins again
//! (arch/um/drivers/line.c, `line_throttle` and `line_unthrottle`; every kernel since 4.15). Nothing outside of it can cure
//! that. So what is typed goes in quanta, the next one when the guest had its turn: when the kernel has taken the former
//! one, and has nothing to do any more, which means that whoever waited for it has read it. A guest that computes all the
//! time is given a longer while instead. A program that waits for something else cannot be told from one that has read
//! everything: after five quanta it is too late, which is after 15 ms or so.
//!
//! Without this, the second or third megabyte typed into a kernel 6.1 was the last one. With it, 102 in a row arrived in 6.1
//! on a busy host, 42 in 7.2, and 12 in 6.12, at 100 to 350 KB/s. With larger quanta and no rest at all (1900 bytes: 480
//! KB/s) 15 arrived, too, while two other processes kept both processors of the host busy; but a program that waits for
//! something would have less time.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::nudge::Peer;

/// What is typed before the guest must have had its turn, in bytes. Several fit into what a kernel holds, as a guest
/// that has something else to do leaves some behind.
const QUANTUM: usize = 900;
/// What a guest gets at least from one quantum to the next: programs wait for other things, too.
const REST: Duration = Duration::from_millis(2);
/// What it gets if it is busy all the time.
const LONG_REST: Duration = Duration::from_millis(100);
/// What it gets if nobody can say whether it is.
const BLIND_REST: Duration = Duration::from_millis(5);

/// What has been typed since the guest last had its turn.
#[derive(Debug)]
pub(crate) struct Pace {
    typed: Cell<usize>,
    last: Cell<Instant>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            typed: Cell::new(0),
            last: Cell::new(Instant::now()),
        }
    }

    /// How many bytes may be typed now. `taken`: whether the kernel has taken all that was typed before.
    pub(crate) fn room(&self, taken: impl FnOnce() -> bool, peer: &dyn Peer) -> usize {
        let left = QUANTUM.saturating_sub(self.typed.get());
        if left == 0 && taken() && self.had_its_turn(peer) {
            self.typed.set(0);
            return QUANTUM;
        }
        left
    }

    fn had_its_turn(&self, peer: &dyn Peer) -> bool {
        let rested = self.last.get().elapsed();
        let ample = |rest: Duration| rested >= rest;
        ample(REST)
            && match peer.is_idle() {
                Some(true) => true,
                Some(false) => ample(LONG_REST),
                None => ample(BLIND_REST),
            }
    }

    /// So many bytes have been typed.
    pub(crate) fn typed(&self, bytes: usize) {
        self.typed.set(self.typed.get() + bytes);
        self.last.set(Instant::now());
    }

    /// What was typed has been discarded.
    pub(crate) fn reset(&self) {
        self.typed.set(0);
    }
}
