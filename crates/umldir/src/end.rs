//! One end of a redirected connection: a stream socket, of this host or to another (umldir).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use tokio::io::unix::AsyncFd;

/// A connected stream socket.
///
/// It waits to be written to only while it does not take what there is: a socket that always did would wake us each
/// time that the peer takes something.
#[derive(Debug)]
pub struct End {
    socket: AsyncFd<OwnedFd>,
    /// The same socket while it is full.
    full: Option<AsyncFd<OwnedFd>>,
}

impl End {
    /// Takes over a socket, which is non-blocking.
    ///
    /// # Errors
    /// If the runtime has no room for it.
    pub fn new(socket: OwnedFd) -> io::Result<End> {
        Ok(End {
            socket: sys::readable(socket)?,
            full: None,
        })
    }

    /// Lets `read` read from the socket as soon as there is something. If it gives more than nothing, but less than
    /// `all`, it has read all there is: it is not tried a second time in vain.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        all: usize,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(context))?;
            match read(guard.get_inner().as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    // The end of the stream remains ready.
                    if (1..all).contains(&count) {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Lets `write` write to the socket, as soon as it takes something.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let result = match &self.full {
                None => write(self.socket.as_fd()),
                Some(full) => {
                    let mut guard = ready!(full.poll_write_ready(context))?;
                    let result = write(guard.get_inner().as_fd());
                    if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                        guard.clear_ready();
                    }
                    result
                }
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.full.is_none() {
                        let same = self.socket.as_fd().try_clone_to_owned()?;
                        self.full = Some(sys::writable(same)?);
                    }
                }
                other => return Poll::Ready(other),
            }
        }
    }

    /// It has taken everything for a while.
    pub fn has_room(&mut self) {
        self.full = None;
    }

    /// Ends the stream that is written to it.
    ///
    /// # Errors
    /// As shutdown(2).
    pub fn finish(&mut self) -> io::Result<()> {
        self.full = None;
        Ok(shutdown(&self.socket, Shutdown::Write)?)
    }

    /// Whether the peer has gone altogether, and not only finished its stream.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let seen = poll(&mut fds, Some(&now));
        let [fd] = fds;
        seen.is_ok() && fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}
