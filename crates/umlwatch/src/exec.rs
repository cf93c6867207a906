//! `-exec`: a command in the guest, with the standard descriptors of this program, or in a terminal like its own.

use std::io::Write as _;

use cli::{Exit, Failure, Output};
use client::Client;
use client::guest::{Event, Running};
use client::signals::{self, Signals};
use guest_line::{Command, Size};
use nix::sys::signal::Signal;
use rustix::stdio::{stdin, stdout};
use rustix::termios::isatty;

use crate::terminal::{self, RawTerminal};
use crate::waiting::{self, Came};

/// How long a guest that has just been started may take until its helper runs, in milliseconds.
const PATIENCE_MS: u32 = 60_000;

/// How often a signal is passed on to a command that does not end, before it ends this program.
const PASSED_ON: u32 = 2;

/// The exit status if a command cannot be run, or its connection breaks: that of the container tools, as the command
/// itself may end with any of ours.
const CANNOT: u8 = 125;

/// Runs a command in the guest.
///
/// # Errors
/// If it ends with another status than 0, without a message; if it cannot be run.
pub(crate) fn exec(client: &Client, words: &[u8]) -> Result<(), Failure> {
    let ended = run(client, words).map_err(|failure| Failure {
        exit: Exit::Command(CANNOT),
        ..failure
    });
    match ended? {
        0 => Ok(()),
        status => Err(Failure::new(Exit::Command(status), "")),
    }
}

/// Runs a command; returns its exit status, as a shell gives it.
fn run(client: &Client, words: &[u8]) -> Result<u8, Failure> {
    let monitor = client.connect()?.monitor;
    let size = terminal_size();
    let command = Command {
        words: words_of(words),
        environment: size
            .and(std::env::var("TERM").ok())
            .map_or_else(Vec::new, |term| vec![format!("TERM={term}").into_bytes()]),
        terminal: size,
        ..Command::default()
    };
    let mut session = Session {
        running: Running::begin(monitor, &command, PATIENCE_MS)?,
        out: Output::stdout(),
        has_input: true,
        signals: 0,
    };
    let signals = Signals::hold()?;
    let raw = size.map(|_| RawTerminal::enter()).transpose()?;
    let ended = session.run(&signals, size.is_some());
    drop(raw);
    drop(signals);
    match ended? {
        End::Command(status) => Ok(status),
        End::Signal(signal) => signals::obey(signal).map(|()| CANNOT),
        // As if it had written to the reader that has gone.
        End::Unheard => Ok(128 + 13),
    }
}

/// The words of a command; a single one with blanks is for the guest's shell.
fn words_of(words: &[u8]) -> Vec<Vec<u8>> {
    match words.contains(&0) || !words.contains(&b' ') {
        true => words.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
        false => vec![b"/bin/sh".to_vec(), b"-c".to_vec(), words.to_vec()],
    }
}

/// The size of the terminal that the command is to have one like; none if not both stdin and stdout are a terminal.
fn terminal_size() -> Option<Size> {
    let terminal = isatty(stdin()) && isatty(stdout());
    // One on a serial line does not know its size; then the command's does not, either.
    let (rows, columns) = terminal::size().unwrap_or_default();
    terminal.then_some(Size { rows, columns })
}

enum End {
    Command(u8),
    Signal(Signal),
    Unheard,
}

struct Session {
    running: Running,
    out: Output,
    /// Stdin has not ended.
    has_input: bool,
    /// How many signals were passed on.
    signals: u32,
}

impl Session {
    fn run(&mut self, signals: &Signals, terminal: bool) -> Result<End, Failure> {
        loop {
            self.running.send()?;
            let listening = self.has_input && self.running.takes_input();
            let came = Came::wait(self.running.connection(), signals, listening, None)?;
            if came.answer {
                for event in self.running.heard()? {
                    if let Some(end) = self.take(event)? {
                        return Ok(end);
                    }
                }
            }
            match came.signal.then(|| signals.next()).flatten() {
                Some(Signal::SIGWINCH) if terminal => {
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

    fn take(&mut self, event: Event) -> Result<Option<End>, Failure> {
        let bytes = match event {
            Event::Ended(ending) => {
                let status = u8::try_from(ending.status() & 0xff).unwrap_or(u8::MAX);
                return Ok(Some(End::Command(status)));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_word_with_blanks_is_for_the_shell() {
        assert_eq!(words_of(b"ls"), [b"ls"]);
        assert_eq!(words_of(b"ls\0-l x"), [&b"ls"[..], b"-l x"]);
        assert_eq!(words_of(b"ls -l"), [&b"/bin/sh"[..], b"-c", b"ls -l"]);
    }
}
