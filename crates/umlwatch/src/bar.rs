//! The bar that shows how far something is (umlwatch).

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is done sooner than this needs no bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// The bar of work that takes long, if stderr is a terminal.
#[derive(Default)]
pub(crate) struct Bar {
    /// It counts from the beginning, and is hidden at first.
    bar: Option<(ProgressBar, Instant)>,
}

impl Bar {
    /// Shows that so many bytes of all are done.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        if total == 0 {
            return;
        }
        let (bar, begun) = self.bar.get_or_insert_with(|| {
            // Not as wide as the terminal: what is echoed after it would be on another line.
            let form =
                "{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
            let style = ProgressStyle::with_template(form);
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            (bar, Instant::now())
        });
        if bar.is_hidden() && begun.elapsed() >= PATIENCE {
            // It stays hidden unless that is a terminal.
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Clears the line.
    pub(crate) fn remove(self) {
        if let Some((bar, _)) = self.bar {
            bar.finish_and_clear();
        }
    }
}
