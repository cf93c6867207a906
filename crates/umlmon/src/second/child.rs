//! The second process of a running VM: PID 1 of its namespaces. It stops being root, executes the kernel, supervises
//! the VM's processes, and ends all of them when it ends (umlkeep; this file is all of it).
//!
//! It is a program of its own, as small as it can be, for each running VM has one: no runtime, no threads, only the
//! descriptors it was given.
//!
//! ```text
//! monitor == pipe (descriptor 3) ==> confine, execute the kernel, say so, then wait for
//!    a nudge            -> SIGIO to the kernel
//!    descriptors        -> hold them, the monitor's end of the pipe among them
//!    "outlive"          -> no SIGKILL any more when the monitor ends
//!    the kernel's end   -> end all that is left in the namespace, say how, wait until it is heard, exit
//!    the monitor's end  -> exit (SIGKILL comes too; either is enough)
//! ```
//!
//! When it has been told to outlive the monitor, it does nothing without one but hold: what the kernel writes stays in
//! its terminals, what it says in the notify socket, and what this process reports in the pipe, both ends of which are
//! here. The next monitor takes copies of the descriptors (pidfd_getfd(2)). It uses none of them itself.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::set_parent_process_death_signal;

use crate::second::orders::{
    FIRST_END_FD, Failed, FromChild, Launch, PIPE_FD, ToChild, confine, receive_order,
    receive_word, report,
};

/// What helps if the kernel cannot have a process.
const TOO_MANY: &str = "the user of the VM cannot have more processes: see pids_limit in umlmon(5), what else runs as \
                        this user, and the limit on processes that the monitor was started with (ulimit -u)";

/// The whole life of the process.
#[must_use]
pub fn main() -> ExitCode {
    let Ok(pipe) = sys::inherited_fd(PIPE_FD) else {
        eprintln!("umlkeep: it is started by umlmon only");
        return ExitCode::from(2);
    };
    // The name is a number otherwise, after the path it was executed by.
    let _ = rustix::thread::set_name(c"umlmon");
    let ended = match receive_order(&pipe) {
        Ok(ToChild::Launch(launch, ends)) => keep_kernel(&pipe, *launch, ends),
        Ok(_) => Err(Failed {
            step: "read the task".to_owned(),
            error: "the first message is another one".to_owned(),
        }),
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { step, error }) => {
            report(&pipe, &FromChild::Failed { step, error });
            ExitCode::FAILURE
        }
    }
}

fn keep_kernel(pipe: &OwnedFd, launch: Launch, ends: usize) -> Result<(), Failed> {
    let ends = (FIRST_END_FD..)
        .take(ends)
        .map(sys::inherited_fd)
        .collect::<io::Result<Vec<_>>>();
    let mut ends = ends.map_err(Failed::at("take the channels"))?;
    let channels = ends.len().saturating_sub(launch.confinement.shares.len());
    let mounts = ends.split_off(channels);
    confine(&launch.confinement, mounts)?;
    // Before, there was a moment without a death signal.
    if has_hung_up(pipe) {
        return Ok(());
    }
    let signals = catch_sigchld().map_err(Failed::at("catch SIGCHLD"))?;
    let kernel = execute(&launch, &ends)?;
    report(pipe, &FromChild::Started { kernel_pid: 0 });
    // Only the kernel keeps its channels open.
    drop((launch, ends));
    sys::release_free_memory();
    let mut keeping = Keeping {
        pipe,
        kernel,
        end: None,
        held: Vec::new(),
    };
    keeping.watch(&signals);
    Ok(())
}

/// Whether the monitor's end of the pipe is closed.
fn has_hung_up(pipe: &OwnedFd) -> bool {
    let mut end = [PollFd::new(pipe, PollFlags::empty())];
    poll(&mut end, Some(&Timespec::default())).is_ok_and(|ends| ends > 0)
}

/// SIGCHLD as a descriptor. The kernel does not inherit the blocked signal.
fn catch_sigchld() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

fn execute(launch: &Launch, ends: &[OwnedFd]) -> Result<Pid, Failed> {
    let step = format!("execute {}", launch.kernel);
    let strings = |list: &[String]| {
        list.iter()
            .map(|s| CString::new(s.as_str()))
            .collect::<Result<Vec<_>, _>>()
    };
    let nul = |error: std::ffi::NulError| Failed::at(&step)(error.into());
    let program = CString::new(launch.kernel.as_str()).map_err(nul)?;
    let argv = strings(&launch.argv).map_err(nul)?;
    let env = strings(&launch.env).map_err(nul)?;
    let con0 = ends
        .first()
        .into_iter()
        .flat_map(|end| [(end.as_fd(), 0), (end.as_fd(), 1), (end.as_fd(), 2)]);
    let others = ends.iter().skip(1).map(AsFd::as_fd).zip(3..);
    let fds: Vec<_> = con0.chain(others).collect();
    let kernel = sys::spawn_kernel(&program, &argv, &env, &fds).map_err(|error| Failed {
        step: step.clone(),
        error: match Errno::from_io_error(&error.source) {
            Some(Errno::AGAIN) => format!("{error} ({TOO_MANY})"),
            _ => error.to_string(),
        },
    })?;
    Ok(Pid::from_raw(kernel.pid))
}

/// The supervision of a kernel.
struct Keeping<'a> {
    pipe: &'a OwnedFd,
    kernel: Pid,
    /// How the kernel has ended.
    end: Option<FromChild>,
    /// What the next monitor needs.
    held: Vec<OwnedFd>,
}

impl Keeping<'_> {
    /// Waits for the end of the kernel or of the monitor, and serves both.
    fn watch(&mut self, signals: &SignalFd) {
        loop {
            let mut events = [
                PollFd::new(self.pipe, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            match poll(&mut events, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            let [from_monitor, child_ended] = events.map(|event| !event.revents().is_empty());
            if child_ended && let Some(end) = reap(signals, self.kernel) {
                // Only processes of this namespace can be meant.
                let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
                report(self.pipe, &end);
                self.end = Some(end);
            }
            if from_monitor && !self.serve() {
                return;
            }
        }
    }

    /// Carries out a message of the monitor; false if this process is to end.
    fn serve(&mut self) -> bool {
        let Ok((word, came)) = receive_word(self.pipe) else {
            return false;
        };
        match (word, &self.end) {
            // It has not been reaped, so the number is still its own.
            (ToChild::Nudge, None) => kill(self.kernel, Signal::SIGIO).is_ok(),
            (ToChild::Nudge, Some(_)) => true,
            (ToChild::Hold, _) => {
                let numbers = came.iter().map(|fd| fd.as_raw_fd()).collect();
                self.held.extend(came);
                report(self.pipe, &FromChild::Holds { numbers });
                true
            }
            (ToChild::Outlive, _) => set_parent_process_death_signal(None).is_ok(),
            (ToChild::Report, end) => {
                end.iter().for_each(|end| report(self.pipe, end));
                true
            }
            (ToChild::End | ToChild::Launch(..), _) => false,
        }
    }
}

/// Collects all processes that have ended: the kernel, and what its processes left behind.
fn reap(signals: &SignalFd, kernel: Pid) -> Option<FromChild> {
    while let Ok(Some(_)) = signals.read_signal() {}
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == kernel => {
                return Some(FromChild::Exited {
                    status: Some(status),
                    signal: None,
                });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == kernel => {
                return Some(FromChild::Exited {
                    status: None,
                    signal: Some(signal as i32),
                });
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
