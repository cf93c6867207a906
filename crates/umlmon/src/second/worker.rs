//! A second process for something that does not last: this program, executed anew, which continues in one of the files
//! beside this one (umlmon, a child process).

use std::process::ExitCode;

use crate::second::orders::{
    ARGUMENT, Failed, FromChild, PIPE_FD, ToWorker, receive_order, report,
};
use crate::second::{connector, disk_worker, kernel_worker};

/// Whether this process is a second process.
#[must_use]
pub fn is_worker() -> bool {
    let mut args = std::env::args_os().skip(1);
    args.next()
        .is_some_and(|arg| arg.as_encoded_bytes() == ARGUMENT.to_bytes())
        && args.next().is_none()
}

/// The whole life of such a process. To be called first in `main`.
#[must_use]
pub fn main() -> ExitCode {
    let Ok(pipe) = sys::inherited_fd(PIPE_FD) else {
        eprintln!("umlmon: --child is for the monitor only");
        return ExitCode::from(2);
    };
    // The name is "exe" otherwise, after the path it was executed by.
    let _ = rustix::thread::set_name(c"umlmon");
    match receive_order(&pipe) {
        Ok(ToWorker::Work(order)) => disk_worker::work(&pipe, &order),
        Ok(ToWorker::Look(order)) => kernel_worker::look(&pipe, &order),
        Ok(ToWorker::Connect(order)) => connector::become_program(&order),
        Err(Failed { step, error }) => {
            report(&pipe, &FromChild::Failed { step, error });
            ExitCode::FAILURE
        }
    }
}
