//! Descriptors that the caller has left open on purpose. Used by the monitor's second process.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// The numbers already handed out by [`inherited_fd`], so that no descriptor gets two owners.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes ownership of descriptor `number`, which this process got from the one that executed it, and marks it
/// close-on-exec.
///
/// Call it at the beginning of `main`, before the process opens anything itself. Each number can be taken once.
///
/// # Errors
/// `EBADF` if nothing is open there, `EBUSY` if the number was taken before or is a standard stream.
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if number <= 2 || taken.contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: fcntl reads and writes no memory of ours; for a number that is not open it fails with EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    taken.push(number);
    // SAFETY: the descriptor is open (checked above), is none of the standard streams, and TAKEN makes this the only
    // place and time where an owner for this inherited number is made.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn an_inherited_descriptor_has_one_owner() {
        let number = File::open("/dev/null").unwrap().into_raw_fd();
        let owned = inherited_fd(number).unwrap();
        assert_eq!(owned.as_raw_fd(), number);
        let again = inherited_fd(number).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EBUSY));
        assert_eq!(
            inherited_fd(9999).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert!(inherited_fd(1).is_err());
    }
}
