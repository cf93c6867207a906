//! A new file, which has its name only when it is complete (umlmon, in the process that works on disks).

use std::fs::File;

use config::DiskName;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::error::failed;
use super::{Error, Workplace};

/// What the name of a half-made file begins with: `.root.dsk.part` will be `root.dsk`. No disk can have such a name.
pub const PARTIAL_PREFIX: &str = ".";
/// What the name of a half-made file ends with.
pub const PARTIAL_SUFFIX: &str = ".part";

/// Owner and group may read it, as the VM's user may want to back up or check it; only the owner may write.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);

/// Whether what is in the file must be on the host's disk before the file has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It must, or after a power failure the name could stand for an incomplete file.
    Flushed,
    /// The host decides: there is no content, or so much that it would take as long as the work itself.
    LeftToHost,
}

/// A half-made file, which is removed unless it is finished.
pub(super) struct Draft<'a> {
    workplace: &'a Workplace,
    pub(super) disk: &'a DiskName,
    pub(super) file: File,
    /// Empty when it is finished.
    partial: String,
}

impl<'a> Draft<'a> {
    /// Begins a file that will have this name, which must be free.
    pub(super) fn begin(workplace: &'a Workplace, disk: &'a DiskName) -> Result<Draft<'a>, Error> {
        workplace.check_absent(disk)?;
        let partial = partial(disk);
        workplace.discard(disk)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(workplace.own(), &partial, flags, MODE);
        Ok(Draft {
            workplace,
            disk,
            file: fd.map_err(|errno| failed("create", disk, errno))?.into(),
            partial,
        })
    }

    /// Gives it its name.
    pub(super) fn finish(mut self, content: Content) -> Result<(), Error> {
        if content == Content::Flushed {
            flush(self.disk, &self.file)?;
        }
        let directory = self.workplace.own();
        let (from, to) = (&self.partial, self.disk.file_name());
        let mut named =
            rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE);
        if let Err(Errno::INVAL | Errno::NOSYS) = named {
            // A file system without this flag, such as NFS. A hard link never replaces anything either.
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

/// Is this the name of a half-made file, so that [`Task::Tidy`](super::Task::Tidy) would remove it?
pub fn is_partial(name: &[u8]) -> bool {
    let name = std::str::from_utf8(name).unwrap_or_default();
    let name = name.strip_prefix(PARTIAL_PREFIX);
    let name = name.and_then(|name| name.strip_suffix(PARTIAL_SUFFIX));
    name.is_some_and(|name| format!("/disks/{name}").parse::<DiskName>().is_ok())
}

fn partial(disk: &DiskName) -> String {
    format!("{PARTIAL_PREFIX}{}{PARTIAL_SUFFIX}", disk.file_name())
}

impl Workplace {
    /// Removes a half-made file that a killed process has left.
    pub(super) fn discard(&self, disk: &DiskName) -> Result<(), Error> {
        match rustix::fs::unlinkat(self.own(), partial(disk), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove what is left of a former", disk, errno)),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            // If that fails, the next task of this name, or a `Tidy`, tries it again.
            let _ = self.workplace.discard(self.disk);
        }
    }
}

/// Waits until a file is on the host's disk.
pub(super) fn flush(disk: &DiskName, file: &File) -> Result<(), Error> {
    rustix::fs::fsync(file).map_err(|errno| failed("flush", disk, errno))
}
