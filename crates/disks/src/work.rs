//! Work on the disks of one VM: create, copy, resize, delete, and what copy-on-write images need (umlmon, in a
//! short-lived process that is confined to the jail like the kernel, and has the rights of the VM's user).
//!
//! The directory `/disks` belongs to that user, so everything in it is hostile: symbolic links, further names of other
//! files, FIFOs, headers that lie. Every file is opened relative to a directory that is held, without following links
//! and without waiting, and is looked at before it is used.
//!
//! **What is half-made has another name**, [`PARTIAL_PREFIX`] and [`PARTIAL_SUFFIX`] around its own, until it is
//! complete. Whatever ends the work before removes it; what a killed process leaves behind is removed by
//! [`Task::Discard`], or, if the monitor was killed as well, by [`Task::Tidy`].
//!
//! **After a power failure** an image with a name is what it was made to be: headers and changes of size are flushed before
//! the work is reported as done. That the name of a new disk is there, and the data of a copy or a commit, the host writes
//! within half a minute, as with any other file: to wait for it would take as long as the work itself.

mod commit;
mod copy;
mod create;
mod draft;
mod error;
mod extents;
mod list;
mod meter;
mod place;
mod resize;
mod space;
mod task;

pub use error::Error;
pub use place::Workplace;
pub use task::{MAX_BYTES, MIN_BYTES, Task, megabytes};

use config::DiskName;
use serde::{Deserialize, Serialize};

/// What the name of a half-made file begins with: `.root.dsk.part` will be `root.dsk`. No disk can have such a name.
pub const PARTIAL_PREFIX: &str = ".";
/// What the name of a half-made file ends with.
pub const PARTIAL_SUFFIX: &str = ".part";

/// The most disks that [`Task::List`] finds.
pub const MAX_LISTED: usize = 4096;

/// Is this the name of a half-made file, so that [`Task::Tidy`] would remove it?
pub fn is_partial(name: &[u8]) -> bool {
    let name = std::str::from_utf8(name).unwrap_or_default();
    let name = name.strip_prefix(PARTIAL_PREFIX);
    let name = name.and_then(|name| name.strip_suffix(PARTIAL_SUFFIX));
    name.is_some_and(|name| format!("/disks/{name}").parse::<DiskName>().is_ok())
}

/// A disk as [`Task::List`] finds it.
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

/// What a copy-on-write image says of itself.
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

/// Who is told what happens.
pub trait Watch {
    /// So many bytes of `total` are done, or disks for [`Task::List`]; the last call has `done == total`. While a copy or
    /// commit counts its data, `done` is 0 and `total` an estimate. Nothing is told where nothing takes time. The answer
    /// `false` cancels the work, which then undoes what it did and ends with [`Error::Cancelled`].
    fn progress(&mut self, done: u64, total: u64) -> bool;

    /// [`Task::List`] has found a disk.
    fn found(&mut self, entry: Entry);
}

impl Workplace {
    /// Does the work, from checking the task to leaving nothing behind.
    ///
    /// # Errors
    /// See [`Error`]. Nothing has changed then.
    pub fn perform(&self, task: &Task, watch: &mut dyn Watch) -> Result<(), Error> {
        task.check()?;
        match task {
            Task::Create {
                disk,
                bytes,
                sparse,
            } => self.create(disk, *bytes, *sparse, watch),
            Task::CreateCow { disk, backing } => self.create_cow(disk, backing),
            Task::Delete { disk } => self.delete(disk),
            Task::Copy {
                source,
                destination,
            } => self.copy(source, destination, watch),
            Task::Resize {
                disk,
                bytes,
                sparse,
            } => self.resize(disk, *bytes, *sparse, watch),
            Task::Import { disk, backing } => self.import(disk, backing),
            Task::Commit {
                source,
                destination,
            } => self.commit(source, destination, watch),
            Task::List => self.list(watch),
            Task::Tidy => self.tidy(),
            Task::Discard { disk } => draft::discard(self, disk),
        }
    }
}
