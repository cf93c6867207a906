//! Files that root writes where others have a hand in it: log files, and the files that say what a monitor holds.
//!
//! Used by the monitor (`umlmon`), by `umldir`, and by the mechanisms they call. It knows no other crate of the workspace.

mod held;
mod log_dir;

pub use held::{HeldDir, HeldError};
pub use log_dir::LogDir;
