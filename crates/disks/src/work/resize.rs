//! Changes of a disk in place, and its end (umlmon, in the process that works on disks).

use std::cmp::Ordering;
use std::fs::File;

use config::{DiskKind, DiskName};

use super::draft::flush;
use super::error::{failed, refused};
use super::meter::Meter;
use super::{Error, Watch, Workplace, list, space};

impl Workplace {
    pub(super) fn delete(&self, disk: &DiskName) -> Result<(), Error> {
        // A fault of the file itself is reported first.
        self.stat(disk)?;
        self.check_no_backing(disk)?;
        self.remove(disk)
    }

    /// A new size that is longer appears only when all blocks are allocated.
    pub(super) fn resize(
        &self,
        disk: &DiskName,
        bytes: u64,
        sparse: bool,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let image = self.change(disk)?;
        self.check_no_backing(disk)?;
        let old = image.facts.size;
        match bytes.cmp(&old) {
            Ordering::Equal => return Ok(()),
            Ordering::Greater if !sparse => {
                space::check(disk, self.own(), bytes - old)?;
                let meter = Meter::new(watch, bytes - old)?;
                let grown = grow(disk, &image.file, old, bytes, meter);
                if grown.is_err() {
                    undo(&image.file, old);
                }
                grown?;
            }
            Ordering::Greater | Ordering::Less => set_size(disk, &image.file, bytes)?,
        }
        flush(disk, &image.file)
    }

    /// Fails if there is a copy-on-write image of the VM's own that needs this file as it is.
    fn check_no_backing(&self, disk: &DiskName) -> Result<(), Error> {
        if disk.kind() != DiskKind::Dsk {
            return Ok(());
        }
        for image in list::disks(self.own(), "/disks")? {
            if image.kind() != DiskKind::Cow {
                continue;
            }
            // A file that cannot be read is not an image, and needs no backing file.
            let header = self.read(&image).and_then(|image| image.header());
            if header.is_ok_and(|header| header.is_backed_by(disk)) {
                let why = format!("it is the backing file of {image}; delete or commit that first");
                return Err(refused(disk, why));
            }
        }
        Ok(())
    }
}

fn grow(
    disk: &DiskName,
    file: &File,
    old: u64,
    bytes: u64,
    mut meter: Meter<'_>,
) -> Result<(), Error> {
    space::allocate(disk, file, old..bytes, &mut meter)?;
    meter.finish()?;
    set_size(disk, file, bytes)
}

fn set_size(disk: &DiskName, file: &File, bytes: u64) -> Result<(), Error> {
    rustix::fs::ftruncate(file, bytes).map_err(|errno| failed("resize", disk, errno))
}

/// Frees the blocks behind the end. Some file systems do nothing if the size stays as it is.
fn undo(file: &File, old: u64) {
    let _ = rustix::fs::ftruncate(file, old.saturating_add(1));
    let _ = rustix::fs::ftruncate(file, old);
}
