//! Why a request was not carried out, in the daemon's own terms (umlmon, the monitor process).
//!
//! Errors of the crates that the monitor uses become one of these here; `service/wire.rs` gives them the codes of the
//! wire.

use crate::mconsole;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It makes no sense in this state.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The kernel did not do it.
    #[error(transparent)]
    Mconsole(#[from] mconsole::Error),
    /// The configuration does not allow it, or cannot be read.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The kernel ended before it answered.
    #[error("the VM ended meanwhile: {0}")]
    Ended(String),
    /// Nothing in the guest would handle CTRL-ALT-DEL.
    #[error(
        "the guest's init does not handle CTRL-ALT-DEL, so that it would reset the VM without a shutdown \
         (-halt or -kill end it)"
    )]
    NoInit,
    /// The arguments make no sense.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not do this.
    #[error("{0}")]
    NotAuthorised(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Another VM or client uses it.
    #[error("{0}")]
    Busy(String),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
}

/// Why a request makes no sense in the state of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// It needs a kernel.
    #[error("the VM is not running (-start starts it)")]
    NotRunning,
    /// There is a kernel already.
    #[error("the VM is already running")]
    AlreadyRunning,
    /// A start for another client is under way.
    #[error("the VM is already starting")]
    AlreadyStarting,
    /// It needs a kernel that executes.
    #[error("the VM is still starting (try again in a moment)")]
    StillStarting,
    /// It needs a suspended kernel.
    #[error("the VM is not suspended")]
    NotSuspended,
    /// It needs a kernel that is not suspended.
    #[error("the VM is already suspended (-continue resumes it)")]
    AlreadySuspended,
    /// The end is under way.
    #[error("the VM is stopping (-wait waits for its end)")]
    Stopping,
    /// The daemon ends.
    #[error("the monitor is shutting down")]
    Quitting,
}

impl From<pty::Error> for Failure {
    fn from(error: pty::Error) -> Failure {
        use pty::Error::{Adopt, Ended, Log, Open, Record, Terminal};
        match error {
            Ended { .. } => Denied::NotRunning.into(),
            Adopt { .. } | Record { .. } | Terminal { .. } | Open { .. } | Log { .. } => {
                Failure::Failed(error.to_string())
            }
            _ => Failure::Busy(error.to_string()),
        }
    }
}

impl From<disks::Error> for Failure {
    fn from(error: disks::Error) -> Failure {
        match error {
            disks::Error::Missing { .. } => Failure::NotFound(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<disks::InUse> for Failure {
    fn from(error: disks::InUse) -> Failure {
        Failure::Busy(error.to_string())
    }
}

impl From<disks::LockError> for Failure {
    fn from(error: disks::LockError) -> Failure {
        use disks::LockError::{Files, Other, Own};
        match error {
            Other { .. } | Own { .. } | Files(files::HeldError::Namesake(_)) => {
                Failure::Busy(error.to_string())
            }
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<jail::Error> for Failure {
    fn from(error: jail::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<net::Error> for Failure {
    fn from(error: net::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}
