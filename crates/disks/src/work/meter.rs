//! The progress of the work, and whether it is still wanted (umlmon, in the process that works on disks).

use super::{Error, Watch};

/// Bytes after which progress is reported; and steps, if they are tiny.
const EVERY_BYTES: u64 = 1 << 20;
const EVERY_STEPS: u32 = 4096;

/// Counts what is done.
pub(super) struct Meter<'a> {
    watch: &'a mut dyn Watch,
    done: u64,
    total: u64,
    unreported: u64,
    steps: u32,
}

impl<'a> Meter<'a> {
    /// The start: nothing of `total` bytes is done.
    pub(super) fn new(watch: &'a mut dyn Watch, total: u64) -> Result<Meter<'a>, Error> {
        let mut meter = Meter {
            watch,
            done: 0,
            total,
            unreported: 0,
            steps: 0,
        };
        meter.report()?;
        Ok(meter)
    }

    /// So many bytes more are done.
    pub(super) fn advance(&mut self, bytes: u64) -> Result<(), Error> {
        self.done = self.done.saturating_add(bytes).min(self.total);
        self.unreported = self.unreported.saturating_add(bytes);
        self.steps += 1;
        if self.unreported >= EVERY_BYTES || self.steps >= EVERY_STEPS {
            self.report()?;
        }
        Ok(())
    }

    /// Everything is done: what was counted before may have been a bit less.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.done = self.total;
        self.report()
    }

    fn report(&mut self) -> Result<(), Error> {
        self.unreported = 0;
        self.steps = 0;
        if self.watch.progress(self.done, self.total) {
            Ok(())
        } else {
            Err(Error::Cancelled)
        }
    }
}
