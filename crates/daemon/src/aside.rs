//! Work that is done in a separate process before a program becomes a daemon (umlmon).

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use sys::daemonize::{Side, exit_now, fork};

use crate::background::explained;

/// Calls `work` in a copy of this process, which ends then, and returns its result: so the memory and the libraries
/// that the work needs do not stay in the daemon. To be called while the process has one thread.
///
/// # Errors
/// No process could be made, or it ended before it had returned a result.
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
