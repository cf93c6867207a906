//! How much of what the guest says, and of what callers do, reaches the monitor's log (umlmon, the monitor process).
//!
//! A guest can send notices as fast as it likes, and a client calls, so a line for each would fill the host's disk.

use std::time::{Duration, Instant};

/// Lines of the guest in one period.
pub const OF_GUEST: u32 = 20;
/// Lines of a caller in one period.
pub const OF_CALLER: u32 = 300;
const PERIOD: Duration = Duration::from_mins(1);

/// Counts the recent remarks of a guest or caller.
#[derive(Debug)]
pub struct Remarks {
    lines: u32,
    since: Instant,
    count: u32,
}

/// What to do with a remark.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is logged.
    Log,
    /// It is the first one too many: that is logged instead.
    Enough,
    /// Nothing is logged.
    Drop,
}

impl Remarks {
    /// Begins to count, for at most `lines` lines in a period.
    pub fn new(lines: u32, now: Instant) -> Remarks {
        Remarks {
            lines,
            since: now,
            count: 0,
        }
    }

    /// One more remark.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        if self.is_over(now) {
            *self = Remarks::new(self.lines, now);
        }
        self.count = self.count.saturating_add(1);
        match self.count {
            n if n <= self.lines => Verdict::Log,
            n if n == self.lines + 1 => Verdict::Enough,
            _ => Verdict::Drop,
        }
    }

    /// Whether nothing of it counts any more.
    pub fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_talks_on_is_told_off_once_and_heard_again_later() {
        let start = Instant::now();
        let mut remarks = Remarks::new(OF_GUEST, start);
        let verdicts: Vec<_> = (0..1000).map(|_| remarks.judge(start)).collect();
        let (logged, rest) = verdicts.split_at(OF_GUEST as usize);
        assert!(logged.iter().all(|verdict| *verdict == Verdict::Log));
        assert_eq!(rest[0], Verdict::Enough);
        assert!(rest[1..].iter().all(|verdict| *verdict == Verdict::Drop));
        assert_eq!(remarks.judge(start + PERIOD), Verdict::Log);
    }
}
