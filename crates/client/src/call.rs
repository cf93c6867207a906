//! Failed calls: the reason for people, and the exit status for scripts. Runs in the clients.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cli::{Exit, Failure};
use rpc_xdr::client::{ClientError, Reply, Ticket};
use rpc_xdr::umlmonctrl::{CtlCode, CtlError};

/// The result of a call.
///
/// # Errors
/// [`refused`] if the monitor refuses, [`broken`] if the call broke off.
pub fn answered<T>(answer: Result<Result<T, CtlError>, ClientError>) -> Result<T, Failure> {
    answer.map_err(broken)?.map_err(refused)
}

/// The result of a call that was sent before, if the reply is the one to it; the call is not under way any more then.
///
/// # Errors
/// [`broken`] if the monitor did not carry the call out, or the reply cannot be decoded.
pub fn result_in<R>(
    reply: &Reply,
    under_way: &mut Option<Ticket<R>>,
) -> Result<Option<R>, Failure> {
    let ticket = under_way.take_if(|ticket| ticket.matches(reply));
    ticket
        .map(|ticket| ticket.result(reply))
        .transpose()
        .map_err(broken)
}

/// The failure for a request that the monitor refused.
pub fn refused(error: CtlError) -> Failure {
    let exit = match error.code {
        CtlCode::NotRunning => Exit::NotRunning,
        CtlCode::NotAuthorised => Exit::NotAuthorised,
        CtlCode::Timeout => Exit::Timeout,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.text)
}

/// The failure for a call whose connection broke. It breaks when the monitor ends.
pub fn broken(error: ClientError) -> Failure {
    match error {
        ClientError::Lost(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionAborted
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::NetworkDown
            ) =>
        {
            Failure::new(Exit::Failed, error).about("the connection was lost")
        }
        ClientError::Lost(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Failure::new(Exit::NotRunning, "the monitor has ended")
        }
        ClientError::Lost(error) => {
            Failure::new(Exit::NotRunning, error).about("the monitor has ended")
        }
        error @ ClientError::TimedOut => {
            Failure::new(Exit::Failed, error).about("the monitor does not respond")
        }
        error => Failure::new(Exit::Failed, error),
    }
}

/// Prints a note on stderr, with the name under which the program was started.
pub(crate) fn tell(text: &str) {
    let path = std::env::args_os().next().map(PathBuf::from);
    let name = path.as_deref().and_then(Path::file_name);
    let name = name.unwrap_or(OsStr::new("client")).to_string_lossy();
    eprintln!("{name}: {}", cli::printable(text.as_bytes()));
}
