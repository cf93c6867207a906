//! Why work on disks was not done, in sentences for the user (umlmon, in the process that works on disks).

use std::io;

use config::{DiskName, SnapshotLabel};
use rustix::io::Errno;

use super::size::{MAX_BYTES, MIN_BYTES};
use crate::cow::Unusable;

/// Why the work was not done. All its changes have been undone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the two directories is not there, or cannot be read.
    #[error("cannot open the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// There are more names in a directory than are read.
    #[error("there are too many files in {0}; remove what is no disk, or use the others by name")]
    Crowded(&'static str),
    /// A rule forbids it.
    #[error("{disk}: {why}")]
    Refused {
        /// The disk the rule is about.
        disk: DiskName,
        /// The rule, and what to do.
        why: String,
    },
    /// A size that no disk can have.
    #[error(
        "a disk of {bytes} bytes is not possible; a disk has from {} MiB to {} TiB, and whole sectors of 512 bytes",
        MIN_BYTES >> 20,
        MAX_BYTES >> 40
    )]
    Size {
        /// What was asked for.
        bytes: u64,
    },
    /// The new name is taken, be it by a file, a symbolic link or anything else.
    #[error("{disk} already exists; delete it first, or choose another name")]
    Exists {
        /// The disk that was to be made.
        disk: DiskName,
    },
    /// There is no such file.
    #[error("{disk} does not exist")]
    Missing {
        /// The disk.
        disk: DiskName,
    },
    /// A symbolic link, a FIFO, a directory, ...
    #[error("{disk} is not a regular file, but {found}; remove it in the directory of the VM")]
    Kind {
        /// The disk.
        disk: DiskName,
        /// What is there.
        found: &'static str,
    },
    /// A hard link: the file could be one that must not be changed.
    #[error(
        "{disk} is a file with {links} hard links, so it is not changed; copy it, and delete this name on the host"
    )]
    Links {
        /// The disk.
        disk: DiskName,
        /// How many names the file has.
        links: u64,
    },
    /// The file belongs to another user.
    #[error(
        "{disk} belongs to the user {owner} and not to the VM's, {user}, so it is not changed; try chown on the host"
    )]
    Owner {
        /// The disk.
        disk: DiskName,
        /// Its owner.
        owner: u32,
        /// The user that does the work.
        user: u32,
    },
    /// The mode forbids it.
    #[error(
        "{disk} is not {action} by the VM's user (owner {owner}, mode {mode:04o}); try chown or chmod on the host"
    )]
    Permission {
        /// The disk.
        disk: DiskName,
        /// "readable" or "writable".
        action: &'static str,
        /// The owner of the file.
        owner: u32,
        /// The permission bits of the file.
        mode: u32,
    },
    /// It is known in advance that the space does not suffice.
    #[error(
        "there is not enough space for {disk}: {} MiB are needed, {} MiB are free, and {} MiB of them must stay free",
        mebibytes(*.needed), free >> 20, mebibytes(*.reserve)
    )]
    Space {
        /// The disk.
        disk: DiskName,
        /// Bytes that it would occupy.
        needed: u64,
        /// Bytes that are available.
        free: u64,
        /// Bytes that are reserved for other uses.
        reserve: u64,
    },
    /// The space has been used by others in the meantime.
    #[error(
        "the file system became full while {disk} was written, and what was written is removed; free some space"
    )]
    Full {
        /// The disk.
        disk: DiskName,
    },
    /// The quota of the VM's user is exhausted.
    #[error(
        "the quota of the VM's user does not suffice for {disk}, and what was written is removed; free some space"
    )]
    Quota {
        /// The disk.
        disk: DiskName,
    },
    /// The file system has a limit below ours.
    #[error("{disk} would be larger than a file can be there; choose a smaller size")]
    TooLarge {
        /// The disk.
        disk: DiskName,
    },
    /// Another process writes the file that is read.
    #[error(
        "{disk} was changed while it was read, so the result is discarded; try it again when nobody uses it"
    )]
    Changed {
        /// The disk.
        disk: DiskName,
    },
    /// A copy-on-write image that is not valid.
    #[error("{disk} cannot be used: {why}")]
    Cow {
        /// The image.
        disk: DiskName,
        /// The reason.
        why: Unusable,
    },
    /// A snapshot has this label already.
    #[error("there is a snapshot {0} already; delete it first, or choose another label")]
    SnapshotExists(SnapshotLabel),
    /// No snapshot has this label.
    #[error("there is no snapshot {0}")]
    NoSnapshot(SnapshotLabel),
    /// A snapshot is of other disks than those that should be changed.
    #[error("the snapshot {0} has other disks than it had a moment ago; try it again")]
    OtherDisks(SnapshotLabel),
    /// A system call failed.
    #[error("cannot {action} {disk}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The disk.
        disk: DiskName,
        /// The reason.
        source: io::Error,
    },
    /// [`progress`](super::Watch::progress) returned false.
    #[error("cancelled, and what was done is undone")]
    Cancelled,
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Makes an error from that of a system call.
pub(super) fn failed(action: &'static str, disk: &DiskName, source: impl Into<io::Error>) -> Error {
    let (source, disk) = (source.into(), disk.clone());
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC) => Error::Full { disk },
        Some(Errno::DQUOT) => Error::Quota { disk },
        Some(Errno::FBIG) => Error::TooLarge { disk },
        _ => Error::Io {
            action,
            disk,
            source,
        },
    }
}

/// An error about a rule.
pub(super) fn refused(disk: &DiskName, why: impl Into<String>) -> Error {
    Error::Refused {
        disk: disk.clone(),
        why: why.into(),
    }
}
