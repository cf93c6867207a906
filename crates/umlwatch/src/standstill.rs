//! Input that the guest does not take: what is said of it, and when a session that only sends a file gives up.

use std::fmt;
use std::time::{Duration, Instant};

use rpc_xdr::umlmonctrl::ConStandstill;

/// How long the guest may take nothing before the session gives up.
const LIMIT: Duration = Duration::from_secs(60);

/// What the monitor says, for as long as it says so.
#[derive(Debug)]
pub(crate) struct Standstill {
    since: Instant,
    bytes: usize,
    why: String,
}

impl Standstill {
    /// `unsent`: how many bytes more wait in this program.
    pub(crate) fn new(told: ConStandstill, unsent: usize) -> Standstill {
        let now = Instant::now();
        let lasts = Duration::from_secs(told.seconds.into());
        Standstill {
            since: now.checked_sub(lasts).unwrap_or(now),
            bytes: usize::try_from(told.bytes).map_or(usize::MAX, |bytes| bytes + unsent),
            why: told.why,
        }
    }

    /// How long to wait until it is time to give up.
    pub(crate) fn waits(&self) -> Duration {
        LIMIT.saturating_sub(self.since.elapsed())
    }
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = match self.bytes {
            1 => "1 byte waits".to_owned(),
            bytes => format!("{bytes} bytes wait"),
        };
        let seconds = self.since.elapsed().as_secs();
        write!(f, "takes no input for {seconds} s, {waiting}: {}", self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seconds: u32, bytes: u32) -> ConStandstill {
        let why = "nobody reads".to_owned();
        ConStandstill {
            bytes,
            seconds,
            why,
        }
    }

    #[test]
    fn what_waits_here_counts() {
        let standstill = Standstill::new(told(5, 900), 4000);
        let text = standstill.to_string();
        assert_eq!(
            text,
            "takes no input for 5 s, 4900 bytes wait: nobody reads"
        );
        assert!(
            Standstill::new(told(5, 1), 0)
                .to_string()
                .contains("1 byte waits")
        );
    }

    #[test]
    fn a_minute_is_enough() {
        assert!(Standstill::new(told(5, 1), 0).waits() > Duration::from_secs(50));
        assert_eq!(Standstill::new(told(60, 1), 0).waits(), Duration::ZERO);
    }
}
