//! Makes the kernel take what is typed. Runs in the umlmon daemon.
//!
//! The wake-up for typed input can get lost: the host sends SIGIO before it notifies epoll (n_tty.c, `__receive_buf`),
//! so that a kernel that checks in between finds nothing, and does not check again. So it is sent another SIGIO as long
//! as it has not read what was typed.
//!
//! A kernel whose programs do not read stops reading the terminal, and does not begin again by itself (umlmon's
//! `second::listening`). When a program has read all that the kernel holds, it reads once what is there. If it has not
//! done so for a while it is made to read what is there, each time anew. It then keeps up to 640 KiB for the program;
//! more stays in the terminal, so nothing is lost.
//!
//! It must not be made to read while it reads by itself, because bytes would get lost or mixed up: the kernel does not
//! expect to be interrupted there. So a while must have passed, and it must be idle, or have had a longer while.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::intake::Intake;
use crate::{Endpoint, Hearing, Nudge, Standstill};

/// The first and the longest pause between two checks whether the kernel has read what was typed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(256));
/// How long a kernel that has stopped reading may leave input in the terminal if it is idle, and if it is not: a
/// program that reads at all reads within this time.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// How long it needs at most to read what is there.
const READING: Duration = Duration::from_millis(2);

/// What sees to it that the kernel takes what is typed into one terminal.
#[derive(Debug)]
pub(crate) struct Push {
    endpoint: Rc<Endpoint>,
    nudge: Rc<Nudge>,
    typed: Notify,
    intake: Intake,
    /// It has been told that the kernel takes no input.
    told: Cell<bool>,
}

impl Push {
    pub(crate) fn new(endpoint: Rc<Endpoint>, nudge: Rc<Nudge>) -> Self {
        Self {
            endpoint,
            nudge,
            typed: Notify::new(),
            intake: Intake::new(),
            told: Cell::new(false),
        }
    }

    /// Types into the terminal; returns how much was accepted. `WouldBlock`: it is full.
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.intake.left(self.endpoint.untaken());
        let written = self.endpoint.write(data)?;
        self.intake.typed(written);
        self.typed.notify_one();
        Ok(written)
    }

    /// Something may have been typed before.
    pub(crate) fn push_on(&self) {
        self.intake.left(self.endpoint.untaken());
        self.typed.notify_one();
    }

    /// The input that the kernel does not take, with `waiting` bytes that are not in the terminal yet. None: it takes
    /// what is typed, or has not had enough time.
    pub(crate) fn standstill(&self, waiting: usize) -> Option<Standstill> {
        let lasts = self.intake.stands()?;
        Some(Standstill {
            bytes: self.endpoint.untaken() + waiting,
            lasts,
            hearing: self.hearing(),
        })
    }

    fn hearing(&self) -> Hearing {
        let peer = self.nudge.peer();
        self.endpoint.with_slave(|slave| peer.hearing(slave))
    }

    /// Tells `changed` when a standstill begins or ends.
    pub(crate) async fn push_for_ever(self: Rc<Self>, changed: impl Fn()) {
        loop {
            self.typed.notified().await;
            let since = Instant::now();
            let mut pause = PAUSE.0;
            sleep(pause).await;
            while !self.endpoint.is_taken() {
                self.nudge.peer().wake();
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
                if self.rests(since) && self.has_stopped() {
                    self.make_it_read(since).await;
                }
                self.look(&changed);
            }
            self.look(&changed);
        }
    }

    fn look(&self, changed: impl Fn()) {
        self.intake.left(self.endpoint.untaken());
        let stands = self.intake.stands().is_some();
        if self.told.replace(stands) != stands {
            changed();
        }
    }

    fn has_stopped(&self) -> bool {
        !self.endpoint.is_taken() && matches!(self.hearing(), Hearing::Stopped)
    }

    /// Whether the kernel does not read by itself at this moment.
    fn rests(&self, since: Instant) -> bool {
        let patience = match self.nudge.peer().is_idle() {
            Some(true) => PATIENCE.0,
            _ => PATIENCE.1,
        };
        since.elapsed() >= patience
    }

    async fn make_it_read(&self, since: Instant) {
        let peer = self.nudge.peer();
        let lend = |lent| self.endpoint.with_slave(|slave| peer.lend_ear(slave, lent));
        let lent = lend(true).is_ok();
        // Looked at again, because a program may have begun to read while this was done.
        if self.rests(since) && lent {
            // If the terminal does not take that, the kernel is not told.
            let _ = self.endpoint.announce_room();
            peer.wake();
            sleep(READING).await;
        }
        // If this fails the kernel has ended.
        let _ = lend(false);
    }
}
