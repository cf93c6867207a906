//! What can go wrong while a daemon starts, worded for the administrator. In umlmon and umldir, and in umladmin where
//! it reads a pid file.

use std::io;
use std::path::PathBuf;

/// The operation that failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the lock.
    #[error("already running, pid {pid}")]
    Running {
        /// The process ID of the daemon that runs.
        pid: u32,
    },
    /// Another process holds the lock and has not written its process ID yet.
    #[error("another process is starting it ({} is locked); try again", path.display())]
    Starting {
        /// The pid file.
        path: PathBuf,
    },
    /// The pid file cannot be used.
    #[error("cannot {what} the pid file {}: {source}", path.display())]
    PidFile {
        /// A verb phrase.
        what: &'static str,
        /// The pid file.
        path: PathBuf,
        /// The error of the system call, or what is wrong with the file.
        source: io::Error,
    },
    /// Who listens on a socket is not known.
    #[error("cannot find out who listens on {}: {source}", path.display())]
    Ask {
        /// The socket.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// `/proc` is not there.
    #[error(
        "/proc is not mounted on this host, but required; mount it first: mount -t proc proc /proc"
    )]
    NoProc,
    /// A limit of the caller cannot be lifted.
    #[error(
        "start it without the limit that `ulimit {option}` shows, which cannot be lifted: {source}"
    )]
    Limit {
        /// The option of the shell's `ulimit`.
        option: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
    /// The directory of the pid files cannot be used.
    #[error("cannot use rundir, {}: {source}", path.display())]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// The error of the system call, or what is wrong with the directory.
        source: io::Error,
    },
    /// The daemon cannot go to the background.
    #[error("cannot go to the background: {0}")]
    Background(#[source] io::Error),
    /// The log file cannot be used.
    #[error("cannot open the log file {}: {source}", path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// The error of the system call, or what is wrong with the file.
        source: io::Error,
    },
    /// Another file is in the place of the socket, and no earlier daemon has made it.
    #[error("{} exists and is not a socket of a former daemon; remove it", .0.display())]
    InTheWay(PathBuf),
    /// The socket cannot be bound.
    #[error("cannot listen on {}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// There is a log already in this process.
    #[error("the log has been set up before")]
    LogTwice,
}
