//! A command in the guest with the standard descriptors of this program, or in a terminal like its own. Runs in the
//! clients: `umlwatch -exec`, and `umladmin run`.

use std::io::Write as _;
use std::time::Instant;

use cli::{Failure, Output};
use guest_line::{Command, Size};
use nix::sys::signal::Signal;
use rustix::stdio::{stdin, stdout};
use rustix::termios::isatty;

use crate::call::tell;
use crate::client::Client;
use crate::guest::{Event, PATIENCE_MS, Running};
use crate::signals::Signals;
use crate::terminal::{self, RawTerminal};
use crate::waiting::{self, Came};

/// The exit status if a command cannot be run, or its connection breaks: that of the container tools, as the command
/// itself may end with any of ours.
pub const CANNOT: u8 = 125;

/// How often a signal is passed on to a command that does not end, before it ends this program.
const PASSED_ON: u32 = 2;

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The command has ended, with this status, as a shell gives it.
    Command(u8),
    /// This signal came once more than it is passed on.
    Signal(Signal),
    /// Nobody reads the output any more.
    Unheard,
    /// The time is over.
    Late,
}

/// Runs a command: these words, with these variables (`NAME=VALUE`) in addition. Waits for a guest that is booting. At
/// `until` the command is given up. It goes on if another monitor takes the VM over, which the user is told.
///
/// # Errors
/// If there is no helper in the guest, or the connection breaks.
pub fn run(
    client: &Client,
    words: Vec<Vec<u8>>,
    mut environment: Vec<Vec<u8>>,
    until: Option<Instant>,
) -> Result<End, Failure> {
    let size = terminal_size();
    let term = size.and_then(|_| std::env::var("TERM").ok());
    environment.extend(term.map(|term| format!("TERM={term}").into_bytes()));
    let command = Command {
        words,
        environment,
        terminal: size,
        ..Command::default()
    };
    let left = left(until).map_or(PATIENCE_MS, |left| {
        u32::try_from(left.as_millis()).unwrap_or(PATIENCE_MS)
    });
    let mut session = Session {
        running: Running::begin(client, command, left.min(PATIENCE_MS))?,
        terminal: size.is_some(),
        out: Output::stdout(),
        has_input: true,
        signals: 0,
    };
    let signals = Signals::hold()?;
    let raw = size.map(|_| RawTerminal::enter()).transpose()?;
    let ended = session.run(&signals, until);
    drop(raw);
    drop(signals);
    ended
}

/// The size of the terminal that the command is to have one like; none if not both stdin and stdout are a terminal.
fn terminal_size() -> Option<Size> {
    let terminal = isatty(stdin()) && isatty(stdout());
    // One on a serial line does not know its size; then the command's does not, either.
    let (rows, columns) = terminal::size().unwrap_or_default();
    terminal.then_some(Size { rows, columns })
}

fn left(until: Option<Instant>) -> Option<std::time::Duration> {
    until.map(|until| until.saturating_duration_since(Instant::now()))
}

struct Session<'a> {
    running: Running<'a>,
    /// The command is in a terminal, and ours is raw.
    terminal: bool,
    out: Output,
    /// Stdin has not ended.
    has_input: bool,
    /// How many signals were passed on.
    signals: u32,
}

impl Session<'_> {
    fn run(&mut self, signals: &Signals, until: Option<Instant>) -> Result<End, Failure> {
        loop {
            let left = left(until);
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(End::Late);
            }
            self.running.send()?;
            if let Some(note) = self.running.take_note() {
                self.tell(&note);
            }
            let listening = self.has_input && self.running.takes_input();
            let waits = left.into_iter().chain(self.running.waits()).min();
            let came = Came::wait(self.running.connection(), signals, listening, waits)?;
            if came.answer {
                for event in self.running.heard()? {
                    if let Some(end) = self.take(event)? {
                        return Ok(end);
                    }
                }
            }
            match came.signal.then(|| signals.next()).flatten() {
                Some(Signal::SIGWINCH) if self.terminal => {
                    if let Some(size) = terminal_size() {
                        self.running.resize(size);
                    }
                }
                Some(Signal::SIGWINCH) | None => {}
                Some(signal) if self.signals >= PASSED_ON => return Ok(End::Signal(signal)),
                Some(signal) => {
                    self.signals += 1;
                    self.running.signal(signal as i32);
                }
            }
            if came.input {
                self.read()?;
            }
        }
    }

    /// Tells the user something of the connection.
    fn tell(&self, note: &str) {
        match self.terminal {
            true => eprint!("\r\n[{note}]\r\n"),
            false => tell(note),
        }
    }

    fn take(&mut self, event: Event) -> Result<Option<End>, Failure> {
        let bytes = match event {
            Event::Ended(ending) => {
                let status = u8::try_from(ending.status() & 0xff).unwrap_or(u8::MAX);
                return Ok(Some(End::Command(status)));
            }
            Event::Begun | Event::OutOfMemory => return Ok(None),
            Event::Output(bytes) => {
                let written = self.out.write(&bytes);
                written.map_err(|e| Failure::from(e).about("cannot write to stdout"))?;
                bytes
            }
            Event::Error(bytes) => {
                // If it cannot be written, there is nowhere to tell it.
                let _ = std::io::stderr().write_all(&bytes);
                bytes
            }
        };
        self.running.passed_on(bytes.len());
        Ok(self.out.is_closed().then_some(End::Unheard))
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 8192];
        match waiting::read_stdin(&mut buffer)? {
            Some([]) => {
                self.has_input = false;
                self.running.end_of_input();
            }
            Some(input) => self.running.input(input),
            None => {}
        }
        Ok(())
    }
}
