//! The `main` of all programs: the state of signals, the command line, the work, and how it ended.

use std::io::Write as _;
use std::process::ExitCode;

use crate::exit::{Exit, Failure};
use crate::output::{Output, printable};
use crate::words::{Line, Program, Request};

/// The whole of a program's `main`: puts right what the caller left of signals ([`sys::reset_signals`]), reads the
/// command line, answers `-help` and `-version`, else runs `run`, and prints a failure once on stderr.
pub fn main(program: &Program, run: impl FnOnce(Line) -> Result<Exit, Failure>) -> ExitCode {
    sys::reset_signals();
    resume(program, run)
}

/// The same for a program that another one has executed in its own process: the signals that it has blocked stay
/// blocked, so that those which come meanwhile are received later.
pub fn resume(program: &Program, run: impl FnOnce(Line) -> Result<Exit, Failure>) -> ExitCode {
    let ended = match program.parse(std::env::args_os().skip(1)) {
        Ok(Request::Print(text)) => Output::stdout()
            .write(text.as_bytes())
            .map(|()| Exit::Done)
            .map_err(|e| Failure::from(e).about("cannot write to stdout")),
        Ok(Request::Run(line)) => run(line),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            report(program, &failure);
            failure.exit.into()
        }
    }
}

/// Prints a failure as `main` does. The text may stem from a daemon or a guest, so only its printable part is shown.
fn report(program: &Program, failure: &Failure) {
    let mut stderr = std::io::stderr().lock();
    // If stderr cannot be written, the error cannot be reported.
    if !failure.message.is_empty() {
        let message = printable(failure.message.as_bytes());
        let _ = writeln!(stderr, "{}: {message}", program.name);
    }
    if failure.exit == Exit::Usage {
        let _ = writeln!(stderr, "Try '{} -help' for help.", program.name);
    }
}
