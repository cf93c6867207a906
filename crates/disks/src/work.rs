//! Work on the disks of one VM: create, copy, resize, delete, and what copy-on-write images need (umlmon, in a
//! short-lived process that is confined to the jail like the kernel, and has the rights of the VM's user).
//!
//! The directory `/disks` belongs to that user, so everything in it is hostile: symbolic links, further names of other
//! files, FIFOs, false headers. Every file is opened relative to a directory that is held, without following links and
//! without waiting, and is checked before it is used.
//!
//! **A half-made file has another name**, [`PARTIAL_PREFIX`] and [`PARTIAL_SUFFIX`] around its own, until it is
//! complete. If the work ends before, it removes the file; what a killed process leaves behind is removed by
//! [`Task::Discard`], or, if the monitor was killed as well, by [`Task::Tidy`].
//!
//! **After a power failure** an image with a name is complete: headers and changes of size are flushed before the work
//! is reported as done. The name of a new disk, and the data of a copy or a commit, are written by the host within half
//! a minute, as with any other file: to wait for that would take as long as the work itself.

mod commit;
mod copy;
mod create;
mod draft;
mod error;
mod extents;
mod list;
mod meter;
mod resize;
mod size;
mod snapshot;
mod space;
#[cfg(test)]
mod tests;
mod watch;
mod workplace;

use std::fmt;

use config::{DiskKind, DiskName};
use serde::{Deserialize, Serialize};

pub use draft::{PARTIAL_PREFIX, PARTIAL_SUFFIX, is_partial};
pub use error::Error;
use error::refused;
pub use list::MAX_LISTED;
use size::is_possible;
pub use size::{MAX_BYTES, MIN_BYTES};
pub use snapshot::{Snapshot, is_of_snapshot, snapshot_parts};
pub use watch::{CowEntry, Entry, Watch};
pub use workplace::Workplace;

/// Work on the disks of one VM. It is sent as JSON over the private pipe from the monitor.
///
/// Only files in `/disks` are created, changed or deleted; those in `/shared/disks` are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// A new flat image. Progress counts the bytes that were allocated.
    Create {
        /// The new disk, `.dsk`.
        disk: DiskName,
        /// Its size, from [`MIN_BYTES`] to [`MAX_BYTES`], in whole sectors of 512.
        bytes: u64,
        /// Do not allocate any blocks.
        sparse: bool,
    },
    /// A new copy-on-write image, of the size of the backing file.
    CreateCow {
        /// The new disk, `.cow`.
        disk: DiskName,
        /// The backing file, `.dsk`, in either directory.
        backing: DiskName,
    },
    /// Removes a file. A backing file of images in `/disks` is not removed.
    Delete {
        /// The disk.
        disk: DiskName,
    },
    /// A copy with the same holes and the same time of modification. Progress counts bytes of data.
    Copy {
        /// The original, in either directory.
        source: DiskName,
        /// The new disk, of the same kind.
        destination: DiskName,
    },
    /// Makes a flat image longer or shorter, in place. Progress counts the bytes that were allocated.
    Resize {
        /// The disk, `.dsk`.
        disk: DiskName,
        /// The new size, as in [`Task::Create`].
        bytes: u64,
        /// Do not allocate the new blocks.
        sparse: bool,
    },
    /// Writes the name and the time of its backing file into a copy-on-write image that came from elsewhere.
    Import {
        /// The image.
        disk: DiskName,
        /// The backing file, `.dsk`, in either directory. It must have the size it had.
        backing: DiskName,
    },
    /// Makes a flat image with the content of a copy-on-write image. Progress counts bytes of data.
    Commit {
        /// The image, in either directory.
        source: DiskName,
        /// The new disk, `.dsk`.
        destination: DiskName,
    },
    /// Something about copies of images that are kept together under a label. Progress counts bytes of data of each.
    Snapshot(Snapshot),
    /// Finds the disks in both directories, in the order of their names. If there are more than
    /// [`MAX_LISTED`], so many are found, and the task fails.
    List,
    /// Removes what processes that were killed have left behind. No other work may be in progress.
    Tidy,
    /// Removes what a process that was killed has left of a disk that it was to make.
    Discard {
        /// The disk that was to be made.
        disk: DiskName,
    },
}

