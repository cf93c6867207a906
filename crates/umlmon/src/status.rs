//! The published status of the VM (umlmon, the monitor process).
//!
//! The monitor task publishes it through a watch channel; waiters and console sessions see each change.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Where the VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// No kernel, no child process; nothing mounted but the shared directory.
    Inactive,
    /// The kernel is being executed, or waits to be executed again after a reboot of the guest.
    Starting,
    /// The kernel runs.
    Running,
    /// The kernel is stopped by its mconsole and uses no processor time.
    Suspended,
    /// The kernel is being killed, or has ended and is being cleaned up.
    Stopping,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Inactive => "inactive",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Suspended => "suspended",
            Phase::Stopping => "stopping",
        })
    }
}

/// How a run of the kernel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// The kernel has not run since the daemon was started.
    NeverRan,
    /// By itself, or by a halt.
    Halted,
    /// The guest asked for a reboot that was not carried out.
    Rebooted,
    /// By a kill, or the end of the daemon.
    Killed,
    /// By a signal, or with an exit status other than 0.
    Crashed,
    /// The guest kernel panicked.
    Panicked,
    /// It did not even start.
    NotStarted,
}

/// The end of the last run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd {
    /// In which way.
    pub how: How,
    /// Exit status of the kernel process, if it exited.
    pub status: Option<i32>,
    /// The signal that ended the kernel process, if one did.
    pub signal: Option<i32>,
    /// Details for people: the panic message, the failed step, ...; may be empty.
    pub text: String,
    /// When.
    pub time: SystemTime,
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            How::NeverRan => "never ran",
            How::Halted => "halted",
            How::Rebooted => "rebooted",
            How::Killed => "killed",
            How::Crashed => "crashed",
            How::Panicked => "kernel panic",
            How::NotStarted => "not started",
        })
    }
}

impl std::fmt::Display for LastEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.text.as_str() {
            "" => self.how.fmt(f),
            text => write!(f, "{}: {text}", self.how),
        }
    }
}

impl LastEnd {
    /// Whether it is that of a start that failed for this reason.
    pub fn is_failed_start(&self, why: &str) -> bool {
        self.how == How::NotStarted && self.text == why
    }

    /// An end without a kernel process.
    pub fn new(how: How, text: impl Into<String>) -> LastEnd {
        LastEnd {
            how,
            status: None,
            signal: None,
            text: text.into(),
            time: SystemTime::now(),
        }
    }
}

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where the VM is in its life.
    pub phase: Phase,
    /// Since when. Not a date, which would be wrong after the clock of the host has been set.
    pub since: Instant,
    /// How the last run ended.
    pub last_end: LastEnd,
    /// Reboots of the guest since it was started.
    pub reboots: u32,
    /// The guest has said that it is ready, since this kernel was started.
    pub ready: bool,
}

impl Status {
    /// The status of a monitor that has just been started.
    pub fn initial() -> Status {
        Status {
            phase: Phase::Inactive,
            since: Instant::now(),
            last_end: LastEnd::new(How::NeverRan, ""),
            reboots: 0,
            ready: false,
        }
    }
}
