//! Running a program to its end, with a deadline (the end-to-end tests).

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use xtask::dialogue::Dialogue;

use crate::PATIENCE;

/// The path of a program of the workspace, built with the same profile as the test itself.
///
/// # Panics
/// If it has not been built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    // TARGET/PROFILE/deps/TEST
    let path = test
        .ancestors()
        .nth(2)
        .expect("a test lies in deps")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing; `cargo build --workspace` makes it",
        path.display()
    );
    path
}

/// A command for a program, started by the script that `UMLMON_TEST_CALLER` names, if it is set.
pub fn called(program: impl AsRef<OsStr>) -> Command {
    match std::env::var_os("UMLMON_TEST_CALLER") {
        Some(caller) => {
            let mut command = Command::new(caller);
            command.arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Pipes these bytes into a command, and asserts that it succeeds; returns what it has written.
///
/// # Panics
/// If it does not.
pub fn pass_through(command: &mut Command, sent: &[u8]) -> Vec<u8> {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut came = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| stdin.unwrap().write_all(sent));
        stdout.unwrap().read_to_end(&mut came).unwrap();
        writer.join().unwrap().unwrap();
    });
    assert!(child.wait().unwrap().success());
    came
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The command as run.
    pub command: String,
    /// The exit status; None if a signal ended it.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Outcome {
    /// Asserts that it succeeded without a complaint; returns its output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.status == Some(0) && self.stderr.is_empty(),
            "{self:#?}"
        );
        self.stdout
    }

    /// Asserts that it failed with this exit status; returns its complaint, one line.
    #[track_caller]
    pub fn fails(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:#?}");
        assert!(
            self.stdout.is_empty() && !self.stderr.trim().is_empty(),
            "{self:#?}"
        );
        self.stderr
    }
}

/// Runs a command, without input, until it ends and its output is closed.
///
/// # Panics
/// If it takes longer than [`PATIENCE`], or if something it left running holds its output open.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    run_within(command, PATIENCE)
}

/// The same for what takes longer than [`PATIENCE`].
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_within(command: &mut Command, patience: Duration) -> Outcome {
    let child = begin(command);
    finish(child, format!("{command:?}"), patience)
}

/// Starts a command that gets no input, and whose output nobody needs.
///
/// # Panics
/// If it cannot be started.
#[track_caller]
pub fn silent(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Starts a command for [`finish`].
#[track_caller]
pub(crate) fn begin(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits for a command that is called `name` in reports.
#[track_caller]
pub(crate) fn finish(mut child: Child, name: String, patience: Duration) -> Outcome {
    let listen = |pipe| Dialogue::new(pipe, std::io::sink());
    let mut stdout =
        listen(Box::new(child.stdout.take().expect("stdout is a pipe"))
            as Box<dyn std::io::Read + Send>);
    let mut stderr = listen(Box::new(child.stderr.take().expect("stderr is a pipe")));
    let status = wait(&mut child, patience).unwrap_or_else(|| {
        // It is our own child and not yet reaped, so the number is its own.
        let _ = child.kill();
        let _ = child.wait();
        panic!("{name}: has not ended after {} s", patience.as_secs())
    });
    let said = |pipe: &mut Dialogue| {
        let said = pipe.expect_end(Duration::from_secs(5));
        String::from_utf8_lossy(
            &said.unwrap_or_else(|_| panic!("{name}: its output is still open")),
        )
        .into_owned()
    };
    Outcome {
        stdout: said(&mut stdout),
        stderr: said(&mut stderr),
        status: status.code(),
        command: name,
    }
}

/// Waits until the child has ended; None if it has not in time.
pub(crate) fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let pidfd =
        pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a child can be waited for");
    let timeout = Timespec {
        tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))
        .expect("a child can be waited for");
    (ended > 0).then(|| child.wait().expect("a child can be waited for"))
}
