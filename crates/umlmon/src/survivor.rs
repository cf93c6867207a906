//! A VM that runs without a monitor: finding it, and taking from its second process what the next monitor needs
//! (umlmon, the monitor process).
//!
//! The record is root's and is believed. The process runs as the VM's user, and is not: it is the one of the record
//! only if the host's boot, its number and its start are the same, and each descriptor is compared with what was
//! recorded of it when it was handed over. A process that has exchanged them is refused.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use config::VmName;
use pty::Held;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::channels::ChannelRecord;
use crate::reading::Reading;
use crate::record::{self, Content, HeldFd, Identity, Process, Record};

/// How long the processes of a VM may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// The names of descriptors besides those of channels.
pub mod names {
    /// The monitor's end of the private pipe.
    pub const PIPE: &str = "pipe";
    /// The socket for the kernel's notices.
    pub const NOTICES: &str = "notices";
    /// The monitor's end of the line of the guest's helper.
    pub const HELPER: &str = "helper";
    /// The locked file with the claims of the run.
    pub const CLAIMS: &str = "claims";
}

/// A VM that runs without a monitor.
#[derive(Debug)]
pub struct Survivor {
    /// What is recorded of it.
    pub record: Record,
    /// The configuration in effect.
    pub reading: Reading,
    /// Its second process.
    pub child: sys::Child,
    descriptors: BTreeMap<String, OwnedFd>,
}

/// Looks for a VM that runs without a monitor, by the record in its directory. The record of one that has ended is
/// removed. The caller is the only monitor.
///
/// # Errors
/// A sentence that says why the VM, which runs, cannot be taken over, and how it can be ended.
pub fn find(vm_dir: BorrowedFd<'_>, name: &VmName) -> anyhow::Result<Option<Survivor>> {
    let unreadable = |error| {
        anyhow::anyhow!("cannot read the record of the running VM, run in its directory: {error}")
    };
    let Some(content) = Content::read(vm_dir).map_err(unreadable)? else {
        // Perhaps one that was not completed.
        record::remove(vm_dir)?;
        return Ok(None);
    };
    let (boot, child) = match &content {
        Content::Record(record) => (&record.boot, record.child),
        Content::Unknown(_, Some((boot, child))) => (boot, *child),
        // Whoever wrote that: if a second process holds the claims, no start can harm the disks.
        Content::Unknown(why, None) => {
            tracing::warn!("the record of a former run is removed: {why}");
            record::remove(vm_dir)?;
            return Ok(None);
        }
    };
    let Some(pidfd) = running(boot, child)? else {
        record::remove(vm_dir)?;
        return Ok(None);
    };
    let taken = match content {
        Content::Record(record) => take(*record, &pidfd, name),
        Content::Unknown(why, _) => Err(why),
    };
    match taken {
        Ok((record, reading, descriptors)) => Ok(Some(Survivor {
            record,
            reading,
            child: sys::Child {
                pid: child.pid,
                pidfd,
            },
            descriptors,
        })),
        Err(_) if is_ending(&pidfd, child.pid) => {
            record::remove(vm_dir)?;
            Ok(None)
        }
        Err(why) => Err(anyhow::anyhow!(
            "the VM runs without a monitor, and this one cannot take it over: {why}; to end it: kill -KILL {}",
            child.pid
        )),
    }
}

/// The process, if it still runs.
///
/// # Errors
/// If that cannot be told.
pub fn running(boot: &str, child: Process) -> io::Result<Option<OwnedFd>> {
    if daemon::boot()? != boot {
        return Ok(None);
    }
    let pid = Pid::from_raw(child.pid).ok_or(Errno::INVAL)?;
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        // There is none, or the number is that of a thread of another one: EINVAL, since Linux 6.15 ENOENT.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
        pidfd => pidfd?,
    };
    // The number cannot become another's while the descriptor says that the process has not ended.
    let is_same = Process::of(child.pid).is_ok_and(|now| now == child);
    Ok((is_same && !has_ended(&pidfd, Duration::ZERO)).then_some(pidfd))
}

/// Whether a process has ended by then; that of a VM with all processes of that.
pub fn has_ended(pidfd: &OwnedFd, within: Duration) -> bool {
    let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
    let within = Timespec::try_from(within).unwrap_or_default();
    !matches!(retry_on_intr(|| poll(&mut ended, Some(&within))), Ok(0))
}

/// Whether a process was just ending, as one that has died with its monitor, and has ended now. Such a one has no
/// descriptors any more.
fn is_ending(pidfd: &OwnedFd, pid: i32) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let none = descriptors.map_or(true, |mut descriptors| descriptors.next().is_none());
    none && has_ended(pidfd, ENDING)
}

/// What is recorded of a VM, and what its second process holds.
type Taken = (Record, Reading, BTreeMap<String, OwnedFd>);

fn take(record: Record, pidfd: &OwnedFd, name: &VmName) -> Result<Taken, String> {
    let reading = Reading::of_record(&record.configuration, name);
    let mut reading =
        reading.map_err(|error| format!("its configuration cannot be read: {error}"))?;
    // Some may have been attached or detached since its start.
    let disks = record.disks.iter();
    reading.vm.ubd = disks.map(|ubd| (ubd.number, ubd.name.clone())).collect();
    let mut descriptors = BTreeMap::new();
    for held in &record.held {
        descriptors.insert(held.name.clone(), fetch(pidfd, held)?);
    }
    Ok((record, reading, descriptors))
}

/// A copy of a descriptor of the process, if it is what was handed over.
///
/// # Errors
/// What is wrong with it.
pub fn fetch(pidfd: &OwnedFd, held: &HeldFd) -> Result<OwnedFd, String> {
    let fetched = pidfd_getfd(pidfd, held.number, PidfdGetfdFlags::empty());
    let cannot = |error: io::Error| match Errno::from_io_error(&error) {
        Some(Errno::PERM) => {
            "pidfd_getfd(2) is not permitted here (see kernel.yama.ptrace_scope)".to_owned()
        }
        _ => format!("its descriptor {} cannot be had: {error}", held.name),
    };
    let fetched = fetched.map_err(|error| cannot(error.into()))?;
    match Identity::of(&fetched).map_err(cannot)? == held.identity {
        true => Ok(fetched),
        false => Err(format!("its descriptor {} is another one now", held.name)),
    }
}

impl Survivor {
    /// Takes one of the descriptors; None if it has none of this name.
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        self.descriptors.remove(name)
    }

    /// Takes all that nobody has taken.
    pub fn take_rest(&mut self) -> BTreeMap<String, OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    /// Takes those of the channels.
    ///
    /// # Errors
    /// The first one that is missing.
    pub fn take_channels(&mut self) -> Result<Vec<(ChannelRecord, Held)>, String> {
        let records = self.record.channels.clone();
        let take = |record: ChannelRecord| {
            let parts = channel_names(&record.name).map(|name| (self.take(&name), name));
            let [a, b, c, d] =
                parts.map(|(part, name)| part.ok_or_else(|| format!("{name} is missing")));
            Ok((record, Held::from_parts([a?, b?, c?, d?])))
        };
        records.into_iter().map(take).collect()
    }
}

/// What the descriptors of a channel are called, in the order of [`Held::NAMES`].
pub fn channel_names(channel: &str) -> [String; 4] {
    Held::NAMES.map(|part| format!("{channel}.{part}"))
}
