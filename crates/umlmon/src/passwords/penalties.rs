//! How often a source has tried wrong passwords, and how long it has to wait therefore (umlmon, the monitor process).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::shares::Caller;

/// Attempts that cost nothing but a moment: people mistype.
const FREE: u32 = 3;
/// Attempts under way at once; a single one, from who has used up the free ones. A login takes a moment, and a script
/// may begin several.
const MAX_PENDING: u32 = 8;
/// The first penalty; each further attempt doubles it,
const FIRST: Duration = Duration::from_secs(5);
/// up to this.
const LONGEST: Duration = Duration::from_secs(600);
/// After so long without an attempt all is forgotten.
const MEMORY: Duration = Duration::from_secs(3600);
/// Those that are remembered; a further one takes the place of the one that has been quiet for the longest time.
const MAX_SOURCES: usize = 1024;

/// Why there must be no attempt now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many have failed: for so long.
    Wait(Duration),
    /// Too many are under way.
    AtOnce,
}

/// Attempts of each.
#[derive(Debug, Default)]
pub struct Penalties {
    sources: HashMap<Caller, Attempts>,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    failed: u32,
    pending: u32,
    last: Instant,
}

impl Attempts {
    /// When the next attempt may be.
    fn until(self) -> Instant {
        match self.failed.checked_sub(FREE + 1) {
            None => self.last,
            Some(doublings) => {
                let penalty = FIRST.saturating_mul(1 << doublings.min(20));
                self.last + penalty.min(LONGEST)
            }
        }
    }

    fn max_pending(self) -> u32 {
        match self.failed < FREE {
            true => MAX_PENDING,
            false => 1,
        }
    }
}

impl Penalties {
    /// How much longer a source has to wait.
    pub fn wait(&self, who: Caller, now: Instant) -> Option<Duration> {
        let attempts = self.sources.get(&who)?;
        let left = attempts.until().saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Begins an attempt, unless there must be none.
    pub fn begin(&mut self, who: Caller, now: Instant) -> Result<(), Refusal> {
        if let Some(wait) = self.wait(who, now) {
            return Err(Refusal::Wait(wait));
        }
        let known = self.sources.get(&who).copied();
        let remembered =
            |it: &Attempts| it.pending > 0 || now.saturating_duration_since(it.last) < MEMORY;
        let mut attempts = known.filter(remembered).unwrap_or(Attempts {
            failed: 0,
            pending: 0,
            last: now,
        });
        if attempts.pending >= attempts.max_pending() {
            return Err(Refusal::AtOnce);
        }
        if known.is_none() && self.sources.len() >= MAX_SOURCES {
            self.forget_the_quietest();
        }
        attempts.pending += 1;
        self.sources.insert(who, attempts);
        Ok(())
    }

    fn forget_the_quietest(&mut self) {
        let quiet = self.sources.iter().filter(|(_, it)| it.pending == 0);
        let quietest = quiet.min_by_key(|(_, it)| it.last).map(|(who, _)| *who);
        if let Some(who) = quietest {
            self.sources.remove(&who);
        }
    }

    /// An attempt that was begun has failed; gives how many there have been, this one included.
    pub fn fail(&mut self, who: Caller, now: Instant) -> u32 {
        let Some(attempts) = self.sources.get_mut(&who) else {
            return 1;
        };
        attempts.pending = attempts.pending.saturating_sub(1);
        attempts.failed = attempts.failed.saturating_add(1);
        attempts.last = now;
        attempts.failed
    }

    /// An attempt that was begun has succeeded: nothing that was before counts.
    pub fn succeed(&mut self, who: Caller) {
        if let Some(attempts) = self.sources.get_mut(&who) {
            attempts.pending = attempts.pending.saturating_sub(1);
            attempts.failed = 0;
            if attempts.pending == 0 {
                self.sources.remove(&who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> Caller {
        Caller::Source(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn fail(penalties: &mut Penalties, who: Caller, at: Instant) -> u32 {
        penalties.begin(who, at).unwrap();
        penalties.fail(who, at)
    }

    #[test]
    fn penalties_grow_up_to_a_limit() {
        let (mut penalties, mut now) = (Penalties::default(), Instant::now());
        let waits: Vec<u64> = (0..13)
            .map(|_| {
                fail(&mut penalties, ip(1), now);
                let wait = penalties.wait(ip(1), now).unwrap_or_default();
                now += wait;
                assert_eq!(penalties.wait(ip(1), now), None);
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(penalties.wait(ip(2), now), None);
        assert_eq!(penalties.wait(Caller::User(1), now), None);
    }

    #[test]
    fn who_has_to_wait_must_not_begin() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..4 {
            fail(&mut penalties, ip(1), now);
        }
        let wait = Refusal::Wait(FIRST);
        assert_eq!(penalties.begin(ip(1), now), Err(wait));
        assert_eq!(penalties.begin(ip(1), now + FIRST), Ok(()));
        // One at a time, as the others would be free until it has failed.
        assert_eq!(penalties.begin(ip(1), now + FIRST), Err(Refusal::AtOnce));
    }

    #[test]
    fn many_at_once_are_bounded_and_count_one_by_one() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..MAX_PENDING {
            assert_eq!(penalties.begin(ip(1), now), Ok(()));
        }
        assert_eq!(penalties.begin(ip(1), now), Err(Refusal::AtOnce));
        assert_eq!(penalties.begin(ip(2), now), Ok(()));
        let failed = (0..MAX_PENDING).map(|_| penalties.fail(ip(1), now)).last();
        assert_eq!(failed, Some(MAX_PENDING));
        assert_eq!(penalties.wait(ip(1), now), Some(16 * FIRST));
    }

    #[test]
    fn success_and_time_let_it_be_forgotten() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..3 {
            fail(&mut penalties, ip(1), now);
        }
        penalties.begin(ip(1), now).unwrap();
        penalties.succeed(ip(1));
        assert!(penalties.sources.is_empty());
        for count in 1..5 {
            assert_eq!(fail(&mut penalties, ip(1), now), count);
        }
        assert_eq!(fail(&mut penalties, ip(1), now + MEMORY), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut penalties, start) = (Penalties::default(), Instant::now());
        for number in 0..5000 {
            let now = start + Duration::from_millis(number.into());
            fail(&mut penalties, ip(number), now);
        }
        assert_eq!(penalties.sources.len(), MAX_SOURCES);
        assert!(penalties.sources.contains_key(&ip(4999)));
        assert!(!penalties.sources.contains_key(&ip(0)));
    }
}
