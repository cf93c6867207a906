//! Whether processes of a container were killed because its memory was used up (umlguest, the parent of its first
//! command).

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use super::group::Group;
use super::usage;

/// The counter of a container. The kernel wakes who polls it for `POLLPRI` (Documentation/admin-guide/cgroup-v2.rst).
pub(super) struct Kills {
    events: File,
    known: u64,
}

impl Kills {
    /// That of this group; none if the kernel does not count.
    pub(super) fn of(group: &Group) -> Option<Kills> {
        let events = group.open("memory.events").ok()?;
        Some(Kills { events, known: 0 })
    }

    /// What is to be polled.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether there were any since this was asked last.
    pub(super) fn are_new(&mut self) -> bool {
        let mut text = String::new();
        let read = self.events.rewind();
        let read = read.and_then(|()| self.events.read_to_string(&mut text));
        let now = match read {
            Ok(_) => usage::value(&text, "oom_kill").unwrap_or(0),
            Err(_) => self.known,
        };
        std::mem::replace(&mut self.known, now) < now
    }
}
