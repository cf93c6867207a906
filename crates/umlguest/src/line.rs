//! The line to the monitor: the greeting, frames out of bytes, and what waits to be written (umlguest).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use guest_line::{Decoder, Encoder, Frame, TELL_READ, VERSION};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open as open_file};
use rustix::io::{Errno, read, write};
use rustix::termios::{OptionalActions, QueueSelector, isatty, tcflush, tcgetattr, tcsetattr};

/// How long the helper waits to be welcome before it begins again.
const GREETING: Duration = Duration::from_secs(1);
/// Beyond this many bytes that wait to be written, nothing more is taken on.
const CROWDED: usize = 64 << 10;

/// Opens the device of the line; a terminal passes all bytes on unchanged from now on.
///
/// # Errors
/// If it cannot be opened or set.
pub(crate) fn open(device: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let cannot = || format!("cannot open {}", device.display());
    let line = open_file(device, flags, Mode::empty()).with_context(cannot)?;
    if isatty(&line) {
        let mut attributes = tcgetattr(&line).with_context(cannot)?;
        attributes.make_raw();
        tcsetattr(&line, OptionalActions::Now, &attributes).with_context(cannot)?;
        tcflush(&line, QueueSelector::IFlush).with_context(cannot)?;
    }
    Ok(line)
}

/// The line, once it is open.
pub(crate) struct Line {
    file: OwnedFd,
    encoder: Encoder,
    decoder: Decoder,
    out: Vec<u8>,
    greeting: Greeting,
}

/// How far the greeting has come.
enum Greeting {
    /// It begins again then.
    Said { nonce: u64, again: Instant },
    /// The monitor has answered. So many bytes were read since, and the monitor was told of so many.
    Welcome { read: u32, told: u32 },
}

impl Line {
    /// Begins with the greeting.
    pub(crate) fn new(file: OwnedFd) -> io::Result<Line> {
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
        let (encoder, decoder) = Default::default();
        let mut line = Line {
            file,
            encoder,
            decoder,
            out: Vec::new(),
            greeting: Greeting::Welcome { read: 0, told: 0 },
        };
        line.greet();
        Ok(line)
    }

    fn greet(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanoseconds = now.map_or(0, |since| since.as_nanos());
        // It need not be secret, but differ from those of helpers that have ended.
        let nonce = u64::try_from(nanoseconds % u128::from(u64::MAX)).unwrap_or(0)
            ^ u64::from(std::process::id()).rotate_right(16);
        (self.encoder, self.decoder) = Default::default();
        // What waits may begin with the rest of a frame; the zero ends what was written of it.
        self.out.clear();
        self.out.push(0);
        self.say(&Frame::Hello {
            version: VERSION,
            nonce,
        });
        let again = Instant::now() + GREETING;
        self.greeting = Greeting::Said { nonce, again };
    }

    /// When [`Line::tick`] is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.greeting {
            Greeting::Said { again, .. } => Some(again),
            Greeting::Welcome { .. } => None,
        }
    }

    /// Greets again if nobody has answered.
    pub(crate) fn tick(&mut self) {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.greet();
        }
    }

    /// There is so much to be written that commands have to wait.
    pub(crate) fn is_crowded(&self) -> bool {
        self.out.len() > CROWDED
    }

    /// Something waits to be written.
    pub(crate) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Queues a frame. One that cannot be encoded is a mistake of this program, and disturbs nothing else.
    pub(crate) fn say(&mut self, frame: &Frame) {
        if let Ok(bytes) = self.encoder.encode(frame) {
            self.out.extend(bytes);
        }
    }

    /// Writes what can be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match write(&self.file, &self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there. Nothing means that all that was before is void: the line was disturbed, or the monitor has
    /// not greeted yet.
    pub(crate) fn read(&mut self) -> io::Result<Option<Vec<Frame>>> {
        let mut buffer = [0; 4096];
        let length = match read(&self.file, &mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Some(Vec::new())),
            Err(error) => return Err(error.into()),
        };
        if let Greeting::Welcome { read, told } = &mut self.greeting {
            *read = read.wrapping_add(u32::try_from(length).unwrap_or(0));
            if read.wrapping_sub(*told) >= TELL_READ {
                *told = *read;
                let read = *read;
                self.say(&Frame::Read(read));
            }
        }
        let mut frames = Vec::new();
        for frame in self.decoder.take(buffer.get(..length).unwrap_or_default()) {
            match (&self.greeting, frame) {
                (Greeting::Said { nonce, .. }, Ok(Frame::Welcome { nonce: answered })) => {
                    if *nonce == answered {
                        self.greeting = Greeting::Welcome { read: 0, told: 0 };
                        self.say(&Frame::Read(0));
                    }
                }
                (Greeting::Said { .. }, _) => {}
                (Greeting::Welcome { .. }, Err(_) | Ok(Frame::Again)) => {
                    self.greet();
                    return Ok(None);
                }
                (Greeting::Welcome { .. }, Ok(frame)) => frames.push(frame),
            }
        }
        Ok(Some(frames))
    }
}
