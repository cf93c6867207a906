//! Waiting in tokio for one direction of a descriptor only. Used by the monitor and by umldir.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd` with the current tokio runtime for reading only.
///
/// Asking for readability alone matters: a socket that also waits for writability wakes its owner each time the peer
/// consumes a reply. The descriptor should be non-blocking (or be used with `MSG_DONTWAIT`).
///
/// # Errors
/// As epoll_ctl(2); `EPERM` for a regular file.
///
/// # Panics
/// Outside a tokio runtime with I/O enabled.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    debug_assert!(fd.as_raw_fd() >= 0);
    // SAFETY: AsyncFd owns the OwnedFd, which stays open and keeps its number until it is dropped or given back.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Registers `fd` with the current tokio runtime for writing only: for as long as something waits to be written.
///
/// # Errors
/// As epoll_ctl(2); `EEXIST` for a descriptor that is registered already, but not for a duplicate of it.
///
/// # Panics
/// Outside a tokio runtime with I/O enabled.
pub fn writable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    debug_assert!(fd.as_raw_fd() >= 0);
    // SAFETY: as in `readable`.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::WRITABLE) }?)
}
