//! New disks, and the names of backing files in those that came from elsewhere (umlmon, in the process that works on
//! disks).

use std::os::unix::fs::FileExt;

use config::DiskName;

use super::draft::{Content, Draft, flush};
use super::error::{failed, refused};
use super::meter::Meter;
use super::workplace::Image;
use super::{Error, Watch, Workplace, space};
use crate::cow::{Header, Layout, MIN_BACKING, SECTOR_BYTES, Unusable};

impl Workplace {
    pub(super) fn create(
        &self,
        disk: &DiskName,
        bytes: u64,
        sparse: bool,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        if !sparse {
            self.check_absent(disk)?;
            space::check(disk, self.own(), bytes)?;
        }
        let draft = Draft::begin(self, disk)?;
        if !sparse {
            let mut meter = Meter::new(watch, bytes)?;
            space::allocate(disk, &draft.file, 0..bytes, &mut meter)?;
            meter.finish()?;
        }
        let sized = rustix::fs::ftruncate(&draft.file, bytes);
        sized.map_err(|errno| failed("create", disk, errno))?;
        draft.finish(Content::LeftToHost)
    }

    pub(super) fn create_cow(&self, disk: &DiskName, backing: &DiskName) -> Result<(), Error> {
        let (base, modified) = self.backing(backing)?;
        let header = Header::new(backing, modified, base.facts.size);
        let unusable = |why| Error::Cow {
            disk: backing.clone(),
            why,
        };
        let length = header.geometry().map_err(unusable)?.length;
        let bytes = header.encode().map_err(unusable)?;
        let draft = Draft::begin(self, disk)?;
        let written = draft.file.write_all_at(&bytes, 0);
        written.map_err(|error| failed("write", disk, error))?;
        let sized = rustix::fs::ftruncate(&draft.file, length);
        sized.map_err(|errno| failed("create", disk, errno))?;
        base.check_unchanged()?;
        draft.finish(Content::Flushed)
    }

    /// One write, so that no crash leaves half a header.
    pub(super) fn import(&self, disk: &DiskName, backing: &DiskName) -> Result<(), Error> {
        let image = self.change(disk)?;
        let mut header = image.header()?;
        if header.layout != Layout::Three {
            let why = "its header is of an old version, which cannot be rewritten; name the backing file as the header \
                       does, and commit the image to a .dsk";
            return Err(refused(disk, why));
        }
        let (base, modified) = self.backing(backing)?;
        if base.facts.size != header.size {
            let why = format!(
                "it belongs to a backing file of {} bytes, but {backing} has {}; choose the file it was made for",
                header.size, base.facts.size
            );
            return Err(refused(disk, why));
        }
        header.backing = backing.as_str().into();
        header.modified = modified;
        let bytes = header.encode().map_err(|why| Error::Cow {
            disk: disk.clone(),
            why,
        })?;
        base.check_unchanged()?;
        let written = image.file.write_all_at(&bytes, 0);
        written.map_err(|error| failed("write", disk, error))?;
        flush(disk, &image.file)
    }

    /// Opens a backing file, of a size and a time of modification that the kernel can use; with the latter, for a
    /// header.
    fn backing<'a>(&self, backing: &'a DiskName) -> Result<(Image<'a>, u32), Error> {
        let image = self.read(backing)?;
        let size = image.facts.size;
        if size < MIN_BACKING || !size.is_multiple_of(SECTOR_BYTES.into()) {
            let why = format!(
                "it has {size} bytes, but a backing file needs at least {MIN_BACKING}, and whole sectors of \
                 {SECTOR_BYTES}; resize it"
            );
            return Err(refused(backing, why));
        }
        if size > super::MAX_BYTES {
            return Err(Error::Cow {
                disk: backing.clone(),
                why: Unusable::Size(size),
            });
        }
        let Some(modified) = image.facts.modified() else {
            let why = "it was modified before 1970 or after 2105, which a copy-on-write image cannot record; touch(1) it";
            return Err(refused(backing, why));
        };
        Ok((image, modified))
    }
}
