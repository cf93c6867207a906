//! Going on with another program in place of this one, while the VM runs (umlmon, the monitor process).
//!
//! The program on the disk is asked first whether it can take the VM over. Then it is executed in this process, which
//! keeps its number: to a service manager nothing has happened. It begins as any monitor does that finds a running VM.
//! Locks and sockets are given up by the execution and taken again; clients connect again. Signals that end the monitor
//! wait until the new program receives them, and so end the VM as always.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::time::timeout;

use crate::record::{self, FORMAT};

/// The option by which a program is asked.
pub const CAN_ADOPT: &str = "can-adopt";
/// The option by which it goes on in the process of the other.
pub const IN_PLACE: &str = "in-place";
/// How long the program may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the host adds to the name of a file that was removed (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// Whether this program takes over a VM with a record of this format.
#[must_use]
pub fn can_adopt(format: &OsStr) -> bool {
    let format = format.to_str().and_then(|format| format.parse().ok());
    format.is_some_and(|format| record::FORMATS.contains(&format))
}

/// Whether another monitor has executed this program in its process, by [`execute`].
#[must_use]
pub fn is_in_place() -> bool {
    let first = std::env::args_os().nth(1);
    first.is_some_and(|first| {
        first.as_encoded_bytes().strip_prefix(b"-") == Some(IN_PLACE.as_bytes())
    })
}

/// Where this program was, which is where a newer one is.
///
/// # Errors
/// If it cannot be told.
pub fn program() -> Result<PathBuf, String> {
    let path =
        std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let mut bytes = path.into_os_string().into_vec();
    if bytes.ends_with(DELETED) {
        bytes.truncate(bytes.len() - DELETED.len());
    }
    Ok(OsString::from_vec(bytes).into())
}

/// Asks a program whether it can take over what this one has recorded.
///
/// # Errors
/// Why not.
pub async fn ask(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let text = |text: &[u8]| CString::new(text).map_err(|error| error.to_string());
    let format = FORMAT.to_string();
    let path = text(program.as_os_str().as_encoded_bytes())?;
    let argv = [
        path.clone(),
        text(format!("-{CAN_ADOPT}").as_bytes())?,
        text(format.as_bytes())?,
    ];
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.map_err(|error| format!("/dev/null: {error}"))?;
    let fds = [(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2)];
    let child = sys::spawn_session(&path, &argv, &[], &fds);
    let child = child.map_err(|error| format!("{shown} cannot be executed: {error}"))?;
    let pidfd = sys::readable(child.pidfd).map_err(|error| error.to_string())?;
    let in_time = timeout(PATIENCE, pidfd.readable()).await.is_ok();
    if !in_time {
        let _ = pidfd_send_signal(pidfd.get_ref(), Signal::KILL);
    }
    let ended = waitid(
        WaitId::PidFd(pidfd.get_ref().as_fd()),
        WaitIdOptions::EXITED,
    );
    match ended.ok().flatten().and_then(|end| end.exit_status()) {
        Some(0) if in_time => Ok(()),
        _ if !in_time => Err(format!("{shown} does not answer")),
        _ => Err(format!(
            "{shown} cannot take over a VM of this release (format {FORMAT})"
        )),
    }
}

/// Executes the program in this process, to be called when [`daemon::Signals`] are received. Returns only if that
/// fails.
pub fn execute(program: &Path, configuration: &Path, foreground: bool, vm: &str) -> String {
    let mut command = Command::new(program);
    command.arg(format!("-{IN_PLACE}"));
    if foreground {
        command.arg("-fg");
    }
    command.arg("-config").arg(configuration).arg(vm);
    let error = command.exec();
    format!("{} cannot be executed: {error}", program.display())
}
