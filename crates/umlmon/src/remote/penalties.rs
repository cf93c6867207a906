//! How often a source has tried wrong passwords, and how long it has to wait therefore (umlmon, the monitor process).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Attempts that cost only a moment: people mistype.
const FREE: u32 = 3;
/// The first penalty; each further attempt doubles it,
const FIRST: Duration = Duration::from_secs(5);
/// up to this.
const LONGEST: Duration = Duration::from_secs(600);
/// After so long without an attempt, the earlier ones are forgotten.
const MEMORY: Duration = Duration::from_secs(3600);
/// Sources that are remembered; a further one takes the place of the one that has been quiet for the longest time.
const MAX_SOURCES: usize = 1024;

/// Attempts by source.
#[derive(Debug, Default)]
pub struct Penalties {
    sources: HashMap<IpAddr, Attempts>,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    count: u32,
    last: Instant,
}

impl Attempts {
    /// The earliest time of the next attempt.
    fn until(self) -> Instant {
        match self.count.checked_sub(FREE + 1) {
            None => self.last,
            Some(doublings) => {
                let penalty = FIRST.saturating_mul(1 << doublings.min(20));
                self.last + penalty.min(LONGEST)
            }
        }
    }
}

impl Penalties {
    /// How much longer this source has to wait.
    pub fn wait(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let attempts = self.sources.get(&source)?;
        let left = attempts.until().saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Counts an attempt; gives how many there have been, this one included.
    pub fn count(&mut self, source: IpAddr, now: Instant) -> u32 {
        let known = self.sources.get(&source).copied();
        let known = known.filter(|it| now.saturating_duration_since(it.last) < MEMORY);
        if known.is_none() && self.sources.len() >= MAX_SOURCES {
            let quietest = self.sources.iter().min_by_key(|(_, it)| it.last);
            if let Some(source) = quietest.map(|(source, _)| *source) {
                self.sources.remove(&source);
            }
        }
        let count = known.map_or(0, |it| it.count).saturating_add(1);
        self.sources.insert(source, Attempts { count, last: now });
        count
    }

    /// The source knew the password: its earlier attempts are forgotten.
    pub fn forgive(&mut self, source: IpAddr) {
        self.sources.remove(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn penalties_grow_up_to_a_limit() {
        let (mut penalties, mut now) = (Penalties::default(), Instant::now());
        let waits: Vec<u64> = (0..13)
            .map(|_| {
                penalties.count(ip(1), now);
                let wait = penalties.wait(ip(1), now).unwrap_or_default();
                now += wait;
                assert_eq!(penalties.wait(ip(1), now), None);
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(penalties.wait(ip(2), now), None);
    }

    #[test]
    fn success_and_time_let_it_be_forgotten() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        let fail =
            |penalties: &mut Penalties, at| (0..5).map(|_| penalties.count(ip(1), at)).last();
        assert_eq!(fail(&mut penalties, now), Some(5));
        penalties.forgive(ip(1));
        assert_eq!(penalties.wait(ip(1), now), None);
        assert_eq!(fail(&mut penalties, now), Some(5));
        assert_eq!(penalties.count(ip(1), now + MEMORY), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut penalties, start) = (Penalties::default(), Instant::now());
        for number in 0..5000 {
            penalties.count(ip(number), start + Duration::from_millis(number.into()));
        }
        assert_eq!(penalties.sources.len(), MAX_SOURCES);
        assert!(penalties.sources.contains_key(&ip(4999)));
        assert!(!penalties.sources.contains_key(&ip(0)));
    }
}
