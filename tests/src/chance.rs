//! Numbers by chance (the end-to-end tests).

/// A sequence of them (xorshift). How it begins is told, so that a run can be repeated with `UMLMON_TEST_SEED`.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// Another sequence each time, or the one that is asked for.
    pub fn new() -> Chance {
        let set = std::env::var("UMLMON_TEST_SEED").ok();
        let seed = set.and_then(|set| set.parse().ok());
        let seed = seed.unwrap_or_else(|| (u64::from(std::process::id()) << 16) | 1);
        eprintln!("UMLMON_TEST_SEED={seed}");
        Chance::with(seed)
    }

    /// The sequence that begins with this number, which must not be 0.
    pub fn with(seed: u64) -> Chance {
        Chance(seed)
    }

    /// One of so many numbers, from 0 on.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// True as often as this says.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Default for Chance {
    fn default() -> Self {
        Chance::new()
    }
}