/// The size of a disk in bytes, from the megabytes that users give.
///
/// # Errors
/// [`Error::Size`].
pub fn megabytes(count: u64) -> Result<u64, Error> {
    let bytes = count.saturating_mul(1 << 20);
    check_size(bytes)?;
    Ok(bytes)
}

/// What a task does with a disk that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Only reads it.
    Reads,
    /// Makes it: it is not there yet.
    Makes,
    /// Changes or removes it.
    Changes,
}

/// A disk that a task names.
#[derive(Clone, Debug)]
pub struct Operand<'a> {
    /// Its name.
    pub disk: &'a DiskName,
    /// What is done with it.
    pub usage: Usage,
    /// What it must be.
    kind: DiskKind,
}

fn reads(disk: &DiskName, kind: DiskKind) -> Operand<'_> {
    let usage = Usage::Reads;
    Operand { disk, usage, kind }
}

fn makes(disk: &DiskName, kind: DiskKind) -> Operand<'_> {
    let usage = Usage::Makes;
    Operand { disk, usage, kind }
}

fn changes(disk: &DiskName, kind: DiskKind) -> Operand<'_> {
    let usage = Usage::Changes;
    Operand { disk, usage, kind }
}

/// How a task is done; an error leaves everything as it was.
type Work<'a> = dyn FnOnce(&Workplace, &mut dyn Watch) -> Result<(), Error> + 'a;

/// All that is known of a task.
struct Outline<'a> {
    command: &'static str,
    /// In the order in which the command takes them.
    operands: Vec<Operand<'a>>,
    /// How large a disk is to be.
    bytes: Option<u64>,
    work: Box<Work<'a>>,
}

impl<'a> Outline<'a> {
    fn new(
        command: &'static str,
        operands: impl Into<Vec<Operand<'a>>>,
        work: impl FnOnce(&Workplace, &mut dyn Watch) -> Result<(), Error> + 'a,
    ) -> Outline<'a> {
        Outline {
            command,
            operands: operands.into(),
            bytes: None,
            work: Box::new(work),
        }
    }

    /// About one image, of either kind.
    fn changing(
        command: &'static str,
        disk: &'a DiskName,
        work: impl FnOnce(&Workplace, &mut dyn Watch) -> Result<(), Error> + 'a,
    ) -> Outline<'a> {
        Outline::new(command, [changes(disk, disk.kind())], work)
    }

    fn sized(self, bytes: u64) -> Outline<'a> {
        let bytes = Some(bytes);
        Outline { bytes, ..self }
    }
}

impl Snapshot {
    fn outline(&self) -> Outline<'_> {
        // Images that are only read are claimed as if they were changed: two at once would be in each other's way.
        let operands: Vec<_> = self
            .disks()
            .iter()
            .map(|it| changes(it, it.kind()))
            .collect();
        match self {
            Snapshot::Make { label, disks } => {
                Outline::new("snapshot", operands, |workplace, watch| {
                    workplace.snapshot(label, disks, watch)
                })
            }
            Snapshot::Restore { label, disks } => {
                Outline::new("rollback", operands, |workplace, watch| {
                    workplace.rollback(label, disks, watch)
                })
            }
            Snapshot::Forget { label } => {
                Outline::new("snapshot", operands, |workplace, _| workplace.forget(label))
            }
            Snapshot::Settle => {
                Outline::new("snapshot", operands, |workplace, _| workplace.settle())
            }
        }
    }
}

