//! Work that is done in a process of its own before a daemon is one (umlmon).

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use sys::daemonize::{Side, exit_now, fork};

use crate::background::explained;

/// Calls `work` in a copy of this process, which ends then, and returns what it returned: what the work loads and leaves
/// in memory is not the daemon's, which lives long. To be called while the process has one thread.
///
/// # Errors
/// There is no process to be had, or it ended before it had returned anything.
pub fn aside(work: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = match fork().map_err(explained)? {
        Side::Parent(child) => child,
        Side::Child => {
            let told = File::from(write).write_all(&work());
            exit_now(u8::from(told.is_err()));
        }
    };
    drop(write);
    let mut result = Vec::new();
    let read = File::from(read).read_to_end(&mut result);
    let status = retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()))?;
    read?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(result),
        _ => Err(io::Error::other(
            "the process that should find out has ended",
        )),
    }
}
