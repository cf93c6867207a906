//! Waiting for a file descriptor or a process, with a deadline and until the wait is cancelled (umladmin, and the other
//! programs that make VMs).

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How often a wait checks whether to go on.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until the descriptor is readable, also because of its end, which for a pidfd is the end of its process. False
/// if that has not happened by then, or if `go_on`, which is called from time to time, returns false.
///
/// # Errors
/// Those of poll(2).
pub fn readable(fd: impl AsFd, until: Instant, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let look = Timespec::try_from(left.min(LOOK)).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&look)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        if left.is_zero() || !go_on() {
            return Ok(false);
        }
    }
}

/// Waits for a process to end; None if it takes longer.
///
/// # Errors
/// If it cannot be waited for.
pub fn child(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process ID"))?;
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else {
        // What a monitor is started with cannot be had without it: it ends at once, and says so.
        return child.wait().map(Some);
    };
    match readable(&fd, Instant::now() + limit, &|| true)? {
        true => child.wait().map(Some),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    fn shell(script: &str, limit: Duration) -> Option<ExitStatus> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        let status = child(&mut shell, limit).unwrap();
        shell.kill().unwrap();
        shell.wait().unwrap();
        status
    }

    #[test]
    fn a_program_is_waited_for_so_long_and_no_longer() {
        let soon = Duration::from_secs(60);
        assert_eq!(shell("exit 7", soon).unwrap().code(), Some(7));
        assert_eq!(shell("exec sleep 600", Duration::from_millis(10)), None);
    }

    #[test]
    fn a_wait_ends_in_time() {
        let (_peer, silent) = UnixStream::pair().unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        assert!(!readable(&silent, until, &|| true).unwrap());
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_wait_ends_when_nobody_waits() {
        let asked = Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < 1;
        let (_peer, silent) = UnixStream::pair().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        assert!(!readable(&silent, until, &go_on).unwrap());
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn what_is_there_is_seen_even_if_it_is_late() {
        let (mut peer, late) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        assert!(readable(&late, Instant::now(), &|| false).unwrap());
        drop(peer);
        assert!(readable(&late, Instant::now(), &|| false).unwrap());
    }
}
