//! Why a request was not carried out, in the daemon's own terms (umlmon, the monitor process).
//!
//! Errors of the crates that the monitor uses become one of these here; `service/wire.rs` gives them the codes of the wire.

use crate::life::{mconsole, state::Denied};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It makes no sense in this state.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The kernel did not do it.
    #[error(transparent)]
    Mconsole(#[from] mconsole::Error),
    /// The configuration does not allow it.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The start failed, and why.
    #[error("{0}")]
    NotStarted(String),
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
    /// Somebody else has it.
    #[error("{0}")]
    Busy(String),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
}

impl From<pty::Error> for Failure {
    fn from(error: pty::Error) -> Failure {
        use pty::Error::{Log, Open, Terminal};
        match error {
            Terminal { .. } | Open { .. } | Log { .. } => Failure::Failed(error.to_string()),
            _ => Failure::Busy(error.to_string()),
        }
    }
}
