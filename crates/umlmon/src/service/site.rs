//! The site command: a program of the administrator's, run on behalf of a user (umlmon, the monitor process).
//!
//! It runs as root, so it gets nothing from the caller but one argument: an environment of its own, no descriptors, a
//! process group of its own, a deadline, and a cap on what it may say.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use config::{Config, VmName};
use rpc_xdr::umlmonctrl::SiteOutput;
use rustix::process::{Pid, Signal, WaitIdOptions, WaitIdStatus};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;
use crate::second::confined;
use crate::service::Service;
use crate::service::session::Session;

/// Site commands that run at once, in all and for one caller: each is a process of root.
pub const MAX_RUNNING: (usize, usize) = (16, 4);
/// How long the site command may run.
const DEADLINE: Duration = Duration::from_secs(60);
/// How many bytes of output are kept.
const MAX_OUTPUT: usize = 65_536;

/// What the site command said and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit status; `None` if it was ended by a signal, or by the deadline.
    pub status: Option<i32>,
    /// stdout and stderr as they came.
    pub output: Vec<u8>,
    /// There was more output than is kept.
    pub truncated: bool,
    /// It was killed because its time was over.
    pub timed_out: bool,
}

impl Service {
    pub(super) async fn run_site_command(
        &self,
        session: &Session,
        arg: Vec<u8>,
    ) -> Result<SiteOutput, Failure> {
        let _running = self.sites.take(session.caller()).ok_or_else(|| {
            Failure::Busy(format!(
                "too many site commands are running, at most {} of one user and {} in all; try again when one has ended",
                MAX_RUNNING.1, MAX_RUNNING.0
            ))
        })?;
        let config = Config::load(&self.setup.configured.file)?;
        let program = config.global.sitecmd.ok_or_else(|| {
            Failure::NotFound("no site command is configured (sitecmd in section [GLOBAL])".into())
        })?;
        let output = run(&program, &arg, self.setup.name(), DEADLINE)
            .await
            .map_err(|error| {
                Failure::Failed(format!(
                    "cannot run the site command {}: {error}",
                    program.display()
                ))
            })?;
        Ok(SiteOutput {
            exit_status: output.status.unwrap_or(-1),
            output: output.output,
            truncated: output.truncated,
            timed_out: output.timed_out,
        })
    }
}

/// The command's process; its whole group is killed when this is dropped, even if the caller goes away.
struct Process {
    pid: Pid,
    exited: AsyncFd<OwnedFd>,
}

