//! Reports about work while it goes on (umlmon: from the process that works on disks to the monitor).

use config::DiskName;
use serde::{Deserialize, Serialize};

/// A disk as [`Task::List`](super::Task::List) finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub disk: DiskName,
    /// Bytes of the file; 0 for a block device. A copy-on-write image is a bit longer than its disk.
    pub size: u64,
    /// Bytes that it occupies.
    pub allocated: u64,
    /// When it was last modified, in seconds since 1970.
    pub modified: i64,
    /// For a copy-on-write image.
    pub cow: Option<CowEntry>,
}

/// The contents of a copy-on-write image's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CowEntry {
    /// The header can be read.
    Header {
        /// 1, 2 or 3; only 3 can be imported.
        version: u32,
        /// The name of the backing file: at most 255 bytes of it, printable ASCII, the rest as `\xNN`.
        backing: String,
        /// Bytes of the disk.
        size: u64,
        /// The low 32 bits of when the backing file was last modified, in seconds since 1970.
        modified: u32,
        /// Why the kernel will refuse the pair of image and backing file, if it will.
        problem: Option<String>,
    },
    /// Why it is not an image that can be used.
    Unusable(String),
}

/// The receiver of reports.
pub trait Watch {
    /// So many bytes of `total` are done, or disks for [`Task::List`](super::Task::List); the last call has `done ==
    /// total`. While a copy or commit counts its data, `done` is 0 and `total` an estimate. Work that takes no time
    /// reports nothing. Returning `false` cancels the work, which then undoes what it did and ends with
    /// [`Error::Cancelled`](super::Error::Cancelled).
    fn progress(&mut self, done: u64, total: u64) -> bool;

    /// [`Task::List`](super::Task::List) has found a disk.
    fn found(&mut self, entry: Entry);
}
