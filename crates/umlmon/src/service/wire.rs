//! Types of the daemon as types of the wire (umlmon, the monitor process).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rpc_xdr::umlmonctrl::*;

use crate::failure::{Denied, Failure};
use crate::mconsole;
use crate::status::Phase;
use crate::status::{How, LastEnd};

/// A sentence for people, cut to what the wire allows.
pub fn text(mut text: String) -> String {
    let mut end = text.len().min(CTL_TEXT_MAX as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// The value of a parameter, cut to what the wire allows.
pub fn value(value: &str) -> Vec<u8> {
    value.bytes().take(CTL_VALUE_MAX as usize).collect()
}

/// Seconds since 1970.
pub fn time(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The date of so long ago, by the host's clock as it is now: a client that subtracts it from the present date gets the
/// span again.
pub fn ago(span: Duration) -> u64 {
    time(SystemTime::now().checked_sub(span).unwrap_or(UNIX_EPOCH))
}

impl From<Failure> for CtlError {
    fn from(failure: Failure) -> CtlError {
        CtlError {
            code: code(&failure),
            text: text(failure.to_string()),
        }
    }
}

fn code(failure: &Failure) -> CtlCode {
    match failure {
        Failure::Denied(Denied::NotRunning) | Failure::Ended(_) => CtlCode::NotRunning,
        Failure::Denied(Denied::AlreadyRunning | Denied::AlreadyStarting) => {
            CtlCode::AlreadyRunning
        }
        Failure::Denied(_) => CtlCode::WrongState,
        Failure::Mconsole(mconsole::Error::Timeout) => CtlCode::Timeout,
        Failure::Config(error) => config_code(error.root()),
        Failure::Invalid(_) => CtlCode::Invalid,
        Failure::NotAuthorised(_) => CtlCode::NotAuthorised,
        Failure::NotFound(_) => CtlCode::NotFound,
        Failure::Busy(_) => CtlCode::Busy,
        Failure::Mconsole(_) | Failure::NoInit | Failure::Failed(_) => CtlCode::Failed,
    }
}

fn config_code(error: &config::Error) -> CtlCode {
    use config::Error::{
        NoUserChange, Protected, Read, ReservedArgument, Save, UnknownParameter, UnknownVm,
    };
    match error {
        Protected { .. } | ReservedArgument { .. } => CtlCode::Protected,
        UnknownParameter { .. } | UnknownVm { .. } | NoUserChange { .. } => CtlCode::NotFound,
        Read { .. } | Save { .. } => CtlCode::Failed,
        _ => CtlCode::Invalid,
    }
}

/// The state of the VM.
pub fn state(phase: Phase) -> VmState {
    match phase {
        Phase::Inactive => VmState::Inactive,
        Phase::Starting => VmState::Starting,
        Phase::Running => VmState::Running,
        Phase::Suspended => VmState::Suspended,
        Phase::Stopping => VmState::Stopping,
    }
}

/// What a client is attached for, in a word.
pub fn mode(mode: ConMode) -> &'static str {
    match mode {
        ConMode::Watch => "watch",
        ConMode::Write => "write",
        ConMode::Force => "force",
    }
}

/// The command of umlwatch(1) that attaches a client in this mode.
pub fn connect_verb(mode: ConMode) -> &'static str {
    match mode {
        ConMode::Watch => "watch",
        ConMode::Write => "connect",
        ConMode::Force => "force-connect",
    }
}

/// How the last run ended.
pub fn last_end(end: &LastEnd) -> VmLastEnd {
    let how = match end.how {
        How::NeverRan => VmEnd::None,
        How::Halted => VmEnd::Halted,
        How::Rebooted => VmEnd::Rebooted,
        How::Killed => VmEnd::Killed,
        How::Crashed => VmEnd::Crashed,
        How::Panicked => VmEnd::Panicked,
        How::NotStarted => VmEnd::NotStarted,
    };
    VmLastEnd {
        how,
        exit_status: end.status.unwrap_or(-1),
        exit_signal: end.signal.unwrap_or(0),
        time: time(end.time),
        text: text(end.text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        let long = "é".repeat(CTL_TEXT_MAX as usize);
        let cut = text(long);
        assert!(cut.len() <= CTL_TEXT_MAX as usize && cut.ends_with('é'));
    }
}