impl Task {
    fn outline(&self) -> Outline<'_> {
        use DiskKind::{Cow, Dsk};
        match self {
            Task::Create {
                disk,
                bytes,
                sparse,
            } => Outline::new("disk-create", [makes(disk, Dsk)], |workplace, watch| {
                workplace.create(disk, *bytes, *sparse, watch)
            })
            .sized(*bytes),
            Task::CreateCow { disk, backing } => Outline::new(
                "disk-create-cow",
                [makes(disk, Cow), reads(backing, Dsk)],
                |workplace, _| workplace.create_cow(disk, backing),
            ),
            Task::Delete { disk } => {
                Outline::changing("disk-delete", disk, |workplace, _| workplace.delete(disk))
            }
            Task::Copy {
                source,
                destination,
            } => Outline::new(
                "disk-copy",
                [
                    reads(source, source.kind()),
                    makes(destination, source.kind()),
                ],
                |workplace, watch| workplace.copy(source, destination, watch),
            ),
            Task::Resize {
                disk,
                bytes,
                sparse,
            } => Outline::new("disk-resize", [changes(disk, Dsk)], |workplace, watch| {
                workplace.resize(disk, *bytes, *sparse, watch)
            })
            .sized(*bytes),
            Task::Import { disk, backing } => Outline::new(
                "disk-import",
                [changes(disk, Cow), reads(backing, Dsk)],
                |workplace, _| workplace.import(disk, backing),
            ),
            Task::Commit {
                source,
                destination,
            } => Outline::new(
                "disk-commit",
                [reads(source, Cow), makes(destination, Dsk)],
                |workplace, watch| workplace.commit(source, destination, watch),
            ),
            Task::Snapshot(snapshot) => snapshot.outline(),
            Task::List => Outline::new("disk-list", [], Workplace::list),
            Task::Tidy => Outline::new("disk-tidy", [], |workplace, _| workplace.tidy()),
            Task::Discard { disk } => {
                Outline::changing("disk-tidy", disk, |workplace, _| workplace.discard(disk))
            }
        }
    }

    /// The command of umlwatch(1) that asks for it.
    pub fn command(&self) -> &'static str {
        self.outline().command
    }

    /// The disks that it names, in the order in which the command takes them.
    pub fn operands(&self) -> Vec<Operand<'_>> {
        self.outline().operands
    }

    /// The disk that it is to make.
    pub fn makes(&self) -> Option<&DiskName> {
        let mut operands = self.operands().into_iter();
        let made = operands.find(|operand| operand.usage == Usage::Makes);
        made.map(|operand| operand.disk)
    }

    /// The disks as umlwatch(1) takes them, such as `/disks/a.dsk:/disks/b.dsk`; empty if there are none.
    pub fn disks(&self) -> String {
        let operands = self.operands();
        let names: Vec<&str> = operands.iter().map(|it| it.disk.as_str()).collect();
        names.join(":")
    }

    /// Whether names and sizes are allowed; the files themselves are not checked.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Size`].
    pub fn check(&self) -> Result<(), Error> {
        let outline = self.outline();
        for operand in &outline.operands {
            operand.check_directory()?;
        }
        if let Task::Copy {
            source,
            destination,
        } = self
        {
            if source.kind() == DiskKind::Dev {
                return Err(refused(source, "block devices are not copied"));
            }
            if source == destination {
                return Err(refused(destination, "it cannot be copied to itself"));
            }
        }
        if let Task::Snapshot(snapshot) = self {
            let other = |disk: &&DiskName| disk.is_shared() || disk.kind() == DiskKind::Dev;
            if let Some(disk) = snapshot.disks().iter().find(other) {
                return Err(refused(disk, "snapshots are of images in /disks"));
            }
        }
        for operand in &outline.operands {
            operand.check_kind()?;
        }
        outline.bytes.map_or(Ok(()), check_size)
    }
}

impl Workplace {
    /// Does the work, from the checks to the removal of half-made files.
    ///
    /// # Errors
    /// See [`Error`]. Nothing has changed then.
    pub fn perform(&self, task: &Task, watch: &mut dyn Watch) -> Result<(), Error> {
        task.check()?;
        (task.outline().work)(self, watch)
    }
}

impl Operand<'_> {
    fn check_directory(&self) -> Result<(), Error> {
        if self.usage != Usage::Reads && self.disk.is_shared() {
            let why = "the disks in /shared/disks are only read; choose a name in /disks";
            return Err(refused(self.disk, why));
        }
        Ok(())
    }

    fn check_kind(&self) -> Result<(), Error> {
        if self.disk.kind() == self.kind {
            return Ok(());
        }
        let why = match self.kind {
            DiskKind::Dsk => "a flat image is needed here, whose name ends in .dsk",
            DiskKind::Cow => "a copy-on-write image is needed here, whose name ends in .cow",
            DiskKind::Dev => "a block device is needed here",
        };
        Err(refused(self.disk, why))
    }
}

/// The command with its disks.
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())?;
        match self.disks().as_str() {
            "" => Ok(()),
            disks => write!(f, " {disks}"),
        }
    }
}

fn check_size(bytes: u64) -> Result<(), Error> {
    match is_possible(bytes) {
        true => Ok(()),
        false => Err(Error::Size { bytes }),
    }
}
