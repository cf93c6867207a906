//! The helper in the guest, and what clients say to it over its line (umlmon, the monitor process).
//!
//! The monitor carries pieces of streams between clients and the helper, and does not look into them. The line is a
//! serial line of the kernel ([`LINE`]) whose other end is a socket. There is a new one for each run of the kernel.

mod line;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::rc::Rc;
use std::time::Duration;

use config::{ChannelName, Vm};
use guest_line::{MAX_PIECE, ToGuest, VERSION, encode};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::failure::{Denied, Failure};
use crate::helper::line::{Line, Received};

/// The serial line of the helper, unless it is configured for something else.
pub const LINE: ChannelName = ChannelName::Ssl(NUMBER);
const NUMBER: u8 = ChannelName::MAX_SSL;

/// How long a guest may take to boot until its helper runs.
const BOOT: Duration = Duration::from_secs(60);
/// How long a client waits for the helper of a guest that has booted: it may be starting again.
const GRACE: Duration = Duration::from_secs(5);

/// How long the helper may take for each step when the monitor itself tells it something.
const STEP: Duration = Duration::from_secs(10);

/// How many streams clients have open at most.
const MAX_STREAMS: usize = 64;

/// Whether the VM has a line for a helper.
pub fn has_line(vm: &Vm) -> bool {
    !vm.ssl.contains_key(&NUMBER)
}

/// The helper of the guest, if there is one. It lives as long as the monitor; its lines come and go with the kernel.
#[derive(Debug, Default)]
pub struct Helper {
    line: RefCell<Option<Rc<RefCell<Line>>>>,
    /// When the guest will have booted, or has.
    booted: Cell<Option<Instant>>,
    /// Something has changed that a call may wait for.
    changed: Notify,
    /// There is something to write.
    output: Notify,
    /// The number of the last stream. A number is never used again, so a late call cannot meet another stream.
    last: RefCell<u32>,
}

/// The line of one run of the kernel. Dropping it ends all its streams.
#[derive(Debug)]
pub struct HelperLine {
    helper: Rc<Helper>,
    line: Rc<RefCell<Line>>,
    socket: Rc<UnixStream>,
    carrier: JoinHandle<()>,
}

impl HelperLine {
    /// The monitor's end.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for HelperLine {
    fn drop(&mut self) {
        self.carrier.abort();
        let is_this = |line: &mut Rc<RefCell<Line>>| Rc::ptr_eq(line, &self.line);
        self.helper.line.borrow_mut().take_if(is_this);
        self.helper.changed.notify_waiters();
    }
}

/// A stream of a client. Dropping it tells the helper that its client has gone.
#[derive(Debug)]
pub struct Stream {
    helper: Rc<Helper>,
    number: u32,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(line) = self.helper.line() {
            line.borrow_mut().close(self.number);
        }
        self.helper.output.notify_one();
    }
}

impl Helper {
    /// Begins a line; returns the kernel's end of it.
    ///
    /// # Errors
    /// If there are no descriptors.
    pub fn begin(self: &Rc<Self>) -> io::Result<(HelperLine, OwnedFd)> {
        let (ours, kernels) = Socket::pair()?;
        Ok((self.attend(ours, Line::default())?, kernels.into()))
    }

    /// Goes on with the line of a kernel that another monitor has started. `socket` is the monitor's end. The helper is
    /// asked to begin again: what was said on its streams is not known any more.
    ///
    /// # Errors
    /// If there are no descriptors.
    pub fn resume(self: &Rc<Self>, socket: OwnedFd) -> io::Result<HelperLine> {
        self.attend(socket.into(), Line::resumed())
    }

    fn attend(self: &Rc<Self>, socket: Socket, line: Line) -> io::Result<HelperLine> {
        socket.set_nonblocking(true)?;
        let socket = Rc::new(UnixStream::from_std(socket)?);
        let line = Rc::new(RefCell::new(line));
        self.line.replace(Some(Rc::clone(&line)));
        self.booted.set(Some(Instant::now() + BOOT));
        let carrier = carry(Rc::clone(self), Rc::clone(&line), Rc::clone(&socket));
        Ok(HelperLine {
            helper: Rc::clone(self),
            line,
            socket,
            carrier: tokio::task::spawn_local(carrier),
        })
    }

