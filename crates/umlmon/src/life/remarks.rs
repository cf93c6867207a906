//! How much of what the guest says reaches the monitor's log (umlmon, the monitor process).
//!
//! A guest can send notices as fast as it likes, so that each as a line would fill the host's disk.

use std::time::{Duration, Instant};

/// Lines of the guest in one [`PERIOD`].
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_mins(1);

/// Counts what the guest has said lately.
#[derive(Debug)]
pub struct Remarks {
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
    /// Begins to count.
    pub fn new(now: Instant) -> Remarks {
        Remarks {
            since: now,
            count: 0,
        }
    }

    /// One more remark.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        if now.duration_since(self.since) >= PERIOD {
            *self = Remarks::new(now);
        }
        self.count = self.count.saturating_add(1);
        match self.count {
            ..=LINES => Verdict::Log,
            n if n == LINES + 1 => Verdict::Enough,
            _ => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_talks_on_is_told_off_once_and_heard_again_later() {
        let start = Instant::now();
        let mut remarks = Remarks::new(start);
        let verdicts: Vec<_> = (0..1000).map(|_| remarks.judge(start)).collect();
        let (logged, rest) = verdicts.split_at(LINES as usize);
        assert!(logged.iter().all(|verdict| *verdict == Verdict::Log));
        assert_eq!(rest[0], Verdict::Enough);
        assert!(rest[1..].iter().all(|verdict| *verdict == Verdict::Drop));
        assert_eq!(remarks.judge(start + PERIOD), Verdict::Log);
    }
}
