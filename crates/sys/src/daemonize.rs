//! The two calls that turn a program into a daemon and have no safe form elsewhere. Runs in the daemons, before any
//! runtime.
#![allow(unsafe_code)]

use std::io;

use rustix::process::Pid;

/// Which side of a [`fork`] the caller is.
pub enum Side {
    /// The process that called; with the process ID of the new one.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Duplicates the calling process (fork(2)).
///
/// # Errors
/// `ResourceBusy` if the process has more than one thread: in the child only the caller would continue, and locks held
/// by the others would stay locked. Otherwise the error of fork(2), or of reading `/proc/self/task`.
pub fn fork() -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "cannot fork: the process already has several threads",
        ));
    }
    // SAFETY: the process has one thread, as just checked, and no other can appear in between as this thread is the
    // one to create it. So the child is a complete copy, without locks held by threads that do not exist in it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => Pid::from_raw(pid)
            .map(Side::Parent)
            .ok_or_else(|| io::ErrorKind::Other.into()),
    }
}

/// Ends the calling process at once (_exit(2)): nothing is dropped, flushed or called back. For the processes that
/// leave after a [`fork`], whose guards belong to the child now.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(i32::from(status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_threads_are_refused() {
        // The test harness runs this in a thread of its own.
        let error = fork().err().expect("refused");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }
}
