//! How a program ends: its exit status, and the reason if it failed. Used by all programs.

use std::fmt;
use std::process::ExitCode;

/// The exit status of all programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was done.
    Done,
    /// It was tried and failed, or was refused.
    Failed,
    /// The command line makes no sense; nothing was tried.
    Usage,
    /// It needs a running kernel or monitor, and there is none.
    NotRunning,
    /// The caller may not do this.
    NotAuthorised,
    /// It did not happen in the time given.
    Timeout,
    /// That of a command in a guest.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotRunning => 3,
            Exit::NotAuthorised => 4,
            Exit::Timeout => 5,
            Exit::Command(status) => status,
        })
    }
}

/// Why a program ends early: the exit status, and the sentence that [`crate::main`] prints after the program's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit status; never [`Exit::Done`].
    pub exit: Exit,
    /// A lower case sentence; empty if everything has been said already.
    pub message: String,
}

impl Failure {
    /// A failure with its own exit status.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure {
            exit,
            message: message.to_string(),
        }
    }

    /// The caller used the program wrongly.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Adds the subject of the failure in front: `vm1: cannot start: ...`.
    #[must_use]
    pub fn about(mut self, what: impl fmt::Display) -> Failure {
        if !self.message.is_empty() {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::new(Exit::Failed, causes(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Exit::Failed, error)
    }
}

/// An error with its causes, each of them once: many errors of ours name theirs already.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_what_they_are_about() {
        let failure = Failure::new(Exit::NotRunning, "no monitor is running").about("vm1");
        assert_eq!(failure.to_string(), "vm1: no monitor is running");
        assert_eq!(failure.exit, Exit::NotRunning);
        assert_eq!(Failure::new(Exit::Failed, "").about("vm1").to_string(), "");
        let chain = anyhow::anyhow!("no such file").context("cannot read /etc/umlmon");
        assert_eq!(
            Failure::from(chain).to_string(),
            "cannot read /etc/umlmon: no such file"
        );
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || anyhow::anyhow!("no such file");
        let named = cause().context("cannot open it: no such file");
        assert_eq!(causes(&named), "cannot open it: no such file");
        let further = named.context("no log");
        assert_eq!(causes(&further), "no log: cannot open it: no such file");
        assert_eq!(causes(&cause().context("no log")), "no log: no such file");
    }
}