impl Process {
    /// Collects the process, which has ended or is about to.
    fn wait(&self) -> rustix::io::Result<Option<WaitIdStatus>> {
        rustix::process::waitid(
            rustix::process::WaitId::PidFd(self.exited.get_ref().as_fd()),
            WaitIdOptions::EXITED,
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already needs neither.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        let _ = self.wait();
    }
}

/// Runs `program` with `argument` and waits for its end, at most `deadline`.
///
/// # Errors
/// If the program cannot be executed.
pub async fn run(
    program: &Path,
    argument: &[u8],
    vm: &VmName,
    deadline: Duration,
) -> io::Result<Output> {
    let (reader, writer) = io::pipe()?;
    let null = std::fs::File::open("/dev/null")?;
    let program = CString::new(program.as_os_str().as_bytes())?;
    let argv = [program.clone(), CString::new(argument)?];
    let env = [
        CString::from(c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        CString::from(c"LANG=C"),
        CString::new(format!("UMLMON_VM={vm}"))?,
    ];
    let fds = [(null.as_fd(), 0), (writer.as_fd(), 1), (writer.as_fd(), 2)];
    let child = sys::spawn_session(&program, &argv, &env, &fds).map_err(why)?;
    let pid = Pid::from_raw(child.pid).ok_or(io::ErrorKind::NotFound)?;
    let exited = sys::readable(child.pidfd).inspect_err(|_| confined::abandon(child.pid))?;
    let command = Process { pid, exited };
    // The writing end must be the command's alone, or its end would never be seen.
    drop(writer);
    rustix::io::ioctl_fionbio(&reader, true)?;
    let pipe = sys::readable(OwnedFd::from(reader))?;
    listen(&command, &pipe, Instant::now() + deadline).await
}

/// The error of a program that cannot be executed, or else the resource that the host lacks.
fn why(error: sys::SpawnError) -> io::Error {
    match error.step {
        "execve" => error.source,
        _ => confined::explained(error),
    }
}

async fn listen(command: &Process, pipe: &AsyncFd<OwnedFd>, end: Instant) -> io::Result<Output> {
    let mut output = Output::default();
    let mut eof = false;
    loop {
        tokio::select! {
            () = sleep_until(end) => {
                output.timed_out = true;
                return Ok(output);
            }
            read = read_some(pipe, &mut output), if !eof => eof = read? == 0,
            ready = command.exited.readable() => {
                ready?.retain_ready();
                // What it wrote before its end is in the pipe; what its own children write later does not count.
                while !eof && try_read(pipe, &mut output).is_ok_and(|n| n > 0) {}
                output.status = command.wait()?.and_then(|status| status.exit_status());
                return Ok(output);
            }
        }
    }
}

async fn read_some(pipe: &AsyncFd<OwnedFd>, output: &mut Output) -> io::Result<usize> {
    loop {
        let mut ready = pipe.readable().await?;
        match try_read(pipe, output) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            result => return result,
        }
    }
}

fn try_read(pipe: &AsyncFd<OwnedFd>, output: &mut Output) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let n = rustix::io::read(pipe.get_ref(), &mut buffer)?;
    let room = MAX_OUTPUT - output.output.len();
    output.truncated |= n > room;
    output
        .output
        .extend_from_slice(buffer.get(..n.min(room)).unwrap_or_default());
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    }

    fn site(script: &str, argument: &str, deadline: Duration) -> Output {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        block_on(run(
            &path,
            argument.as_bytes(),
            &"vm1".parse().unwrap(),
            deadline,
        ))
        .unwrap()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn one_argument_and_a_clean_environment() {
        let output = site(
            "echo \"$# [$1]\"; env | sort; ls /proc/self/fd | wc -l; exit 7",
            "a b; $(c)",
            LONG,
        );
        let text = String::from_utf8(output.output).unwrap();
        assert!(text.starts_with("1 [a b; $(c)]\nLANG=C\nPATH="), "{text}");
        assert!(
            text.contains("UMLMON_VM=vm1\n") && !text.contains("CARGO"),
            "{text}"
        );
        // 0, 1, 2 and the directory that ls itself reads.
        assert!(text.ends_with("\n4\n"), "{text}");
        assert_eq!(output.status, Some(7));
    }

    #[test]
    fn output_is_capped() {
        let output = site("head -c 10000000 /dev/zero", "", LONG);
        assert_eq!(output.output.len(), MAX_OUTPUT);
        assert!(output.truncated && output.status == Some(0));
    }

    #[test]
    fn a_deadline_ends_the_whole_group() {
        let output = site(
            "echo $$; sleep 1000 & sleep 1000",
            "",
            Duration::from_millis(300),
        );
        assert!(output.timed_out && output.status.is_none());
        let pid: i32 = String::from_utf8(output.output)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let group = Pid::from_raw(pid).unwrap();
        // It is killed at once, but init collects it some time later.
        let patience = std::time::Instant::now() + LONG;
        while rustix::process::test_kill_process_group(group).is_ok() {
            assert!(std::time::Instant::now() < patience, "the group lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_background_process_does_not_hold_the_answer_up() {
        let output = site("sleep 1000 & echo done", "", LONG);
        assert_eq!(
            (output.output.as_slice(), output.status),
            (&b"done\n"[..], Some(0))
        );
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let vm = "vm1".parse().unwrap();
        let missing = block_on(run(Path::new("/nonexistent"), b"", &vm, LONG));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
