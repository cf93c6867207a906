//! The record of a running VM, `VARDIR/VM/run`: all that the next monitor needs to take the VM over if this one dies
//! (umlmon, the monitor process).
//!
//! It is root's, and is replaced as a whole. It is there as long as the second process would outlive the monitor, so it
//! is no promise that the VM runs: the process is identified by the boot of the host, its number, and when it was
//! started. It needs to survive no crash of the host, and is not synchronised with the disk.
//!
//! A monitor takes over what has its own format or the one before. A change that older monitors cannot read is a new
//! format.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use daemon::ProcessStat;
use jail::Owner;
use net::Connected;
use rustix::fs::{FileType, fstat};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::channels::ChannelRecord;
use crate::disks::holdings::Ubd;
use crate::reading::Recorded;
use crate::root_file;
use crate::status::{LastEnd, Phase};

/// The format of the records that are written.
pub const FORMAT: u32 = 1;
/// Those that are read: that and the one before.
pub const FORMATS: RangeInclusive<u32> = 1..=FORMAT;
/// The file.
const NAME: &str = "run";

/// A running VM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// See [`FORMAT`].
    pub format: u32,
    /// The host's boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// The second process.
    pub child: Process,
    /// The process ID of the kernel.
    pub kernel: u32,
    /// What the second process holds.
    pub held: Vec<HeldFd>,
    /// The channels, in the order of their descriptors.
    pub channels: Vec<ChannelRecord>,
    /// The configuration in effect.
    pub configuration: Recorded,
    /// Arguments of the kernel that a client gave.
    pub extra: Vec<String>,
    /// The disks as they were found at the start, or when they were attached.
    pub disks: Vec<Ubd>,
    /// The disk that is being attached or detached: whether the kernel has done that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_change: Option<DiskChange>,
    /// Whether the kernel carries out what the guest flushes.
    pub flushes: bool,
    /// As whom the guest acts in the directories that it is given, by number.
    pub owners: BTreeMap<u8, Owner>,
    /// The networks of the host that it is connected with, if there are any.
    pub networks: Option<Connected>,
    /// The control group, if there is one.
    pub group: Option<Group>,
    /// The monitor chooses the processor of the host on which it runs.
    pub is_placed: bool,
    /// The device of its memory, see [`jail::TmpMount::device`].
    pub memory: u64,
    /// When the kernel was started, by the host's monotonic clock.
    pub started: Duration,
    /// What changes while it runs.
    pub state: StateRecord,
}

/// A process of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started (proc_pid_stat(5), starttime).
    pub start: u64,
}

/// A descriptor that the second process holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldFd {
    /// What it is, as "notices" or "con0.terminal".
    pub name: String,
    /// Its number in that process.
    pub number: i32,
    /// What tells it from others.
    pub identity: Identity,
}

/// What an open file is: sockets, pipes and memory have inodes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    kind: u32,
    device: u64,
    inode: u64,
    special: u64,
}

/// A control group: its directories, and the controllers in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// In each hierarchy.
    pub directories: Vec<PathBuf>,
    /// Their names.
    pub controllers: Vec<String>,
}

/// What the kernel is told to do with a disk while it runs, by the N of ubdN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskChange {
    /// To attach one, which is among the disks.
    Attach(u8),
    /// To detach one, which still is.
    Detach(u8),
}

/// What changes while a kernel runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRecord {
    /// Where the VM is in its life.
    pub phase: Phase,
    /// A client wants the VM down.
    pub stop_pending: bool,
    /// The kernel is being suspended, or resumed: whether it has done that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Phase>,
    /// The kernel's mconsole is up.
    pub up: bool,
    /// The VM was killed.
    pub killed: bool,
    /// The message of a panic.
    pub panic: Option<String>,
    /// Reboots of the guest since it was started.
    pub reboots: u32,
    /// The guest has said that it is ready.
    pub ready: bool,
    /// How the run before ended.
    pub last_end: LastEnd,
}

