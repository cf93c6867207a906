//! The tasks, and which names and sizes are allowed (umlmon, the monitor and the process that works on disks: each
//! checks).

use std::fmt;

use config::{DiskKind, DiskName};
use serde::{Deserialize, Serialize};

use super::Error;
use super::error::refused;
use super::size::is_possible;

/// Work on the disks of one VM. It is sent as JSON over the private pipe from the monitor.
///
/// Only files in `/disks` are created, changed or deleted; those in `/shared/disks` are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// A new flat image. Progress counts the bytes that were allocated.
    Create {
        /// The new disk, `.dsk`.
        disk: DiskName,
        /// Its size, from [`MIN_BYTES`](super::MIN_BYTES) to [`MAX_BYTES`](super::MAX_BYTES), in whole sectors of 512.
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
    /// Finds the disks in both directories, in the order of their names. If there are more than
    /// [`MAX_LISTED`](super::MAX_LISTED), so many are found, and the task fails.
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

/// The properties that follow from a task alone.
struct Outline<'a> {
    command: &'static str,
    /// In the order in which the command takes them.
    operands: Vec<Operand<'a>>,
    /// How large a disk is to be.
    bytes: Option<u64>,
}

impl<'a> Outline<'a> {
    fn new(command: &'static str, operands: impl Into<Vec<Operand<'a>>>) -> Outline<'a> {
        Outline {
            command,
            operands: operands.into(),
            bytes: None,
        }
    }

    fn sized(self, bytes: u64) -> Outline<'a> {
        let bytes = Some(bytes);
        Outline { bytes, ..self }
    }
}

impl Task {
    fn outline(&self) -> Outline<'_> {
        use DiskKind::{Cow, Dsk};
        match self {
            Task::Create { disk, bytes, .. } => {
                Outline::new("disk-create", [makes(disk, Dsk)]).sized(*bytes)
            }
            Task::CreateCow { disk, backing } => {
                Outline::new("disk-create-cow", [makes(disk, Cow), reads(backing, Dsk)])
            }
            Task::Delete { disk } => Outline::new("disk-delete", [changes(disk, disk.kind())]),
            Task::Copy {
                source,
                destination,
            } => {
                let kind = source.kind();
                Outline::new("disk-copy", [reads(source, kind), makes(destination, kind)])
            }
            Task::Resize { disk, bytes, .. } => {
                Outline::new("disk-resize", [changes(disk, Dsk)]).sized(*bytes)
            }
            Task::Import { disk, backing } => {
                Outline::new("disk-import", [changes(disk, Cow), reads(backing, Dsk)])
            }
            Task::Commit {
                source,
                destination,
            } => Outline::new("disk-commit", [reads(source, Cow), makes(destination, Dsk)]),
            Task::List => Outline::new("disk-list", []),
            Task::Tidy => Outline::new("disk-tidy", []),
            Task::Discard { disk } => Outline::new("disk-tidy", [changes(disk, disk.kind())]),
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
            operand.check_place()?;
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
        for operand in &outline.operands {
            operand.check_kind()?;
        }
        outline.bytes.map_or(Ok(()), check_size)
    }
}

impl Operand<'_> {
    fn check_place(&self) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::super::{MAX_BYTES, MIN_BYTES};
    use super::*;

    fn name(text: &str) -> DiskName {
        text.parse().unwrap()
    }

    fn create(disk: &str, bytes: u64) -> Task {
        Task::Create {
            disk: name(disk),
            bytes,
            sparse: true,
        }
    }

    fn copy(source: &str, destination: &str) -> Task {
        Task::Copy {
            source: name(source),
            destination: name(destination),
        }
    }

    #[test]
    fn names() {
        let (dsk, cow) = ("/disks/a.dsk", "/disks/a.cow");
        let commit = |source, destination| Task::Commit {
            source: name(source),
            destination: name(destination),
        };
        let create_cow = |disk, backing| Task::CreateCow {
            disk: name(disk),
            backing: name(backing),
        };
        let delete = |disk| Task::Delete { disk: name(disk) };
        for good in [
            create(dsk, MIN_BYTES),
            copy("/shared/disks/a.dsk", dsk),
            copy("/shared/disks/a.cow", cow),
            commit("/shared/disks/a.cow", dsk),
            create_cow(cow, "/shared/disks/a.dsk"),
            delete(cow),
        ] {
            good.check().unwrap();
        }
        for (bad, why) in [
            (create("/shared/disks/a.dsk", MIN_BYTES), "only read"),
            (create(cow, MIN_BYTES), "ends in .dsk"),
            (copy(dsk, cow), "ends in .dsk"),
            (copy(cow, dsk), "ends in .cow"),
            (copy(dsk, dsk), "to itself"),
            (copy(dsk, "/shared/disks/b.dsk"), "only read"),
            (copy("/shared/disks/a.dev", dsk), "block devices"),
            (commit(dsk, "/disks/b.dsk"), "ends in .cow"),
            (create_cow(cow, cow), "ends in .dsk"),
            (create_cow(cow, "/shared/disks/a.dev"), "ends in .dsk"),
            (delete("/shared/disks/a.dsk"), "only read"),
        ] {
            let refused = bad.check().unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    /// Only sizes from 1 MiB to 16 TiB are allowed.
    #[test]
    fn sizes() {
        assert_eq!(megabytes(1).unwrap(), MIN_BYTES);
        assert_eq!(megabytes(16 << 20).unwrap(), MAX_BYTES);
        for bad in [0, (16 << 20) + 1, 1 << 43, 1 << 44, 1 << 63, u64::MAX] {
            let refused = megabytes(bad).unwrap_err().to_string();
            assert!(refused.contains("from 1 MiB to 16 TiB"), "{refused}");
        }
        for bad in [0, 512, MIN_BYTES - 512, MIN_BYTES + 1, MAX_BYTES + 512] {
            assert!(create("/disks/a.dsk", bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn tasks_travel_as_json() {
        let task = create("/disks/a.dsk", MIN_BYTES);
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
        let planted = text.replace("/disks/a.dsk", "/disks/../a.dsk");
        assert!(serde_json::from_str::<Task>(&planted).is_err());
    }
}
