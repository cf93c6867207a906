//! Whether a file has changed since it was read. Runs in umlmon.

use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

/// How late the time of a change can be: file systems take it from a clock that moves with the kernel's timer.
const LATENESS: Duration = Duration::from_millis(100);

/// A file, directory or link as it was at one time. If two of them are equal, nothing has changed in between, provided
/// that the former [is older](Mark::is_older_than) than the time at which it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    device: u64,
    inode: u64,
    size: i64,
    modified: Time,
    /// `st_ctime`, inode(7): nobody can set it.
    changed: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time {
    seconds: i64,
    nanoseconds: u64,
}

impl Mark {
    /// Whether it has not changed since `time`, or so shortly before it that a further change would not be seen.
    #[must_use]
    pub fn is_older_than(&self, time: SystemTime) -> bool {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let limit = since.unwrap_or_default().saturating_sub(LATENESS);
        let seconds = u64::try_from(self.changed.seconds).unwrap_or_default();
        let rest = Duration::from_nanos(self.changed.nanoseconds);
        Duration::from_secs(seconds).saturating_add(rest) < limit
    }
}

impl From<&Stat> for Mark {
    fn from(stat: &Stat) -> Mark {
        Mark {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: Time {
                seconds: stat.st_mtime,
                nanoseconds: stat.st_mtime_nsec,
            },
            changed: Time {
                seconds: stat.st_ctime,
                nanoseconds: stat.st_ctime_nsec,
            },
        }
    }
}