impl Identity {
    /// Looks at an open file.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn of(open: impl AsFd) -> io::Result<Identity> {
        let stat = fstat(open)?;
        Ok(Identity {
            kind: FileType::from_raw_mode(stat.st_mode).as_raw_mode(),
            device: stat.st_dev,
            inode: stat.st_ino,
            special: stat.st_rdev,
        })
    }
}

impl Process {
    /// The process with this number, as it is now.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn of(pid: i32) -> io::Result<Process> {
        let stat = ProcessStat::of(pid.unsigned_abs())?;
        Ok(Process {
            pid,
            start: stat.start,
        })
    }
}

/// What the host's monotonic clock said at this time.
pub fn clock_at(time: Instant) -> Duration {
    clock().saturating_sub(time.elapsed())
}

/// The time at which the host's monotonic clock said this.
pub fn at_clock(then: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(clock().saturating_sub(then)).unwrap_or(now)
}

fn clock() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// What can be read of a record of any format.
#[derive(Debug, Deserialize)]
struct Outline {
    format: u32,
    boot: String,
    child: Process,
}

/// What is in the file.
#[derive(Debug)]
pub enum Content {
    /// A record that can be used.
    Record(Box<Record>),
    /// One that cannot be read, and why; its boot and second process, if these can.
    Unknown(String, Option<(String, Process)>),
}

impl Content {
    /// Reads the record in the directory of a VM; None if there is none.
    ///
    /// # Errors
    /// Those of open(2) and read(2), and if others than root can have written it.
    pub fn read(vm_dir: BorrowedFd<'_>) -> io::Result<Option<Content>> {
        let Some(text) = root_file::read(vm_dir, NAME)? else {
            return Ok(None);
        };
        Ok(Some(Content::of(&text)))
    }

    fn of(text: &[u8]) -> Content {
        let outline: Outline = match serde_json::from_slice(text) {
            Ok(outline) => outline,
            Err(error) => return Content::Unknown(format!("it is damaged: {error}"), None),
        };
        let known = Some((outline.boot, outline.child));
        if !FORMATS.contains(&outline.format) {
            let why = format!(
                "its record was written by another release of umlmon (format {}, and this one reads {} to {FORMAT})",
                outline.format,
                FORMATS.start()
            );
            return Content::Unknown(why, known);
        }
        match serde_json::from_slice(text) {
            Ok(record) => Content::Record(Box::new(record)),
            Err(error) => Content::Unknown(format!("it is damaged: {error}"), known),
        }
    }
}

impl Record {
    /// Writes it into the directory of the VM.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2); the old one stays.
    pub fn write(&self, vm_dir: BorrowedFd<'_>) -> io::Result<()> {
        root_file::write(vm_dir, NAME, &serde_json::to_vec(self)?)
    }
}

/// Removes the record from the directory of a VM, if it is there.
///
/// # Errors
/// As unlink(2).
pub fn remove(vm_dir: BorrowedFd<'_>) -> io::Result<()> {
    root_file::remove(vm_dir, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_format_still_tells_the_process() {
        let text = br#"{"format":7,"boot":"b","child":{"pid":5,"start":9},"more":{"of":"it"}}"#;
        let Content::Unknown(why, Some((boot, child))) = Content::of(text) else {
            panic!("it is not understood");
        };
        assert!(why.contains("format 7"), "{why}");
        assert_eq!((boot.as_str(), child), ("b", Process { pid: 5, start: 9 }));
        for damaged in [&b"{"[..], b"", b"[1]", br#"{"format":1}"#] {
            assert!(matches!(Content::of(damaged), Content::Unknown(_, None)));
        }
        let short = br#"{"format":1,"boot":"b","child":{"pid":5,"start":9}}"#;
        assert!(matches!(Content::of(short), Content::Unknown(_, Some(_))));
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Process::of(own).unwrap(), Process::of(own).unwrap());
        assert!(Process::of(own).unwrap().start > 0);
        assert!(Process::of(i32::MAX).is_err());
    }

    #[test]
    fn times_are_found_again() {
        let then = Instant::now() - Duration::from_secs(5);
        let again = at_clock(clock_at(then));
        let difference = again.max(then) - again.min(then);
        assert!(difference < Duration::from_secs(1));
    }
}
