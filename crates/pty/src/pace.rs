//! How fast input is typed, so that the kernel never holds more than it can. Runs in the umlmon daemon.
//!
//! A kernel that holds 3968 bytes of a console that no program has read stops reading that console. Most kernels can be
//! made to read again ([`crate::push`]), but slower than they read by themselves, and not all of them can. So input is
//! typed in quanta, the next one when the guest had time to read: when the kernel has
//! read the former one, and is idle again, which means that the program that waited for it has read it. A guest that
//! computes all the time is given a longer time instead. A program that waits for something else cannot be
//! distinguished from one that has read everything: after five quanta, about 15 ms, the limit is exceeded.
//!
//! Without this, the second or third megabyte typed into a kernel 6.1 was the last one. With it, 102 in a row arrived
//! in 6.1 on a busy host, 42 in 7.2, and 12 in 6.12, at 100 to 350 KB/s. With larger quanta and no rest at all (1900
//! bytes: 480 KB/s) 15 arrived, too, while two other processes kept both processors of the host busy; but a program
//! that waits for something would have less time.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::nudge::Peer;

/// How much is typed before the guest must have had time to read, in bytes. Several quanta fit into what a kernel
/// holds, because a guest that is busy leaves some unread.
const QUANTUM: usize = 900;
/// The least time between two quanta: programs wait for other things, too.
const REST: Duration = Duration::from_millis(2);
/// The time if the guest is busy all the time.
const LONG_REST: Duration = Duration::from_millis(100);
/// The time if it is not known whether it is.
const BLIND_REST: Duration = Duration::from_millis(5);

/// What has been typed since the guest last had time to read.
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

    /// How many bytes may be typed now. `taken`: whether the kernel has read all that was typed before.
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
