//! When an idle guest gives memory back, with `memory = elastic` (umlmon, the monitor process).
//!
//! The host is asked how much memory it gives to the guest, which costs next to nothing. The guest is not asked, and
//! not woken up. When that has grown since memory was given back last, and the guest is idle, it is worth it once more.
//! The guest keeps all its memory, so it cannot run short of it: what it needs again, the host gives it at once.

use std::time::Duration;

use config::{MemoryUse, Vm};
use tokio::time::{Instant, sleep_until};

/// How often the host is asked.
const PERIOD: Duration = Duration::from_secs(10);
/// After so many times at which the guest was idle, it gives memory back.
const PATIENCE: u32 = 3;
/// One that takes more of a processor than this is not idle.
const IDLE: f64 = 0.1;
/// One whose memory on the host has grown by more than this is not, either.
const STILL: u64 = 1 << 20;
/// How much must have come since the last time, in bytes, or a 16th of the memory if that is more.
const WORTH: u64 = 8 << 20;

/// What the host tells about one run of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Bytes of the host's memory.
    pub memory: u64,
    /// Processor time, if the host counts it.
    pub cpu: Option<Duration>,
}

/// The looks at one run of the kernel.
#[derive(Debug)]
pub struct Elastic {
    worth: u64,
    due: Instant,
    last: Use,
    idle: u32,
    /// What was left when memory was given back last.
    left: u64,
    /// The next look finds what is left.
    given: bool,
}

impl Elastic {
    /// For a kernel that was started just now, if its VM is elastic.
    pub fn of(vm: &Vm) -> Option<Elastic> {
        (vm.memory == MemoryUse::Elastic).then(|| Elastic::new(vm.mem))
    }

    /// For so many megabytes.
    fn new(megabytes: u32) -> Elastic {
        Elastic {
            worth: WORTH.max((u64::from(megabytes) << 20) / 16),
            due: Instant::now() + PERIOD,
            last: Use::default(),
            idle: 0,
            left: 0,
            given: false,
        }
    }

    /// Waits for the time of the next look. Cancel safe.
    pub async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// Takes what was seen; true if the guest is to give memory back now.
    pub fn look(&mut self, now: Use) -> bool {
        self.due = Instant::now() + PERIOD;
        if std::mem::take(&mut self.given) {
            self.left = now.memory;
        }
        let is_idle = self.last.is_idle_until(now);
        self.idle = if is_idle { self.idle + 1 } else { 0 };
        self.last = now;
        let is_worth_it = now.memory.saturating_sub(self.left) >= self.worth;
        self.given = is_worth_it && self.idle >= PATIENCE;
        if self.given {
            self.idle = 0;
        }
        self.given
    }
}

impl Use {
    fn is_idle_until(self, later: Use) -> bool {
        let busy = later
            .cpu
            .zip(self.cpu)
            .map(|(later, now)| later.saturating_sub(now));
        let share = busy.map_or(0.0, |busy| busy.as_secs_f64() / PERIOD.as_secs_f64());
        share < IDLE && later.memory.abs_diff(self.memory) <= STILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    /// Which of these looks has the guest give memory back; each is megabytes and seconds of processor time.
    fn given(looks: &[(u64, u64)]) -> Vec<usize> {
        let mut elastic = Elastic::new(128);
        let uses = looks.iter().map(|(megabytes, seconds)| Use {
            memory: megabytes * MB,
            cpu: Some(Duration::from_secs(*seconds)),
        });
        let given: Vec<_> = uses.map(|seen| elastic.look(seen)).collect();
        (0..looks.len()).filter(|n| given[*n]).collect()
    }

    #[test]
    fn an_idle_guest_gives_back_once_and_again_when_it_has_used_more() {
        let idle = [(100, 5), (100, 5), (100, 5), (100, 5)];
        assert_eq!(given(&idle), [3]);
        let after = [(30, 5), (30, 5), (31, 5), (31, 5), (37, 5), (37, 5)];
        assert_eq!(given(&[&idle[..], &after, &after].concat()), [3]);
        let more = [(60, 6), (60, 6), (60, 6), (60, 6)];
        assert_eq!(given(&[&idle[..], &after, &more].concat()), [3, 13]);
    }

    #[test]
    fn a_busy_guest_and_one_that_uses_more_and_more_keep_it() {
        let busy: Vec<_> = (0..20).map(|n| (100, 2 * n)).collect();
        assert_eq!(given(&busy), [0; 0]);
        let growing: Vec<_> = (0..20).map(|n| (50 + 2 * n, 5)).collect();
        assert_eq!(given(&growing), [0; 0]);
    }
}
