//! The sockets of a daemon in the file system. Runs in umlmon, in the monitor process, and in umldir.
//!
//! The listening socket determines the trust: a user who can reach `ctrl` of a VM may command it, as the permissions of
//! its directory say (umlmon(7)). The service at the socket of umldir checks which user calls.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode};
use tokio::net::UnixStream;

use crate::Error;

/// How long accepting pauses when the process or the host has no descriptors left.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// Connections that may wait in the queue; the host's kernel reduces it to its own limit.
const BACKLOG: i32 = 4096;

/// A bound socket file, removed when dropped.
#[derive(Debug)]
pub struct CtrlSocket {
    directory: OwnedFd,
    name: &'static str,
    listener: Option<UnixListener>,
}

impl CtrlSocket {
    /// Binds `DIRECTORY/ctrl`, to which any user may connect who can reach it.
    ///
    /// The caller holds the daemon's locks (see [`crate::Home`]), so a socket that is there already is a leftover. It
    /// has one thread: for a moment the umask of the process is another.
    ///
    /// # Errors
    /// [`Error::InTheWay`], [`Error::Listen`].
    pub fn bind(directory: &Path) -> Result<CtrlSocket, Error> {
        CtrlSocket::bind_with(directory, "ctrl", Mode::empty())
    }

    /// Binds `DIRECTORY/name`, to which only root may connect; else as [`CtrlSocket::bind`].
    ///
    /// # Errors
    /// [`Error::InTheWay`], [`Error::Listen`].
    pub fn bind_private(directory: &Path, name: &'static str) -> Result<CtrlSocket, Error> {
        CtrlSocket::bind_with(directory, name, Mode::XUSR | Mode::RWXG | Mode::RWXO)
    }

    /// Binds `DIRECTORY/name`; else as [`CtrlSocket::bind`].
    ///
    /// # Errors
    /// [`Error::InTheWay`], [`Error::Listen`].
    pub fn bind_named(directory: &Path, name: &'static str) -> Result<CtrlSocket, Error> {
        CtrlSocket::bind_with(directory, name, Mode::empty())
    }

    fn bind_with(directory: &Path, name: &'static str, umask: Mode) -> Result<CtrlSocket, Error> {
        let path = directory.join(name);
        let refuse = |source: io::Error| Error::Listen {
            path: path.clone(),
            source,
        };
        let directory = OwnedFd::from(File::open(directory).map_err(refuse)?);
        match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat)
                if FileType::from_raw_mode(stat.st_mode) == FileType::Socket
                    && stat.st_uid == 0 =>
            {
                rustix::fs::unlinkat(&directory, name, AtFlags::empty())
                    .map_err(|e| refuse(e.into()))?;
            }
            Ok(_) => return Err(Error::InTheWay(path)),
            Err(_) => {}
        }
        // Through the descriptor, the path is short enough for a socket address however deep the directory is. The mode
        // must be right from the beginning.
        let umask = rustix::process::umask(umask);
        let listener =
            UnixListener::bind(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
        rustix::process::umask(umask);
        let listener = listener.map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        Ok(CtrlSocket {
            directory,
            name,
            listener: Some(listener),
        })
    }

    /// Begins to accept. Called within the runtime.
    ///
    /// # Errors
    /// If the runtime cannot register the socket.
    pub fn acceptor(&mut self) -> io::Result<Acceptor> {
        let listener = self
            .listener
            .take()
            .ok_or_else(|| io::Error::other("the socket is in use already"))?;
        // The listener was bound by the process that was started. Since this call it belongs, for those who connect, to
        // the process that calls it.
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Acceptor(tokio::net::UnixListener::from_std(listener)?))
    }
}

impl Drop for CtrlSocket {
    fn drop(&mut self) {
        // It is no error if it is gone already.
        let _ = rustix::fs::unlinkat(&self.directory, self.name, AtFlags::empty());
    }
}

/// Whether only the connection that was to be accepted next is gone: then the one after it need not wait, and clients
/// cannot fill the log by closing early.
pub(crate) fn concerns_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
    )
}

/// Accepts connections.
#[derive(Debug)]
pub struct Acceptor(tokio::net::UnixListener);

impl Acceptor {
    /// The next connection. Without descriptors, it waits instead of spinning.
    pub async fn next(&self) -> UnixStream {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) if concerns_one(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
