//! Copies of images (umlmon, in the process that works on disks).

use config::DiskName;
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

use super::draft::{Draft, Durable};
use super::error::failed;
use super::extents::{Extents, Transfer};
use super::meter::Meter;
use super::place::{Facts, Image};
use super::{Error, Watch, Workplace, space};

impl Workplace {
    /// The copy has the time of the original, as that is what copy-on-write images know a backing file by.
    pub(super) fn copy(
        &self,
        source: &DiskName,
        destination: &DiskName,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let image = self.read(source)?;
        let draft = Draft::begin(self, destination)?;
        // Shares the blocks, in no time. If it fails, for whatever reason, there is another way.
        if rustix::fs::ioctl_ficlone(&draft.file, &image.file).is_ok() {
            Meter::new(watch, image.facts.size)?.finish()?;
        } else {
            copy_content(&image, &draft, watch)?;
        }
        image.check_unchanged()?;
        set_time(&draft, &image.facts)?;
        draft.place(Durable::Soon)
    }
}

fn copy_content(image: &Image<'_>, draft: &Draft<'_>, watch: &mut dyn Watch) -> Result<(), Error> {
    let (size, full) = (image.facts.size, image.facts.is_full());
    let total = if full { size } else { data_of(image, watch)? };
    space::check(draft.disk, &draft.file, total)?;
    let mut meter = Meter::new(watch, total)?;
    let mut transfer = Transfer::new(image, draft.disk, &draft.file);
    Extents::of(image).walk(0..size, &mut |extent| {
        let part = extent.part;
        if extent.is_data {
            transfer.copy(part.clone(), part.start, &mut meter)
        } else if full {
            space::allocate(draft.disk, &draft.file, part, &mut meter)
        } else {
            meter.advance(0)
        }
    })?;
    let sized = rustix::fs::ftruncate(&draft.file, size);
    sized.map_err(|errno| failed("write", draft.disk, errno))?;
    meter.finish()
}

/// Bytes of data. Counting takes a moment for a file in a million pieces, so that can be cancelled as well.
fn data_of(image: &Image<'_>, watch: &mut dyn Watch) -> Result<u64, Error> {
    let mut data = 0;
    let mut meter = Meter::new(watch, image.facts.allocated)?;
    Extents::of(image).walk(0..image.facts.size, &mut |extent| {
        if extent.is_data {
            data += extent.part.end - extent.part.start;
        }
        meter.advance(0)
    })?;
    Ok(data)
}

fn set_time(draft: &Draft<'_>, facts: &Facts) -> Result<(), Error> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: facts.seconds,
            tv_nsec: facts.nanoseconds,
        },
    };
    let set = rustix::fs::futimens(&draft.file, &times);
    set.map_err(|errno| failed("set the time of", draft.disk, errno))
}
