//! Waiting for a file descriptor, with a deadline and until the wait is cancelled (umladmin, and the other programs
//! that make VMs).

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

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
