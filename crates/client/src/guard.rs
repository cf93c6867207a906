//! The process beside a session that restores the terminal if the session cannot: no code of a program runs when it is
//! killed, and a raw terminal looks broken to its user.
//!
//! It is the program once more, recognised by its name: a program that uses
//! [`RawTerminal`](crate::terminal::RawTerminal) begins with [`is_guard`] and [`main`]. Its stdout is the terminal, its
//! stdin a pipe that ends with the session.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The name under which the process runs.
const NAME: &str = "client: guards the terminal";

/// The guard of the terminal on stdin, which knows the settings to restore; ended when dropped.
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts one.
    pub(crate) fn start() -> io::Result<Guard> {
        let terminal = stdin().try_clone_to_owned()?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg0(NAME)
            .stdin(Stdio::piped())
            .stdout(terminal)
            .stderr(Stdio::piped())
            .spawn()?;
        let ready = child.stderr.take();
        let guard = Guard(child);
        // One byte, as soon as it knows the settings of the terminal.
        ready.map_or(Ok(()), |mut pipe| pipe.read_exact(&mut [0]))?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It is not needed any more; if it cannot be killed, it cannot be waited for, either.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Whether this process is a guard.
pub fn is_guard() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// The work of a guard: waits for the end of the session, and restores the terminal if it is still as the session
/// needed it. If a shell has changed it meanwhile, it stays as it is.
pub fn main() -> io::Result<()> {
    // It ignores signals that are sent to the whole job, and may set the terminal from the background.
    let held = [
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGTTOU,
    ];
    SigSet::from_iter(held).thread_block()?;
    let before = tcgetattr(stdout())?;
    let mut raw = before.clone();
    raw.make_raw();
    io::stderr().write_all(b"\n")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    if is_same(&tcgetattr(stdout())?, &raw) {
        tcsetattr(stdout(), OptionalActions::Now, &before)?;
    }
    Ok(())
}

fn is_same(one: &Termios, other: &Termios) -> bool {
    let modes = |t: &Termios| {
        (
            t.input_modes,
            t.output_modes,
            t.control_modes,
            t.local_modes,
        )
    };
    modes(one) == modes(other)
}
