//! The steps from files to an image in the directory of images (umladmin). Nothing is left of one that fails.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cli::{Exit, Failure};
use client::bar::Bar;
use client::signals::{self, Signals};
use client::when;

use super::apart::{self, Stopped, Work};
use super::file_system::{self, Shape};
use super::manifest::{Kernel, Manifest};
use super::store::{Place, Store};

/// An image that is being built.
pub(super) struct Builder<'a> {
    store: &'a Store,
    name: &'a str,
    pub(super) place: Place,
    pub(super) signals: Signals,
    pub(super) bar: Bar,
}

/// An archive that is a part of an image.
pub(super) struct Part<'a> {
    /// What it is called while it is unpacked.
    pub(super) what: String,
    pub(super) bytes: Box<dyn Read + Send + 'a>,
    pub(super) size: u64,
    /// The program that decompresses it.
    pub(super) decompressor: Option<&'static str>,
    /// Whether it says what of the other parts it removes.
    pub(super) is_layer: bool,
}

impl<'a> Builder<'a> {
    /// Begins with a directory for the files. Signals that end a program wait from now on until [`Builder::finish`].
    pub(super) fn begin(store: &'a Store, name: &'a str) -> Result<Builder<'a>, Failure> {
        let failed = |why: String| Failure::new(Exit::Failed, why);
        if !rustix::process::geteuid().is_root() {
            let why = "images must be built by root: their files have owners";
            return Err(Failure::new(Exit::NotAuthorised, why));
        }
        store.check_free(name).map_err(failed)?;
        let signals = Signals::hold()?;
        Ok(Builder {
            place: store.begin(apart::root()).map_err(failed)?,
            store,
            name,
            signals,
            bar: Bar::default(),
        })
    }

    /// Adds files that we have ourselves.
    pub(super) fn add(&self, what: &str, archive: Vec<u8>) -> Result<(), Stopped> {
        self.unpack(Part {
            what: what.into(),
            size: archive.len() as u64,
            bytes: Box::new(Cursor::new(archive)),
            decompressor: None,
            is_layer: false,
        })
    }

    /// Adds the files of an archive.
    pub(super) fn unpack(&self, part: Part<'_>) -> Result<(), Stopped> {
        self.bar
            .bytes(format!("Unpacking {}", part.what), part.size);
        let count = Arc::new(AtomicU64::new(0));
        let mut input = Counted {
            reader: part.bytes,
            count: Arc::clone(&count),
        };
        let work = Work::Unpack {
            decompressor: part.decompressor,
            layer: part.is_layer,
        };
        let mut step = |_: &str| self.bar.at(count.load(Ordering::Relaxed));
        let directory = self.place.path();
        let said = apart::run(directory, &work, &mut input, &self.signals, &mut step);
        let about = |stopped| match stopped {
            Stopped::Failed(why) => Stopped::Failed(format!("cannot unpack {}: {why}", part.what)),
            stopped => stopped,
        };
        let said = said.map_err(about)?;
        for line in said.lines() {
            eprintln!(
                "umladmin: {}: {}",
                part.what,
                cli::printable(line.as_bytes())
            );
        }
        Ok(())
    }

    /// Makes the image of the files.
    pub(super) fn publish(
        &self,
        source: &str,
        shape: Shape,
        kernel: Kernel,
    ) -> Result<(), Stopped> {
        self.bar.step("Making the file system");
        file_system::make(self.place.path(), shape, &self.signals, &mut || {
            self.bar.tick();
        })?;
        let manifest = Manifest {
            source: source.into(),
            size: 0,
            sha256: String::new(),
            date: when::rfc3339(when::now()),
            kernel,
        };
        self.store(&manifest)
    }

    /// Makes the finished file one of the images.
    pub(super) fn store(&self, manifest: &Manifest) -> Result<(), Stopped> {
        self.bar.step("Writing the image");
        let mut hashed = |_| self.bar.tick();
        let published = self
            .store
            .publish(&self.place, self.name, manifest, &mut hashed);
        published.map_err(Stopped::Failed)
    }

    /// Says what has become of it, when nothing but the image is left. A signal has its usual effect then.
    pub(super) fn finish(self, done: Result<(), Stopped>) -> Result<Exit, Failure> {
        let Builder {
            store,
            name,
            place,
            signals,
            bar,
        } = self;
        drop(bar);
        drop(place);
        drop(signals);
        result(name, done)?;
        println!("{}", store.path(name).display());
        Ok(Exit::Done)
    }
}

/// What a caller is told about an image. A signal that has stopped the work has its usual effect.
pub(super) fn result(name: &str, done: Result<(), Stopped>) -> Result<(), Failure> {
    match done {
        Ok(()) => Ok(()),
        Err(Stopped::Failed(why)) => Err(Failure::new(Exit::Failed, why).about(name)),
        Err(Stopped::Signal(signal)) => {
            eprintln!("umladmin: {name}: cancelled, and undone");
            signals::obey(signal)?;
            Err(Failure::new(Exit::Failed, ""))
        }
    }
}

/// A reader that counts.
struct Counted<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
