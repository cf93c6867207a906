//! Connecting to a server on this host. Runs in the clients, and in umlmon, which is a client of umldir.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Connects to the server that listens at this path, which may be longer than a socket address. Unlike
/// [`UnixStream::connect`], it does not wait forever if the server accepts nothing and its backlog is full: it waits
/// for `limit`, or not at all if that is zero. `limit` is also the time limit of writes on the stream, until another
/// one is set.
///
/// # Errors
/// [`ErrorKind::TimedOut`] if the server accepts nothing; otherwise those of open(2) of the directory and of
/// connect(2).
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let waits = match limit.is_zero() {
        true => SocketFlags::NONBLOCK,
        false => SocketFlags::empty(),
    };
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | waits, None)?;
    if !limit.is_zero() {
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    }
    // Through the descriptor, the path is short enough for a socket address however deep the directory is.
    let (directory, name) = (path.parent(), path.file_name());
    let (directory, name) = directory.zip(name).ok_or(ErrorKind::InvalidInput)?;
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    rustix::net::connect(&socket, &SocketAddrUnix::new(short)?).map_err(|e| match e {
        rustix::io::Errno::AGAIN => io::Error::from(ErrorKind::TimedOut),
        e => e.into(),
    })?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_full_backlog_does_not_block_forever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctrl");
        let _listener = UnixListener::bind(&path).unwrap();
        // And its path may be too long for an address.
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("ctrl");
        std::fs::rename(dir.path().join("ctrl"), &path).unwrap();
        let mut held = Vec::new();
        let error = loop {
            match connect(&path, Duration::from_millis(5)) {
                Ok(stream) => held.push(stream),
                Err(e) => break e,
            }
            assert!(held.len() < 10_000);
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let error = connect(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "without waiting");
    }

    #[test]
    fn a_socket_that_is_not_there_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("ctrl"), dir.path().join("vm1/ctrl")] {
            let error = connect(&path, Duration::from_secs(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
}
