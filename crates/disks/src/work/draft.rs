//! A new file, which has its name only when it is complete (umlmon, in the process that works on disks).

use std::fs::File;

use config::DiskName;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::error::failed;
use super::{Error, PARTIAL_PREFIX, PARTIAL_SUFFIX, Workplace};

/// Owner and group may read it, as the VM's user may want to back up or check it; only the owner may write.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);

/// Whether what is in the file must be on the host's disk before the file has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It must, or a power failure could leave the name for something else.
    Flushed,
    /// Leave it to the host: there is none, or so much that it would take as long as the work itself.
    LeftToHost,
}

/// A half-made file, which is removed unless it is placed.
pub(super) struct Draft<'a> {
    place: &'a Workplace,
    pub(super) disk: &'a DiskName,
    pub(super) file: File,
    /// Empty when it is placed.
    partial: String,
}

impl<'a> Draft<'a> {
    /// Begins a file that will have this name, which must be free.
    pub(super) fn begin(place: &'a Workplace, disk: &'a DiskName) -> Result<Draft<'a>, Error> {
        place.check_absent(disk)?;
        let partial = partial(disk);
        discard(place, disk)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(place.own(), &partial, flags, MODE);
        Ok(Draft {
            place,
            disk,
            file: fd.map_err(|errno| failed("create", disk, errno))?.into(),
            partial,
        })
    }

    /// Gives it its name.
    pub(super) fn place(mut self, content: Content) -> Result<(), Error> {
        if content == Content::Flushed {
            flush(self.disk, &self.file)?;
        }
        let directory = self.place.own();
        let (from, to) = (&self.partial, self.disk.file_name());
        let mut named =
            rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE);
        if let Err(Errno::INVAL | Errno::NOSYS) = named {
            // A file system without this flag, as NFS. A second name never replaces anything either.
            named = rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())
                .and_then(|()| rustix::fs::unlinkat(directory, from, AtFlags::empty()));
        }
        named.map_err(|errno| match errno {
            Errno::EXIST => Error::Exists {
                disk: self.disk.clone(),
            },
            _ => failed("name", self.disk, errno),
        })?;
        self.partial.clear();
        Ok(())
    }
}

fn partial(disk: &DiskName) -> String {
    format!("{PARTIAL_PREFIX}{}{PARTIAL_SUFFIX}", disk.file_name())
}

/// Removes a half-made file that a killed process has left.
pub(super) fn discard(place: &Workplace, disk: &DiskName) -> Result<(), Error> {
    match rustix::fs::unlinkat(place.own(), partial(disk), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove what is left of a former", disk, errno)),
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            // If that fails, the next task of this name, or a `Tidy`, tries it again.
            let _ = discard(self.place, self.disk);
        }
    }
}

/// Waits until a file is on the host's disk.
pub(super) fn flush(disk: &DiskName, file: &File) -> Result<(), Error> {
    rustix::fs::fsync(file).map_err(|errno| failed("flush", disk, errno))
}
