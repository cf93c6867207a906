//! The way of output out of the terminal: a pipe that has a piece until all is done with it. Used by the umlmon daemon.
//!
//! Who reads a terminal and is killed takes along what it has just read. So the piece is moved into a pipe within the
//! host's kernel (splice(2)), which the second process of the monitor holds, too. It is looked at there without taking
//! it (tee(2)), and only when it is in the history and in the log it is read away. Whenever the monitor is killed, the
//! piece is in the terminal or in the pipe.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionread, read, retry_on_intr, write};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice, tee};

/// What one read(2) of the master returns at most, in bytes (N_TTY_BUF_SIZE of the host's tty layer).
pub(crate) const READ_BYTES: usize = 4096;
/// Reads of the master for one piece. Each takes one of the 16 buffers that a pipe has (PIPE_DEF_BUFFERS), however
/// little it returns.
const READS: usize = 8;
/// What is looked at in one step, in bytes: all that fits into a pipe.
const LOOK_BYTES: usize = 65536;

/// What has come into the pipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    /// Something has.
    pub any: bool,
    /// The terminal is empty now.
    pub all: bool,
}

/// The pipe.
#[derive(Debug)]
pub(crate) struct Transit {
    outlet: OwnedFd,
    inlet: OwnedFd,
    /// A pipe for a copy of the piece: of one that is not taken, only a copy can be read.
    copy: (OwnedFd, OwnedFd),
    /// The host's kernel cannot splice terminals.
    cannot_splice: Cell<bool>,
}

impl Transit {
    /// A new, empty pipe.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(crate) fn new() -> io::Result<Self> {
        let (outlet, inlet) = pipe()?;
        Self::adopt(outlet, inlet)
    }

    /// The pipe of a former monitor: its end for reading, and that for writing.
    ///
    /// # Errors
    /// As [`Transit::new`].
    pub(crate) fn adopt(outlet: OwnedFd, inlet: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            outlet,
            inlet,
            copy: pipe()?,
            cannot_splice: Cell::new(false),
        })
    }

    /// The ends for reading and for writing.
    pub(crate) fn ends(&self) -> (&OwnedFd, &OwnedFd) {
        (&self.outlet, &self.inlet)
    }

    /// Whether output gets here without ever being in the memory of this process only.
    pub(crate) fn is_safe(&self) -> bool {
        !self.cannot_splice.get()
    }

    /// Moves what the terminal has into the pipe, up to a limit.
    pub(crate) fn fill(&self, master: BorrowedFd<'_>) -> Filled {
        let mut any = false;
        for _ in 0..READS {
            match self.move_some(master) {
                Ok(1..) => any = true,
                // Nothing there, for now; no other error occurs as long as a slave is open.
                Ok(0) | Err(_) => return Filled { any, all: true },
            }
        }
        Filled { any, all: false }
    }

    fn move_some(&self, master: BorrowedFd<'_>) -> Result<usize, Errno> {
        if self.is_safe() {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let splice = || splice(master, None, &self.inlet, None, READ_BYTES, flags);
            match retry_on_intr(splice) {
                // Linux 5.10 cannot, until 5.10.11.
                Err(Errno::INVAL) => self.cannot_splice.set(true),
                moved => return moved,
            }
        }
        let mut buffer = [0; READ_BYTES];
        let length = retry_on_intr(|| read(master, &mut buffer))?;
        // The pipe was empty, and has room.
        let piece = buffer.get(..length).unwrap_or_default();
        retry_on_intr(|| write(&self.inlet, piece))
    }

    /// What is in the pipe, which stays there; empty if there is nothing. More may follow it.
    ///
    /// # Errors
    /// Those of tee(2) and read(2).
    pub(crate) fn look(&self) -> io::Result<Vec<u8>> {
        let flags = SpliceFlags::NONBLOCK;
        let length = match tee(&self.outlet, &self.copy.1, LOOK_BYTES, flags) {
            Err(Errno::AGAIN) => 0,
            length => length?,
        };
        let mut piece = vec![0; length];
        take(self.copy.0.as_fd(), &mut piece)?;
        Ok(piece)
    }

    /// Takes a piece that was looked at out of the pipe; all is done with it.
    ///
    /// # Errors
    /// Those of read(2).
    pub(crate) fn consume(&self, mut piece: Vec<u8>) -> io::Result<()> {
        // The memory is there, as it was just written: so a signal cannot cut this off in the middle.
        match take(self.outlet.as_fd(), &mut piece) {
            // Somebody else has taken it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            taken => taken,
        }
    }
}

/// Both ends of a new pipe, first that for reading.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// Reads until the buffer is full. That nothing is there is believed only if that is so: what stays would be processed
/// again.
fn take(pipe: BorrowedFd<'_>, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(pipe, &mut *buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => buffer = buffer.get_mut(length..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if ioctl_fionread(pipe)? > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::Endpoint;

    /// A terminal and a pipe; with and without splice.
    fn pairs(test: impl Fn(&Endpoint, Transit)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for cannot_splice in [false, true] {
            let _entered = runtime.enter();
            let transit = Transit::new().unwrap();
            transit.cannot_splice.set(cannot_splice);
            test(&Endpoint::open().unwrap(), transit);
        }
    }

    #[test]
    fn a_piece_stays_until_it_is_taken() {
        pairs(|endpoint, transit| {
            let mut kernel = std::fs::File::from(endpoint.kernel_slave().unwrap());
            let filled = transit.fill(endpoint.master());
            assert!(filled.all && !filled.any && transit.look().unwrap().is_empty());
            for _ in 0..3 {
                kernel.write_all(b"output").unwrap();
                while transit.look().unwrap().is_empty() {
                    transit.fill(endpoint.master());
                }
                for _ in 0..3 {
                    assert_eq!(transit.look().unwrap(), b"output");
                }
                transit.consume(b"output".to_vec()).unwrap();
                assert!(transit.look().unwrap().is_empty());
            }
        });
    }

    #[test]
    fn a_pipe_that_somebody_else_uses_does_no_harm() {
        pairs(|_, transit| {
            let (outlet, inlet) = transit.ends();
            write(inlet, b"abc").unwrap();
            assert_eq!(transit.look().unwrap(), b"abc");
            take(outlet.as_fd(), &mut [0; 2]).unwrap();
            transit.consume(b"abc".to_vec()).unwrap();
            write(inlet, &[b'x'; 65536]).unwrap();
            write(inlet, b"full").unwrap_err();
            while let Some(piece) = Some(transit.look().unwrap()).filter(|p| !p.is_empty()) {
                transit.consume(piece).unwrap();
            }
        });
    }
}
