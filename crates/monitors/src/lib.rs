//! Starting and ending monitors, and temporary VMs: what the programs that make VMs share (umladmin, and the shim of
//! containerd).
//!
//! A program that uses [`Temporary`] or [`look`] is executed again by them, with an argument of theirs: its main
//! function asks [`keeper::is_keeper`] and [`look::is_looker`] first.

pub mod choice;
pub mod disk_work;
pub mod furnish;
pub mod initramfs;
pub mod look;
pub mod pods;
pub mod process;
pub mod start;
pub mod survivor;
mod temporary;
pub mod wait;

pub use furnish::cannot;
pub use temporary::{Temporary, keeper, user};

/// The configuration file of a temporary VM, in its directory.
const CONFIGURATION: &str = "umlmon";

/// What this program is called, in messages and names of files.
fn program() -> String {
    let exe = std::env::current_exe().unwrap_or_default();
    let name = exe.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether this process was started by this program, to be what the argument says.
fn is_started_with(argument: &str) -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == argument)
}
