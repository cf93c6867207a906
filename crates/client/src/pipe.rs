//! A command in the guest as a file that is written or read: its standard input and output. Runs in the clients.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use cli::{Exit, Failure};
use guest_line::{Command, Ending};
use nix::sys::signal::Signal;

use crate::call::tell;
use crate::client::Client;
use crate::guest::{Event, PATIENCE_MS, Running};
use crate::signals::Signals;
use crate::waiting::Came;

/// How much of its error output is kept.
const SAID: usize = 16 << 10;

/// How much is given to the command at once.
const PART: usize = 16 << 10;

/// A command that runs. If this is dropped, the command is hung up. Signals are held as long.
pub struct Pipe<'a> {
    running: Running<'a>,
    signals: Signals,
    /// Output that was not read yet, and how much of the first part was.
    output: VecDeque<Vec<u8>>,
    begun: usize,
    said: Vec<u8>,
    ended: Option<Ending>,
    stopped: Option<Stopped>,
}

/// Why it does not go on.
enum Stopped {
    Signal(Signal),
    Failed(Failure),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Well.
    Done,
    /// Not well; [`Pipe::said`] may tell why.
    Failed,
    /// This signal has come, and the command is given up.
    Signal(Signal),
}

impl<'a> Pipe<'a> {
    /// Begins a command. Waits for a guest that is booting.
    ///
    /// # Errors
    /// If there is no helper in the guest.
    pub fn begin(client: &'a Client, words: Vec<Vec<u8>>) -> Result<Pipe<'a>, Failure> {
        let command = Command {
            words,
            ..Command::default()
        };
        let running = Running::begin(client, command, PATIENCE_MS)?;
        Ok(Pipe {
            running,
            signals: Signals::hold()?,
            output: VecDeque::new(),
            begun: 0,
            said: Vec::new(),
            ended: None,
            stopped: None,
        })
    }

    /// What the command wrote to its standard error output, as text.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Gives the command no more input, and waits for its end. All output has to be read before.
    ///
    /// # Errors
    /// If the connection is broken, the guest has gone, or there is more output.
    pub fn end(&mut self) -> Result<End, Failure> {
        if self.stopped.is_none() {
            self.running.end_of_input();
        }
        loop {
            match (&self.stopped, self.ended) {
                (Some(Stopped::Signal(signal)), _) => return Ok(End::Signal(*signal)),
                (Some(Stopped::Failed(failure)), _) => return Err(failure.clone()),
                (None, Some(Ending::Exited(0))) => return Ok(End::Done),
                (None, Some(_)) => return Ok(End::Failed),
                (None, None) => {}
            }
            if !self.output.is_empty() {
                let why = "the guest says more than was asked for";
                return Err(Failure::new(Exit::Failed, why));
            }
            // What goes wrong is kept.
            let _ = self.wait();
        }
    }

    /// The first part of the output was read.
    fn pop(&mut self) -> io::Result<()> {
        self.begun = 0;
        if let Some(part) = self.output.pop_front() {
            self.running.passed_on(part.len());
        }
        // The guest goes on while the caller is busy.
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        if let (None, Err(failure)) = (&self.stopped, self.running.send()) {
            self.stopped = Some(Stopped::Failed(failure));
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// Waits until something comes.
    fn wait(&mut self) -> io::Result<()> {
        if self.stopped.is_none() {
            self.stopped = self.turn().err();
        }
        match &self.stopped {
            Some(_) => Err(io::Error::other("it was interrupted")),
            None => Ok(()),
        }
    }

    fn turn(&mut self) -> Result<(), Stopped> {
        self.running.send().map_err(Stopped::Failed)?;
        if let Some(note) = self.running.take_note() {
            tell(&note);
        }
        let waits = self.running.waits();
        let came = Came::wait(self.running.connection(), &self.signals, false, waits);
        let came = came.map_err(Stopped::Failed)?;
        if came.signal {
            match self.signals.next() {
                None | Some(Signal::SIGWINCH) => {}
                Some(signal) => return Err(Stopped::Signal(signal)),
            }
        }
        if !came.answer {
            return Ok(());
        }
        for event in self.running.heard().map_err(Stopped::Failed)? {
            match event {
                Event::Output(bytes) => self.output.push_back(bytes),
                Event::Error(bytes) => {
                    self.running.passed_on(bytes.len());
                    self.said.extend(bytes);
                    self.said.truncate(SAID);
                }
                Event::Begun | Event::OutOfMemory => {}
                Event::Ended(ending) => self.ended = Some(ending),
            }
        }
        Ok(())
    }
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(part) = self.output.front() else {
                if self.ended.is_some() {
                    return Ok(0);
                }
                self.wait()?;
                continue;
            };
            let mut rest = part.get(self.begun..).unwrap_or_default();
            let length = rest.read(buffer)?;
            self.begun += length;
            if self.begun >= part.len() {
                self.pop()?;
            }
            return Ok(length);
        }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while !self.running.takes_input() && self.ended.is_none() {
            self.wait()?;
        }
        if self.ended.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let part = bytes.get(..PART).unwrap_or(bytes);
        self.running.input(part);
        self.send()?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
