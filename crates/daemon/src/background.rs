//! Going to the background, such that the exit status of the started program shows whether the daemon is ready.
//!
//! The program that was started waits until the daemon reports that it is ready, or why it is not:
//!
//! ```text
//!   started program ---- waits for a report on the pipe, prints an error, exits with its status
//!     +-- second process: leads a new session, forks and leaves, so that
//!           +-- daemon    can never get a controlling terminal again
//! ```

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, chdir, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use sys::daemonize::{Side, exit_now, fork};

use crate::{Error, PidFile, notify};

/// The longest error report, in bytes.
const REPORT_MAX: usize = 4096;

/// The connection to the program that started the daemon, until it is ready. Dropping it unused reports a failure.
#[derive(Debug)]
pub struct Readiness {
    /// `None` in the foreground, and after the report.
    pipe: RefCell<Option<File>>,
}

/// Takes the daemon to the background, unless `foreground`, and writes the pid files. Returns in the daemon only. To be
/// called while the process has one thread, after all steps whose failure must be reported on the terminal.
///
/// # Errors
/// [`Error::Background`], [`Error::PidFile`].
pub fn background(foreground: bool, pid_files: &[PidFile]) -> Result<Readiness, Error> {
    let pipe = if foreground {
        // The file system of the caller's current directory can then be unmounted.
        chdir("/").map_err(|e| Error::Background(e.into()))?;
        None
    } else {
        Some(detach().map_err(|e| Error::Background(explained(e)))?)
    };
    let readiness = Readiness {
        pipe: RefCell::new(pipe),
    };
    if let Err(error) = pid_files.iter().try_for_each(PidFile::write) {
        readiness.failed(1, &error.to_string());
        return Err(error);
    }
    Ok(readiness)
}

/// Whether the process has a controlling terminal. SIGHUP then means that the terminal is gone, and else that logs are
/// to be opened anew: in the background, and where a supervisor has started the daemon.
pub fn has_terminal() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    open("/dev/tty", flags, Mode::empty()).is_ok()
}

impl Readiness {
    /// The daemon is ready: the started program exits with status 0, the terminal is released, and a service manager
    /// that waits for it is notified.
    ///
    /// # Errors
    /// [`Error::Background`] if `/dev/null` cannot be opened.
    pub fn ready(&self) -> Result<(), Error> {
        if let Some(pipe) = self.pipe.take() {
            let null = OpenOptions::new().read(true).write(true).open("/dev/null");
            let null = null.map_err(Error::Background)?;
            dup2_stdin(&null)
                .and_then(|()| dup2_stdout(&null))
                .and_then(|()| dup2_stderr(&null))
                .map_err(|e| Error::Background(e.into()))?;
            // The waiting program may have been killed; the daemon continues nevertheless.
            let _ = (&pipe).write_all(&[0]);
        }
        if let Err(error) = notify::ready() {
            tracing::warn!("cannot tell the service manager that the daemon is ready: {error}");
        }
        Ok(())
    }

    /// The daemon cannot start: the started program prints `message`, a whole line of text without its end, on stderr
    /// and exits with `status`. Returns whether that program is still there to print it; if not (in the foreground, or
    /// after [`Readiness::ready`]) the caller must report the error.
    pub fn failed(&self, status: u8, message: &str) -> bool {
        let Some(pipe) = self.pipe.take() else {
            return false;
        };
        let mut report = vec![status.max(1)];
        report.extend(message.bytes().take(REPORT_MAX - 1));
        (&pipe).write_all(&report).is_ok()
    }
}

/// Forks twice; returns the writing end of the pipe in the last process. The other two end here.
fn detach() -> io::Result<File> {
    let (report, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
    if let Side::Parent(second) = fork()? {
        drop(pipe);
        has_detached(second)?;
        wait_for_report(File::from(report));
    }
    drop(report);
    let detached = setsid()
        .map_err(io::Error::from)
        .and_then(|_| fork())
        .and_then(|side| match side {
            Side::Parent(_) => exit_now(0),
            Side::Child => Ok(chdir("/")?),
        });
    if let Err(error) = detached {
        // The started program has inherited everything that was acquired, and closes it.
        let number = error
            .raw_os_error()
            .and_then(|number| u8::try_from(number).ok());
        exit_now(number.filter(|number| *number > 0).unwrap_or(u8::MAX));
    }
    Ok(File::from(pipe))
}

/// The error of a host that lacks a resource, with a hint what to do.
pub(crate) fn explained(error: io::Error) -> io::Error {
    match sys::shortage(&error) {
        Some(hint) => io::Error::other(format!("{error} ({hint})")),
        None => error,
    }
}

/// Waits for the second process to end; if there is no daemon, its exit status is the error that prevented that.
fn has_detached(second: Pid) -> io::Result<()> {
    let status = retry_on_intr(|| waitpid(Some(second), WaitOptions::empty()))?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(number) if number < i32::from(u8::MAX) => Err(io::Error::from_raw_os_error(number)),
        _ => Err(io::Error::other("the process that starts it was killed")),
    }
}

/// The end of the started program.
fn wait_for_report(report: File) -> ! {
    let mut text = Vec::new();
    let _ = report.take(REPORT_MAX as u64).read_to_end(&mut text);
    let (status, message) = match text.split_first() {
        Some((status, message)) => (*status, message),
        None => (1, &b"the daemon ended before it was ready; see its log"[..]),
    };
    if !message.is_empty() {
        let _ = io::stderr().write_all(&[message, b"\n"].concat());
    }
    exit_now(status)
}
