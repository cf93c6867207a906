//! The contents of the two directories (umlmon, in the process that works on disks).

use std::os::fd::BorrowedFd;

use config::{DiskKind, DiskName};
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::meter::Meter;
use super::workplace::Facts;
use super::{CowEntry, Entry, Error, Watch, Workplace, is_partial};
use crate::cow::Header;

/// The most disks that [`Task::List`](super::Task::List) finds.
pub const MAX_LISTED: usize = 4096;

/// The most names in a directory, of disks or not, that are read.
const MAX_NAMES: usize = 65536;

impl Workplace {
    pub(super) fn list(&self, watch: &mut dyn Watch) -> Result<(), Error> {
        let mut all = disks(self.own(), "/disks")?;
        all.append(&mut disks(self.shared(), "/shared/disks")?);
        all.sort_unstable();
        let crowded = all.len() > MAX_LISTED;
        all.truncate(MAX_LISTED);
        let mut entries = Vec::with_capacity(all.len());
        let mut meter = Meter::new(watch, all.len() as u64)?;
        for disk in all {
            // It may have been deleted since; and a file that is not what its name says is no disk.
            entries.extend(self.entry(disk));
            meter.advance(1)?;
        }
        meter.finish()?;
        entries.into_iter().for_each(|entry| watch.found(entry));
        if crowded {
            return Err(Error::Crowded("/disks and /shared/disks"));
        }
        Ok(())
    }

    fn entry(&self, disk: DiskName) -> Option<Entry> {
        let stat = self.stat(&disk).ok()?;
        let wanted = match disk.kind() {
            DiskKind::Dsk | DiskKind::Cow => FileType::RegularFile,
            DiskKind::Dev => FileType::BlockDevice,
        };
        if FileType::from_raw_mode(stat.st_mode) != wanted {
            return None;
        }
        let facts = Facts::of(&stat);
        Some(Entry {
            size: facts.size,
            allocated: facts.allocated,
            modified: facts.seconds,
            cow: (disk.kind() == DiskKind::Cow).then(|| self.cow_entry(&disk)),
            disk,
        })
    }

    fn cow_entry(&self, disk: &DiskName) -> CowEntry {
        match self.read(disk).and_then(|image| image.header()) {
            Ok(header) => CowEntry::Header {
                version: header.layout.version(),
                backing: header.shown_backing(),
                size: header.size,
                modified: header.modified,
                problem: self.problem(&header),
            },
            Err(Error::Cow { why, .. }) => CowEntry::Unusable(why.to_string()),
            Err(error) => CowEntry::Unusable(error.to_string()),
        }
    }

    /// Why the kernel will refuse the image for its backing file.
    fn problem(&self, header: &Header) -> Option<String> {
        let Some(backing) = header.backing_disk() else {
            return Some(
                "its backing file is not in /disks or /shared/disks; set it with -disk-import"
                    .to_owned(),
            );
        };
        match self.read(&backing) {
            Ok(image) => mismatch(header, &image.facts),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(super) fn tidy(&self) -> Result<(), Error> {
        self.settle()?;
        for name in names(self.own(), "/disks", &|name| {
            is_partial(name).then(|| name.to_vec())
        })? {
            match rustix::fs::unlinkat(self.own(), name.as_slice(), AtFlags::empty()) {
                // A directory is not a disk, whatever its name.
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(errno) => {
                    return Err(Error::Directory {
                        path: "/disks".to_owned(),
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// How a backing file differs from what the header says of it.
pub(super) fn mismatch(header: &Header, backing: &Facts) -> Option<String> {
    if header.size != backing.size {
        return Some(format!(
            "its backing file has {} bytes, but had {} when the image was made",
            backing.size, header.size
        ));
    }
    if backing.modified() != Some(header.modified) {
        return Some(format!(
            "its backing file was modified at {} (seconds since 1970), but the image expects {}; use -disk-import if the content is the same",
            backing.seconds, header.modified
        ));
    }
    None
}

/// The names in a directory, which the jail has at `path`, that are names of disks. What they are is not known.
pub(super) fn disks(directory: BorrowedFd<'_>, path: &'static str) -> Result<Vec<DiskName>, Error> {
    names(directory, path, &|name| {
        let name = std::str::from_utf8(name).ok()?;
        format!("{path}/{name}").parse().ok()
    })
}

pub(super) fn names<T>(
    directory: BorrowedFd<'_>,
    path: &'static str,
    pick: &dyn Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let unreadable = |errno: Errno| Error::Directory {
        path: path.to_owned(),
        source: errno.into(),
    };
    let mut names = Vec::new();
    for (count, entry) in Dir::read_from(directory).map_err(unreadable)?.enumerate() {
        if count >= MAX_NAMES {
            return Err(Error::Crowded(path));
        }
        names.extend(pick(entry.map_err(unreadable)?.file_name().to_bytes()));
    }
    Ok(names)
}