    /// The guest has said that it has booted.
    pub fn guest_is_ready(&self) {
        self.booted.set(Some(Instant::now()));
        self.changed.notify_waiters();
    }

    /// Until when a call that may wait `until` then waits for the helper, if it has come at `now`.
    fn awaited(&self, now: Instant, until: Instant) -> Instant {
        let booted = self.booted.get().unwrap_or(now);
        until.min(booted.max(now) + GRACE)
    }

    /// The line of the kernel that runs.
    fn line(&self) -> Result<Rc<RefCell<Line>>, Denied> {
        self.line.borrow().clone().ok_or(Denied::NotRunning)
    }

    /// Opens a stream, as soon as the helper has reported itself. A guest that has booted without one is not waited for
    /// longer than [`GRACE`]. The helper learns of the stream at once: a number that is less than that of a stream it
    /// knows is to the helper that of one that has ended.
    ///
    /// # Errors
    /// If there is no helper within this time, or too much is open.
    pub async fn open(self: &Rc<Self>, patience: Duration) -> Result<Stream, Failure> {
        if self.line.borrow().is_none() {
            return Err(Failure::NotFound(format!(
                "the VM has no line to a helper, as {LINE} is configured for something else"
            )));
        }
        let now = Instant::now();
        let until = || self.awaited(now, now + patience);
        let version = self
            .when(until, |line| Ok(line.helper()))
            .await?
            .ok_or_else(no_helper)?;
        if version != VERSION {
            return Err(Failure::Failed(format!(
                "the guest's umlguest speaks version {version}, and this monitor version {VERSION}; install the one of \
                 this release in the guest"
            )));
        }
        let nothing = message(&ToGuest::Part(Vec::new()))?;
        let mut last = self.last.borrow_mut();
        let number = last.checked_add(1).ok_or_else(no_helper)?;
        let line = self.line()?;
        let mut line = line.borrow_mut();
        let Some(open) = line.open(number) else {
            return Err(Failure::Busy("the guest's helper does not read".into()));
        };
        if open > MAX_STREAMS {
            line.close(number);
            let why = format!("{MAX_STREAMS} commands run already");
            return Err(Failure::Busy(why));
        }
        *last = number;
        line.send(number, &nothing).map_err(gone)?;
        self.output.notify_one();
        Ok(Stream {
            helper: Rc::clone(self),
            number,
        })
    }

    /// Tells the helper something that is not for a command, and waits until it is done, or cannot be done.
    ///
    /// # Errors
    /// If there is no helper within this time, or it does not read.
    pub async fn tell(self: &Rc<Self>, what: &ToGuest, patience: Duration) -> Result<(), Failure> {
        let stream = self.open(patience).await?;
        stream.send(&message(what)?, STEP).await?;
        // The stream must not end before.
        stream.receive(1, STEP).await.map(drop)
    }

    /// Waits until `look` finds something on the line; nothing if the time is over, which can change meanwhile.
    async fn when<T>(
        &self,
        until: impl Fn() -> Instant,
        mut look: impl FnMut(&mut Line) -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        loop {
            let changed = self.changed.notified();
            if let Some(found) = look(&mut self.line()?.borrow_mut())? {
                return Ok(Some(found));
            }
            if timeout_at(until(), changed).await.is_err() && Instant::now() >= until() {
                return Ok(None);
            }
        }
    }
}

/// The piece that says this.
fn message(what: &ToGuest) -> Result<Vec<u8>, Failure> {
    encode(what, MAX_PIECE).map_err(|error| Failure::Failed(error.to_string()))
}

fn no_helper() -> Failure {
    Failure::NotFound(
        "the guest has no helper, or it does not run: see umlguest(8) for how to install it".into(),
    )
}

