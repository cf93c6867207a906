//! Files that root writes where other users or processes have access: log files, and the files that list what a monitor
//! holds. And whether a file has changed since it was read.
//!
//! Used by the monitor (`umlmon`), by `umldir`, and by the mechanisms they call. It uses no other crate of the
//! workspace.

mod held;
mod log_dir;
mod log_file;
mod mark;

pub use held::{HeldDir, HeldError};
pub use log_dir::LogDir;
pub use log_file::{Appended, LogFile, OLD};
pub use mark::Mark;
