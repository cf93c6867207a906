//! Running a program of the host that reads text and ends soon, or goes into the background. By the monitor and by
//! `umladmin`, as root.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// How long a program may take. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of its output is read, in bytes.
const MAX_OUTPUT: u64 = 4 << 10;

/// Runs it with this input, and waits for its end.
///
/// # Errors
/// What it says, if it fails.
pub(super) fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<()> {
    // Files, so that nobody waits for the other one.
    let mut stdin = scratch()?;
    stdin.write_all(input.as_bytes())?;
    stdin.seek(SeekFrom::Start(0))?;
    let mut output = scratch()?;
    let null = File::open("/dev/null")?;
    let name = |text: &str| CString::new(text).map_err(io::Error::from);
    let words = [program].into_iter().chain(arguments.iter().copied());
    let words: Vec<CString> = words.map(name).collect::<io::Result<_>>()?;
    let fds = [(stdin.as_fd(), 0), (null.as_fd(), 1), (output.as_fd(), 2)];
    // With the signals of the monitor blocked, it would never end.
    let child = sys::spawn_session(&name(program)?, &words, &[], &fds)
        .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if !ends(&child.pidfd, PATIENCE) {
        // It may have ended by now.
        let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    }
    let wait = || waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    let status = retry_on_intr(wait)?.and_then(|status| status.exit_status());
    if status == Some(0) {
        return Ok(());
    }
    let mut said = Vec::new();
    output.seek(SeekFrom::Start(0))?;
    output.take(MAX_OUTPUT).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it does not say why").trim();
    let line = line.escape_debug();
    Err(io::Error::other(format!("{program}: {line}")))
}

/// Waits for the end of a process; false if it does not come in time.
pub(super) fn ends(process: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    loop {
        match poll(&mut polled, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            found => return found.is_ok_and(|count| count > 0),
        }
    }
}

fn scratch() -> io::Result<File> {
    Ok(memfd_create("umlmon", MemfdFlags::CLOEXEC)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_the_error() {
        run("/bin/grep", &["-q", "needle"], "hay\nneedle\n").unwrap();
        let said = run("/bin/sh", &["-s"], "echo why >&2; exit 3\n").unwrap_err();
        let said = said.to_string();
        assert!(said.contains("/bin/sh: why"), "{said}");
        let missing = run("/nowhere/nft", &[], "").unwrap_err().to_string();
        assert!(missing.contains("/nowhere/nft"), "{missing}");
    }
}