impl Stream {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Sends a piece, as soon as the guest reads what was sent before.
    ///
    /// # Errors
    /// If it is too long, the stream has ended, or the guest does not read for so long.
    pub async fn send(&self, piece: &[u8], patience: Duration) -> Result<(), Failure> {
        if piece.len() > MAX_PIECE {
            return Err(Failure::Invalid(format!(
                "a piece has {MAX_PIECE} bytes at most"
            )));
        }
        let until = Instant::now() + patience;
        let sent = self
            .helper
            .when(|| until, |line| line.send(self.number, piece).map_err(gone))
            .await?;
        self.helper.output.notify_one();
        sent.ok_or_else(|| Failure::Failed("the guest's helper does not read".into()))
    }

    /// What has come; waits for something. Nothing if the time is over.
    ///
    /// # Errors
    /// If the VM has ended, or the helper has begun anew.
    pub async fn receive(&self, most: usize, patience: Duration) -> Result<Received, Failure> {
        let until = Instant::now() + patience;
        let received = self.helper.when(
            || until,
            |line| line.receive(self.number, most).map_err(gone),
        );
        Ok(received.await?.unwrap_or_default())
    }
}

fn gone(_: line::NoStream) -> Failure {
    Failure::Failed("the guest's helper has begun anew".into())
}

/// Carries bytes between the line and its socket, until the kernel ends.
async fn carry(helper: Rc<Helper>, line: Rc<RefCell<Line>>, socket: Rc<UnixStream>) {
    loop {
        let interest = match line.borrow().has_output() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        tokio::select! {
            ready = socket.ready(interest) => if ready.is_err() { return },
            () = helper.output.notified() => {}
        }
        // Of the stack: most guests never say a word here.
        let mut buffer = [0; 16 << 10];
        match socket.try_read(&mut buffer) {
            // The kernel has closed its end.
            Ok(0) => return,
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                line.borrow_mut().hear(bytes);
                helper.changed.notify_waiters();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        let written = line.borrow_mut().write(|bytes| socket.try_write(bytes));
        // Somebody may be waiting for room.
        helper.changed.notify_waiters();
        if written.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use guest_line::Frame;

    use super::*;

    #[test]
    fn the_helper_of_a_guest_is_waited_for_as_long_as_it_may_boot() {
        let helper = Helper::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let waits = |from: u64, patience: u64| {
            let until = helper.awaited(after(from), after(from + patience));
            until.duration_since(after(from)).as_secs()
        };
        helper.booted.set(Some(start + BOOT));
        assert_eq!([waits(0, 60), waits(0, 1), waits(40, 60)], [60, 1, 25]);
        assert_eq!([waits(60, 60), waits(1000, 60), waits(1000, 0)], [5, 5, 0]);
        // It has said that it is ready.
        helper.booted.set(Some(after(10)));
        assert_eq!([waits(8, 60), waits(20, 60)], [7, 5]);
    }

    #[test]
    fn the_helper_learns_of_streams_in_the_order_of_their_numbers() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let helper = Rc::<Helper>::default();
            let (_line, guest) = helper.begin().unwrap();
            let mut guest = Socket::from(guest);
            let mut encoder = guest_line::Encoder::default();
            let mut tell = |frame: Frame| {
                let bytes = encoder.encode(&frame).unwrap();
                guest.try_clone().unwrap().write_all(&bytes).unwrap();
            };
            let (version, nonce) = (VERSION, 7);
            tell(Frame::Hello { version, nonce });
            tell(Frame::Read(0));
            let first = helper.open(STEP).await.unwrap();
            let second = helper.open(STEP).await.unwrap();
            second.send(b"second", STEP).await.unwrap();
            first.send(b"first", STEP).await.unwrap();
            let (mut decoder, mut said) = (guest_line::Decoder::default(), Vec::new());
            guest.set_nonblocking(true).unwrap();
            let end = Instant::now() + STEP;
            while said.len() < 4 && Instant::now() < end {
                tokio::task::yield_now().await;
                let mut bytes = [0; 1000];
                let Ok(length) = guest.read(&mut bytes) else {
                    continue;
                };
                let frames = decoder.take(&bytes[..length]).into_iter().flatten();
                said.extend(frames.filter_map(|frame| match frame {
                    Frame::Piece { stream, .. } => Some(stream),
                    _ => None,
                }));
            }
            let (first, second) = (first.number(), second.number());
            assert!(first < second);
            assert_eq!(said, [first, second, second, first]);
        });
    }
}
