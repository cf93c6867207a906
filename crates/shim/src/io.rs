//! The streams of a container's process, as containerd names them: FIFOs, or files (the server of a pod).

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::io::Errno;

/// What containerd names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    pub(crate) terminal: bool,
    /// Empty if there is none, as for the others.
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Streams {
    /// Those with these names.
    pub(crate) fn of(terminal: bool, names: [&String; 3]) -> Streams {
        let [stdin, stdout, stderr] = names.map(String::clone);
        Streams {
            terminal,
            stdin,
            stdout,
            stderr,
        }
    }
}

/// A stream that a process writes, and what of it was not passed on yet.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    file: Option<File>,
    waiting: VecDeque<Vec<u8>>,
    written: usize,
}

/// Opens the input, if there is one. It ends when containerd says so: the FIFO is open for writing, too, so that it
/// does not end before somebody has opened it.
pub(crate) fn source(name: &str) -> anyhow::Result<Option<File>> {
    match name {
        "" => Ok(None),
        name => open(name).map(Some),
    }
}

impl Sink {
    /// Opens an output; what is written to one without a name is lost.
    pub(crate) fn open(name: &str) -> anyhow::Result<Sink> {
        let file = match name.strip_prefix("file://") {
            _ if name.is_empty() => None,
            None => Some(open(name)?),
            Some(path) => {
                let opened = File::options().append(true).create(true).open(path);
                Some(opened.with_context(|| format!("cannot write {path}"))?)
            }
        };
        Ok(Sink {
            file,
            ..Sink::default()
        })
    }

    /// What is to be written; it is waited for room if there is something already.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        self.waiting.push_back(bytes);
    }

    /// Where there is no room for what waits.
    pub(crate) fn waits(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| !self.waiting.is_empty())
    }

    /// Writes what there is room for; tells the length of each piece that was written to its end.
    pub(crate) fn write(&mut self, mut done: impl FnMut(usize)) {
        while let Some(piece) = self.waiting.front() {
            let rest = piece.get(self.written..).unwrap_or_default();
            match self.file.as_ref().map(|file| rustix::io::write(file, rest)) {
                Some(Ok(length)) if length < rest.len() => self.written += length,
                Some(Err(Errno::INTR)) => {}
                Some(Err(Errno::AGAIN)) => return,
                // All of it; or nobody can read it ever.
                _ => {
                    done(piece.len());
                    self.waiting.pop_front();
                    self.written = 0;
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Opens a FIFO so that nothing blocks, and no end of containerd ends anything.
fn open(name: &str) -> anyhow::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = File::options();
    let opened = options
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(name);
    opened.with_context(|| format!("cannot open {}", Path::new(name).display()))
}
