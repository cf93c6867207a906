//! Whether a kernel has to be inspected once more. The monitor.
//!
//! Nothing is opened for reading, and the walk ends at the first directory, link or file that a user could change.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use files::Mark;

use crate::Result;
use crate::directories::{Open, Trusting, host};
use crate::inspect::{Inspection, Origin};
use crate::library::{DIRECTORIES, beside};
use crate::walk::{Guide, Step, walk};

/// All that an inspection depends on, as it was at one time: the kernel, its libraries, the directories that are
/// searched for them, and every directory and link on the way. All of it is root's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<Mark>);

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
        if file.is_noexec().ok()? {
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
        self.0.iter().all(|mark| mark.is_older_than(time))
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
