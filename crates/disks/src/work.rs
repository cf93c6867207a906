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
