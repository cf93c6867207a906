//! Files that root writes where other users or processes have access: log files, and the files that list what a monitor
//! holds. Whether a file has changed since it was read, its replacement as a whole, copies of images, and the removal
//! of directories.
//!
//! Used by the monitor (`umlmon`), by `umldir`, by `umladmin`, and by the mechanisms they call. It uses no other crate
//! of the workspace.

mod held;
mod log_dir;
mod log_file;
mod mark;
mod replacement;
mod sparse;
mod tree;

pub use held::{HeldDir, HeldError};
pub use log_dir::LogDir;
pub use log_file::{Appended, LogEnd, LogFile, OLD};
pub use mark::Mark;
pub use replacement::Replacement;
pub use sparse::{PIECE, copy_sparse, read_sparse};
pub use tree::{Contents, Tree};
