//! Events that other hosts can cause as often as they like must not fill the log (umldir).

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Between two lines about the same kind of thing.
const PAUSE: Duration = Duration::from_secs(1);

/// Allows a line each second.
#[derive(Debug, Default)]
pub struct Sparing(Cell<Option<Instant>>);

impl Sparing {
    /// Whether a line may be logged now.
    pub fn may(&self) -> bool {
        let now = Instant::now();
        let last = self.0.get();
        let may = last.is_none_or(|last| now.duration_since(last) >= PAUSE);
        if may {
            self.0.set(Some(now));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_one() {
        let sparing = Sparing::default();
        assert_eq!((0..1000).filter(|_| sparing.may()).count(), 1);
    }
}
