//! Copies of images (umlmon, in the process that works on disks).

use std::fs::File;

use config::DiskName;
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

use super::draft::{Content, Draft};
use super::error::failed;
use super::extents::{Extents, Transfer};
use super::meter::Meter;
use super::workplace::{Facts, Image};
use super::{Error, Watch, Workplace, space};

impl Workplace {
    /// The copy has the time of the original, because copy-on-write images recognise a backing file by it.
    pub(super) fn copy(
        &self,
        source: &DiskName,
        destination: &DiskName,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let image = self.read(source)?;
        let draft = Draft::begin(self, destination)?;
        // Shares the blocks, which takes no time. If it fails, for whatever reason, the data is copied.
        let shared = rustix::fs::ioctl_ficlone(&draft.file, &image.file).is_ok();
        let target = Target {
            disk: destination,
            file: &draft.file,
        };
        fill(&image, &target, shared, watch)?;
        image.check_unchanged()?;
        set_time(&target, &image.facts)?;
        draft.finish(Content::LeftToHost)
    }
}

/// The new file, and the disk that it is, for messages.
pub(super) struct Target<'a> {
    pub(super) disk: &'a DiskName,
    pub(super) file: &'a File,
}

/// Gives the new file what it lacks: the data, unless the two share it, and the blocks of a full image that were never
/// written, which not every file system shares.
pub(super) fn fill(
    image: &Image<'_>,
    target: &Target<'_>,
    shared: bool,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    let (size, full) = (image.facts.size, image.facts.is_full());
    let data = data_of(image, watch)?;
    let total = if full { size } else { data };
    let needed = if shared { total - data } else { total };
    space::check(target.disk, target.file, needed)?;
    let mut meter = Meter::new(watch, total)?;
    let mut transfer = Transfer::new(image, target.disk, target.file);
    Extents::of(image).walk(0..size, &mut |extent| {
        let part = extent.part;
        match (extent.is_data, shared) {
            (true, false) => transfer.copy(part.clone(), part.start, &mut meter),
            (true, true) => meter.advance(part.end - part.start),
            (false, _) if full => space::allocate(target.disk, target.file, part, &mut meter),
            (false, _) => meter.advance(0),
        }
    })?;
    let sized = rustix::fs::ftruncate(target.file, size);
    sized.map_err(|errno| failed("write", target.disk, errno))?;
    meter.finish()
}

/// Bytes of data. Counting takes a moment for a file in a million pieces, so that can be cancelled as well.
pub(super) fn data_of(image: &Image<'_>, watch: &mut dyn Watch) -> Result<u64, Error> {
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

pub(super) fn set_time(target: &Target<'_>, facts: &Facts) -> Result<(), Error> {
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
    let set = rustix::fs::futimens(target.file, &times);
    set.map_err(|errno| failed("set the time of", target.disk, errno))
}
