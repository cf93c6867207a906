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
mod perform;
mod resize;
mod size;
mod space;
mod task;
mod watch;
mod workplace;

pub use draft::{PARTIAL_PREFIX, PARTIAL_SUFFIX, is_partial};
pub use error::Error;
pub use list::MAX_LISTED;
pub use size::{MAX_BYTES, MIN_BYTES};
pub use task::{Operand, Task, Usage, megabytes};
pub use watch::{CowEntry, Entry, Watch};
pub use workplace::Workplace;
