//! How far the building of an image is, on a terminal (umladmin).

use std::borrow::Cow;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on stderr; nothing if that is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{msg:.bold} {spinner} {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Progress { bar }
    }

    /// The next step, of which nobody knows how long it is.
    pub(super) fn step(&self, what: impl Into<Cow<'static, str>>) {
        if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {elapsed}") {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
    }

    /// The next step, with so many bytes.
    pub(super) fn bytes(&self, what: impl Into<Cow<'static, str>>, all: u64) {
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_length(all);
        self.bar.set_position(0);
        self.bar.set_message(what);
    }

    /// So many bytes of the step are done.
    pub(super) fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Shows that time goes by.
    pub(super) fn tick(&self) {
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A reader that counts.
pub(super) struct Counted<R> {
    pub(super) reader: R,
    pub(super) count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
