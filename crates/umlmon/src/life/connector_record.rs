//! Which process makes the connections of a VM, for the next monitor: the file `VARDIR/VM/connections` (umlmon, the
//! monitor process).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::record::Process;
use crate::root_file;
use crate::second::confined::Confined;
use crate::survivor;

/// The file.
const NAME: &str = "connections";

/// How long a process may take to end. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is in it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The host's boot (`/proc/sys/kernel/random/boot_id`).
    boot: String,
    process: Process,
}

/// Records this process.
///
/// # Errors
/// If that cannot be written.
pub fn write(vm_dir: BorrowedFd<'_>, process: &Confined) -> io::Result<()> {
    let pid = i32::try_from(process.pid()).map_err(io::Error::other)?;
    let record = Record {
        boot: daemon::boot()?,
        process: Process::of(pid)?,
    };
    root_file::write(vm_dir, NAME, &serde_json::to_vec(&record)?)
}

/// The process that is recorded, if it still runs. Dropping the result ends it.
///
/// # Errors
/// If the record cannot be read, or the process cannot be watched.
pub fn find(vm_dir: BorrowedFd<'_>) -> io::Result<Option<Confined>> {
    let Some(child) = running(vm_dir)? else {
        return Ok(None);
    };
    // It has read its order, so that there is no pipe any more.
    let pipe = child.pidfd.try_clone()?;
    let found = Confined::watch(child, pipe)?;
    found.take_over();
    Ok(Some(found))
}

/// Ends the process that is recorded, if it still runs without a VM, and removes the record.
///
/// # Errors
/// If the record cannot be read or removed, or the process does not end.
pub fn end_left(vm_dir: BorrowedFd<'_>) -> io::Result<()> {
    if let Some(left) = running(vm_dir)? {
        // It may have ended by now.
        let _ = pidfd_send_signal(&left.pidfd, Signal::KILL);
        if !survivor::has_ended(&left.pidfd, PATIENCE) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    remove(vm_dir)
}

fn running(vm_dir: BorrowedFd<'_>) -> io::Result<Option<sys::Child>> {
    let Some(text) = root_file::read(vm_dir, NAME)? else {
        return Ok(None);
    };
    let Record { boot, process } = serde_json::from_slice(&text)?;
    let pidfd = survivor::running(&boot, process)?;
    let pid = process.pid;
    Ok(pidfd.map(|pidfd| sys::Child { pid, pidfd }))
}

/// Removes the record, if there is one.
///
/// # Errors
/// As unlink(2).
pub fn remove(vm_dir: BorrowedFd<'_>) -> io::Result<()> {
    root_file::remove(vm_dir, NAME)
}
