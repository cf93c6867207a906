//! Passes bytes on between a client and a monitor, in both directions, until both have ended (umldir).
//!
//! Small pieces are read and written by way of one buffer for all connections; a piece that fills it is the begin of
//! more, which goes through a pipe in the kernel. What a peer does not take is held, and nothing read before it is
//! gone, so a connection never holds more than a pipe in each direction. One that is idle holds nothing.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::end::End;
use crate::pipe::Pipe;

/// Size of the buffer for small pieces.
const SMALL: usize = 16 * 1024;

/// Steps of a connection with much data before other tasks run.
const TURN: u32 = 16;

/// How often it is looked whether a monitor that has finished its stream is still there.
const LOOK: Duration = Duration::from_secs(5);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SMALL]);
}

/// Passes bytes on until both sides have finished their streams, or the monitor has gone.
///
/// # Errors
/// If the connection to the client breaks. Both are closed then, too.
pub async fn relay(client: OwnedFd, monitor: OwnedFd) -> io::Result<()> {
    let mut relay = Relay {
        client: End::new(client)?,
        monitor: End::new(monitor)?,
        up: Way::default(),
        down: Way::default(),
    };
    while !relay.is_over() {
        let finished = relay.down.ended;
        let turn = std::future::poll_fn(|context| relay.poll(context));
        if !finished {
            turn.await?;
        } else if let Ok(turn) = tokio::time::timeout(LOOK, turn).await {
            turn?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// A redirected connection.
#[derive(Debug)]
struct Relay {
    client: End,
    monitor: End,
    /// To the monitor.
    up: Way,
    /// To the client.
    down: Way,
}

impl Relay {
    /// Ready when other tasks should run, or when a direction has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let up = match self.up.poll(context, &mut self.client, &mut self.monitor) {
            // The monitor takes no more, and may have said why: the client is to read that.
            Poll::Ready(Err(Broken::Writing(_))) => {
                self.up = Way::ended();
                Poll::Ready(())
            }
            Poll::Ready(Err(Broken::Reading(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        };
        let down = match self.down.poll(context, &mut self.monitor, &mut self.client) {
            // So ends the stream of a monitor that has not read all of the client's.
            Poll::Ready(Err(Broken::Reading(_))) => {
                self.down = Way::ended();
                self.client.finish()?;
                Poll::Ready(())
            }
            Poll::Ready(Err(Broken::Writing(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        };
        match (up, down) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn is_over(&self) -> bool {
        self.down.ended && (self.up.ended || self.monitor.is_gone())
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    held: Held,
    ended: bool,
}

/// What has been read and not been written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    /// What is left of a small piece.
    Bytes(Vec<u8>),
    /// Much flows; the pipe may be empty.
    Pipe(Pipe),
}

/// Which connection broke.
#[derive(Debug)]
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl Way {
    fn ended() -> Way {
        Way {
            held: Held::Nothing,
            ended: true,
        }
    }

    /// Ready when other tasks should run, or when it has just ended.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut End,
        to: &mut End,
    ) -> Poll<Result<(), Broken>> {
        if self.ended {
            return Poll::Pending;
        }
        for _ in 0..TURN {
            ready!(self.deliver(context, to))?;
            let read = match &mut self.held {
                Held::Pipe(pipe) => from
                    .poll_read(context, 0, |from| pipe.fill(from))
                    .map_err(Broken::Reading),
                _ => self.pass(context, from, to),
            };
            match read? {
                Poll::Ready(0) => {
                    *self = Way::ended();
                    return Poll::Ready(to.finish().map_err(Broken::Writing));
                }
                Poll::Ready(_) => {}
                Poll::Pending => {
                    self.rest(to);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is held.
    fn deliver(&mut self, context: &mut Context<'_>, to: &mut End) -> Poll<Result<(), Broken>> {
        loop {
            match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Pipe(pipe) if pipe.is_empty() => return Poll::Ready(Ok(())),
                Held::Pipe(pipe) => {
                    ready!(to.poll_write(context, |to| pipe.drain(to))).map_err(Broken::Writing)?;
                }
                Held::Bytes(bytes) => {
                    let written = ready!(to.poll_write(context, |to| put(to, bytes)));
                    bytes.drain(..written.map_err(Broken::Writing)?);
                    if bytes.is_empty() {
                        self.held = Held::Nothing;
                    }
                }
            }
        }
    }

    /// Reads a piece, and writes as much of it as is taken; gives its size.
    fn pass(
        &mut self,
        context: &mut Context<'_>,
        from: &mut End,
        to: &mut End,
    ) -> Poll<Result<usize, Broken>> {
        BUFFER.with_borrow_mut(|buffer| {
            let read = from.poll_read(context, SMALL, |from| {
                Ok(recv(from, buffer.as_mut_slice(), RecvFlags::DONTWAIT)?.0)
            });
            let size = ready!(read).map_err(Broken::Reading)?;
            let mut piece = buffer.get(..size).unwrap_or_default();
            while !piece.is_empty() {
                match to.poll_write(context, |to| put(to, piece)) {
                    Poll::Ready(Ok(written)) => piece = piece.get(written..).unwrap_or_default(),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Writing(error))),
                    Poll::Pending => {
                        self.held = Held::Bytes(piece.to_vec());
                        return Poll::Ready(Ok(size));
                    }
                }
            }
            // If no pipe is available, it continues in this way.
            if size == SMALL
                && let Ok(pipe) = Pipe::new()
            {
                self.held = Held::Pipe(pipe);
            }
            Poll::Ready(Ok(size))
        })
    }

    /// Nothing is to be read, and nothing is held: what serves the flow of much is given back.
    fn rest(&mut self, to: &mut End) {
        if let Held::Pipe(pipe) = std::mem::take(&mut self.held) {
            pipe.give_back();
        }
        to.has_room();
    }
}

fn put(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}
