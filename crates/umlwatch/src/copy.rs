//! `-push` and `-pull`: a file or a tree that is copied into the guest or out of it.

use std::ffi::OsStr;
use std::io::{BufReader, BufWriter};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cli::{Exit, Failure, printable};
use client::bar::Bar;
use client::pipe::{End, Pipe};
use client::{Client, signals};
use file_stream::{Error, Progress, Target, name_of, receive, send};
use guest_line::{receiving, sending};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};

/// How much is read or written at once.
const BUFFER: usize = 32 << 10;

/// Copies into the guest.
///
/// # Errors
/// If something cannot be read here or written there; then nothing of it has its name there.
pub(crate) fn push(client: &Client, source: &[u8], to: &[u8]) -> Result<(), Failure> {
    let source = Path::new(OsStr::from_bytes(source));
    // A wrong name is told at once.
    source.metadata().map_err(|error| {
        Failure::from(error).about(format_args!("cannot read {}", source.display()))
    })?;
    let name = name_of(source).map(OsStr::as_bytes);
    let mut pipe = Pipe::begin(client, receiving(to, name))?;
    let mut shown = Shown::default();
    let sent = {
        let mut out = BufWriter::with_capacity(BUFFER, &mut pipe);
        send(source, &mut out, &mut |progress| shown.show(progress))
    };
    finish(pipe, shown, sent)
}

/// Copies out of the guest.
///
/// # Errors
/// If something cannot be read there or written here; then nothing of it has its name here.
pub(crate) fn pull(client: &Client, source: &[u8], to: &[u8]) -> Result<(), Failure> {
    let name = name_of(Path::new(OsStr::from_bytes(source)));
    let target = Target::at(Path::new(OsStr::from_bytes(to)), name).map_err(ours)?;
    let mut pipe = Pipe::begin(client, sending(source))?;
    let mut shown = Shown::default();
    let received = {
        let mut from = BufReader::with_capacity(BUFFER, &mut pipe);
        receive(&mut from, target, masked(), &mut |progress| {
            shown.show(progress)
        })
    };
    finish(pipe, shown, received)
}

/// The permissions that new files of this process do not have. A guest does not decide on them.
fn masked() -> u32 {
    let masked = umask(Mode::empty());
    umask(masked);
    masked.bits()
}

/// Waits for the end of the other side, and says what went wrong: what was first.
fn finish(mut pipe: Pipe<'_>, shown: Shown, done: Result<(), Error>) -> Result<(), Failure> {
    let end = match done {
        Ok(()) => pipe.end().map(|end| (end, None)),
        // The reason is on the other side.
        Err(error @ Error::Stream(_)) => pipe.end().map(|end| (end, Some(error))),
        Err(error) => Err(ours(error)),
    };
    drop(shown.bar);
    let said = pipe.said();
    let mut lines = said
        .trim_end()
        .lines()
        .map(|line| printable(line.as_bytes()));
    match end? {
        (End::Signal(signal), _) => {
            drop(pipe);
            match signal {
                Signal::SIGINT => Err(Failure::new(Exit::Failed, "cancelled, and undone")),
                signal => signals::obey(signal),
            }
        }
        (End::Done, None) => {
            lines.for_each(|line| eprintln!("umlwatch: the guest says: {line}"));
            Ok(())
        }
        (End::Done, Some(error)) => Err(ours(error)),
        (End::Failed, error) => {
            let said = lines.next_back().unwrap_or_default();
            let said = said.strip_prefix("umlguest: ").unwrap_or(&said);
            let unsaid = error.map_or("it was ended".to_owned(), |error| error.to_string());
            let said = if said.is_empty() { &unsaid } else { said };
            Err(Failure::new(
                Exit::Failed,
                format_args!("the guest says: {said}"),
            ))
        }
    }
}

fn ours(error: Error) -> Failure {
    // It may have names of the guest's files.
    Failure::new(Exit::Failed, printable(error.to_string().as_bytes()))
}

/// How far it is.
#[derive(Default)]
struct Shown {
    bar: Bar,
    total: u64,
    done: u64,
}

impl Shown {
    fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Expected(total) => self.total = total,
            Progress::Bytes(bytes) => self.done = self.done.saturating_add(bytes),
            Progress::LeftOut(path) => {
                let path = printable(path.as_os_str().as_bytes());
                eprintln!("umlwatch: {path} is left out: it is neither file, directory nor link");
                return;
            }
        }
        self.bar.show(self.done, self.total);
    }
}
