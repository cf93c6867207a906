//! Bytes on their way from one socket to another that stay in the kernel (umldir): splice(2) through a pipe.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// Empty pipes that are kept for the next connection in which much flows.
const KEPT: usize = 16;

/// Asked for in one step; a pipe takes 16 pieces, of which those of a fast sender have up to 64 KiB.
const STEP: usize = 1 << 20;

thread_local! {
    static EMPTY: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// As pipe2(2), such as `EMFILE`.
    pub fn new() -> io::Result<Pipe> {
        if let Some(pipe) = EMPTY.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe {
            read,
            write,
            held: 0,
        })
    }

    /// Whether all that came in has gone out.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what a socket has into the pipe, which is empty; gives how much, 0 at its end.
    ///
    /// # Errors
    /// As splice(2); `WouldBlock` if the socket has nothing.
    pub fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        self.held = step(from, &self.write, STEP)?;
        Ok(self.held)
    }

    /// Moves what is in the pipe into a socket; gives how much.
    ///
    /// # Errors
    /// As splice(2); `WouldBlock` if the socket takes nothing.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let moved = step(&self.read, to, self.held)?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }

    /// Keeps it for others if it is empty.
    pub fn give_back(self) {
        EMPTY.with_borrow_mut(|empty| {
            if self.is_empty() && empty.len() < KEPT {
                empty.push(self);
            }
        });
    }
}

fn step(from: impl AsFd, to: impl AsFd, size: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        match splice(&from, None, &to, None, size, flags) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
