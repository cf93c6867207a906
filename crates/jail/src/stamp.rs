//! Whether a kernel has to be inspected once more. The monitor.
//!
//! Nothing is opened for reading, and the walk ends at the first directory, link or file that a user could change.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, Stat, StatVfsMountFlags};

use crate::Result;
use crate::directories::{Open, Trusting, host};
use crate::inspect::{Inspection, Origin};
use crate::library::{DIRECTORIES, beside};
use crate::walk::{Guide, Step, walk};

/// How late the time of a change can be: file systems take it from a clock that moves with the kernel's timer.
const LATENESS: Duration = Duration::from_millis(100);

/// All that an inspection depends on, as it was at one time: the kernel, its libraries, the directories that are
/// searched for them, and every directory and link on the way. All of it is root's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<Mark>);

/// A file, directory or link, and when it was last changed (`st_ctime`, inode(7)), which nobody can set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    seconds: i64,
    nanoseconds: u64,
}

impl Stamp {
    /// Of the kernel at this path in the jail `root`, of which this was found. None if a user could change something of
    /// it, or if something is missing by now: only an inspection can tell what that means.
    #[must_use]
    pub fn of(root: impl AsFd, kernel: &Path, found: &Inspection) -> Option<Stamp> {
        let root = root.as_fd().try_clone_to_owned().ok()?;
        let host = host().ok()?;
        let marks = RefCell::new(Vec::new());
        let mark = |root: &OwnedFd, path: &Path, open| {
            let rules = Trusting { open };
            walk(
                root,
                path,
                &Marking {
                    rules,
                    marks: &marks,
                },
            )
        };
        let file = mark(&root, kernel, Open::ToSome).ok()?;
        let mount = fs::fstatvfs(&file.fd).ok()?;
        if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            return None;
        }
        for directory in DIRECTORIES {
            // It may be missing. If it appears, a directory above it has changed.
            let _ = mark(&host, Path::new(directory), Open::ToAll);
        }
        for (name, origin) in &found.libraries {
            match origin {
                Origin::Beside => mark(&root, &beside(&found.real).join(name), Open::ToSome),
                Origin::Host(directory) => mark(&host, &directory.join(name), Open::ToAll),
            }
            .ok()?;
        }
        Some(Stamp(marks.into_inner()))
    }

    /// Whether nothing has changed since `time`, or so shortly before it that it cannot be told.
    #[must_use]
    pub fn is_older_than(&self, time: SystemTime) -> bool {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let limit = since.saturating_sub(LATENESS);
        let changed = |mark: &Mark| {
            let seconds = u64::try_from(mark.seconds).unwrap_or_default();
            Duration::from_secs(seconds) + Duration::from_nanos(mark.nanoseconds)
        };
        self.0.iter().all(|mark| changed(mark) < limit)
    }
}

impl From<&Stat> for Mark {
    fn from(stat: &Stat) -> Mark {
        Mark {
            device: stat.st_dev,
            inode: stat.st_ino,
            seconds: stat.st_ctime,
            nanoseconds: stat.st_ctime_nsec,
        }
    }
}

/// Marks whatever these rules allow.
struct Marking<'a> {
    rules: Trusting,
    marks: &'a RefCell<Vec<Mark>>,
}

impl Guide for Marking<'_> {
    fn judge(&self, step: &Step<'_>) -> Result<()> {
        self.rules.judge(step)?;
        self.marks.borrow_mut().push(step.stat.into());
        Ok(())
    }
}
