//! On which processors of the host processes may run (sched_setaffinity(2)). The monitor, and its second process.
//!
//! A guest cannot change it: the call is not in its allowlist.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// Numbers of processors, as the host counts them.
pub type Processors = BTreeSet<u16>;

/// Where the processes of a virtual machine begin to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// On one processor: that which the host's scheduler has just chosen.
    One,
    /// On any of these.
    On(Processors),
}

impl Place {
    /// Puts the calling thread there, and all processes that it starts.
    pub(crate) fn enter(&self) -> io::Result<()> {
        match self {
            Place::One => {
                let here = u16::try_from(sched_getcpu()).map_err(io::Error::other)?;
                put(None, &Processors::from([here]))
            }
            Place::On(processors) => put(None, processors),
        }
    }
}

/// The processors on which this process may run.
///
/// # Errors
/// On hosts with more processors than [`CpuSet`] has room for.
pub fn allowed() -> io::Result<Processors> {
    of_thread(None)
}

/// The processors on which this thread of the host may run; None if it has ended.
#[must_use]
pub fn processors_of(thread: u32) -> Option<Processors> {
    of_thread(Some(pid(thread)?)).ok()
}

/// Puts a thread on these processors; false if it was there. One that has ended is there, too.
pub(crate) fn put_thread(thread: u32, processors: &Processors) -> io::Result<bool> {
    let Some(thread) = pid(thread) else {
        return Ok(false);
    };
    let gone = |error: &io::Error| error.raw_os_error() == Some(Errno::SRCH.raw_os_error());
    let moved = || match of_thread(Some(thread))? == *processors {
        true => Ok(false),
        false => put(Some(thread), processors).map(|()| true),
    };
    match moved() {
        Err(error) if gone(&error) => Ok(false),
        moved => moved,
    }
}

fn pid(thread: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(thread).ok()?)
}

fn of_thread(thread: Option<Pid>) -> io::Result<Processors> {
    let set = sched_getaffinity(thread)?;
    let last = u16::try_from(CpuSet::MAX_CPU).unwrap_or(u16::MAX);
    Ok((0..last).filter(|n| set.is_set((*n).into())).collect())
}

fn put(thread: Option<Pid>, processors: &Processors) -> io::Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set((*processor).into());
    }
    Ok(sched_setaffinity(thread, &set)?)
}
