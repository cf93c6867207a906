//! How far long work is, as a bar on the terminal (umlwatch, umladmin).

use std::borrow::Cow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is done sooner than this needs no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// Not as wide as the terminal: what is echoed after it would be on another line.
const BYTES: &str =
    "{msg}{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
const STEP: &str = "{msg}{spinner} {elapsed}";

/// The bar of work that takes long, if stderr is a terminal. Its line is cleared when this is dropped.
#[derive(Debug)]
pub struct Bar {
    /// Hidden at first.
    bar: ProgressBar,
    begun: Instant,
}

impl Default for Bar {
    fn default() -> Self {
        Bar {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            begun: Instant::now(),
        }
    }
}

impl Bar {
    /// The next step, of which nobody knows how long it is.
    pub fn step(&self, what: impl Into<Cow<'static, str>>) {
        self.begin(what.into(), STEP);
        self.bar.unset_length();
    }

    /// The next step, with so many bytes.
    pub fn bytes(&self, what: impl Into<Cow<'static, str>>, all: u64) {
        self.begin(what.into(), BYTES);
        self.bar.reset();
        self.bar.set_length(all);
    }

    /// So many bytes of the step are done.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
        self.appear();
    }

    /// The only step, of which the number of all bytes is told with those that are done; 0 is not yet known.
    pub fn show(&self, done: u64, all: u64) {
        match (all, self.bar.length()) {
            (0, _) => return,
            (_, None) => self.bytes("", all),
            (_, Some(_)) => self.bar.set_length(all),
        }
        self.at(done);
    }

    /// Shows that time goes by.
    pub fn tick(&self) {
        self.bar.tick();
        self.appear();
    }

    fn begin(&self, what: Cow<'static, str>, form: &str) {
        let style = ProgressStyle::with_template(form);
        self.bar
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_message(match what.as_ref() {
            "" => what,
            what => format!("{what} ").into(),
        });
    }

    fn appear(&self) {
        if self.bar.is_hidden() && self.begun.elapsed() >= PATIENCE {
            // It stays hidden unless that is a terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
