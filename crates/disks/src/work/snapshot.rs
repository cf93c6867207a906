//! Snapshots: copies of several images under a label, and the way back to them (umlmon, in the process that works on
//! disks).
//!
//! In `/disks`, `.LABEL~root.dsk` is the copy of `root.dsk`, and the list `.LABEL~` has the names of all disks of a
//! snapshot. No disk has such a name. The list comes last: without it, copies are what is left of unfinished work.
//!
//! A rollback makes the new files `.~root.dsk`, and then the list `.~`. From then on it is only completed: each file
//! gets its name. Who is killed before leaves that to [`Snapshot::Settle`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};

use config::{DiskName, SnapshotLabel};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copy::{Target, data_of, fill, set_time};
use super::draft::flush;
use super::error::failed;
use super::workplace::Image;
use super::{Error, Watch, Workplace, list, space};

/// Stands between label and name.
const MARK: char = '~';
/// What is appended to the name of a list that is written.
const PARTIAL: &str = "part";
/// The longest list that is read, in bytes: 16 disks.
const MAX_LIST: u64 = 4096;
/// As a new disk.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);

/// What is done about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Snapshot {
    /// Makes one.
    Make {
        /// The label, which must be new.
        label: SnapshotLabel,
        /// The images, in `/disks`.
        disks: Vec<DiskName>,
    },
    /// Gives images the content that they had then, all or none.
    Restore {
        /// The snapshot.
        label: SnapshotLabel,
        /// All images of the snapshot.
        disks: Vec<DiskName>,
    },
    /// Removes one.
    Forget {
        /// The snapshot.
        label: SnapshotLabel,
    },
    /// Completes the restoring, and removes what is not complete, of a process that was killed.
    Settle,
}

impl Snapshot {
    /// The images that it is about.
    pub(super) fn disks(&self) -> &[DiskName] {
        match self {
            Snapshot::Make { disks, .. } | Snapshot::Restore { disks, .. } => disks,
            Snapshot::Forget { .. } | Snapshot::Settle => &[],
        }
    }
}

/// Whether this name in `/disks` belongs to a snapshot or a rollback.
pub fn is_of_snapshot(name: &[u8]) -> bool {
    name.starts_with(b".") && name.contains(&b'~')
}

/// The label and the name of the disk in the name of a copy in `/disks`; of a list, the latter is empty.
pub fn snapshot_parts(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix('.')?.split_once(MARK)
}

/// The name of the list of a snapshot, or, without a label, of a rollback.
fn list_name(label: &str) -> String {
    format!(".{label}{MARK}")
}

fn copy_name(label: &str, disk: &DiskName) -> String {
    format!(".{label}{MARK}{}", disk.file_name())
}

/// The files of an unfinished set, which are removed unless it gets its list.
struct Set<'a> {
    workplace: &'a Workplace,
    label: &'a str,
    disks: &'a [DiskName],
    is_finished: bool,
}

impl<'a> Set<'a> {
    /// Begins a set of copies of these disks.
    fn begin(workplace: &'a Workplace, label: &'a str, disks: &'a [DiskName]) -> Set<'a> {
        let set = Set {
            workplace,
            label,
            disks,
            is_finished: false,
        };
        set.remove();
        set
    }

    /// Copies all of the images, which are in the order of the disks. Blocks are shared where the file system can.
    fn fill(&self, images: &[Image<'_>], watch: &mut dyn Watch) -> Result<(), Error> {
        let mut files = Vec::new();
        let mut needed: u64 = 0;
        for image in images {
            let file = self
                .workplace
                .new_file(&copy_name(self.label, image.disk), image.disk)?;
            let shared = rustix::fs::ioctl_ficlone(&file, &image.file).is_ok();
            if !shared {
                needed = needed.saturating_add(data_of(image, watch)?);
            }
            files.push((image, file, shared));
        }
        if let Some(disk) = self.disks.first() {
            space::check(disk, self.workplace.own(), needed)?;
        }
        for (image, file, shared) in &files {
            let target = Target {
                disk: image.disk,
                file,
            };
            fill(image, &target, *shared, watch)?;
            image.check_unchanged()?;
            set_time(&target, &image.facts)?;
            flush(image.disk, file)?;
        }
        Ok(())
    }

    /// Writes the list; with that, the set is there.
    fn finish(mut self) -> Result<(), Error> {
        let Some(disk) = self.disks.first() else {
            return Ok(());
        };
        let list = list_name(self.label);
        let partial = format!("{list}{PARTIAL}");
        for disk in self.disks {
            let name = copy_name(self.label, disk);
            let found = rustix::fs::statat(self.workplace.own(), name, AtFlags::SYMLINK_NOFOLLOW);
            found.map_err(|errno| failed("find the copy of", disk, errno))?;
        }
        let mut file = self.workplace.new_file(&partial, disk)?;
        let names: String = self.disks.iter().map(|it| format!("{it}\n")).collect();
        let written = file.write_all(names.as_bytes());
        written.map_err(|error| failed("write the list of", disk, error))?;
        flush(disk, &file)?;
        self.workplace.rename(&partial, &list, disk)?;
        self.is_finished = true;
        self.workplace.flush_directory(disk)
    }

    fn remove(&self) {
        let partial = format!("{}{PARTIAL}", list_name(self.label));
        let copies = self.disks.iter().map(|disk| copy_name(self.label, disk));
        for name in copies.chain([partial]) {
            // If that fails, making the file of this name does, too; or `settle` tries it again.
            let _ = rustix::fs::unlinkat(self.workplace.own(), name, AtFlags::empty());
        }
    }
}

impl Drop for Set<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.remove();
        }
    }
}

impl Workplace {
    pub(super) fn snapshot(
        &self,
        label: &SnapshotLabel,
        disks: &[DiskName],
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        if self.list_of(label.as_str())?.is_some() {
            return Err(Error::SnapshotExists(label.clone()));
        }
        let images = disks.iter().map(|disk| self.read(disk));
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let set = Set::begin(self, label.as_str(), disks);
        set.fill(&images, watch)?;
        set.finish()
    }

    /// The disks must be those of the snapshot: they were claimed.
    pub(super) fn rollback(
        &self,
        label: &SnapshotLabel,
        disks: &[DiskName],
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        self.complete()?;
        let saved = self.list_of(label.as_str())?;
        let saved = saved.ok_or_else(|| Error::NoSnapshot(label.clone()))?;
        if saved.iter().collect::<BTreeSet<_>>() != disks.iter().collect() {
            return Err(Error::OtherDisks(label.clone()));
        }
        let copy = |disk| self.read_as(&copy_name(label.as_str(), disk), disk);
        let images = disks.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
        for disk in disks {
            self.check_replaceable(disk)?;
        }
        let set = Set::begin(self, "", disks);
        set.fill(&images, watch)?;
        set.finish()?;
        self.complete()
    }

    pub(super) fn forget(&self, label: &SnapshotLabel) -> Result<(), Error> {
        let saved = self.list_of(label.as_str())?;
        let saved = saved.ok_or_else(|| Error::NoSnapshot(label.clone()))?;
        let removed = rustix::fs::unlinkat(self.own(), list_name(label.as_str()), AtFlags::empty());
        removed.map_err(directory)?;
        for disk in &saved {
            let removed = rustix::fs::unlinkat(
                self.own(),
                copy_name(label.as_str(), disk),
                AtFlags::empty(),
            );
            removed.map_err(|errno| failed("delete the copy of", disk, errno))?;
        }
        Ok(())
    }

    /// Completes a rollback, and removes copies that are in no list. No snapshot may be in progress.
    pub(super) fn settle(&self) -> Result<(), Error> {
        self.complete()?;
        let mut kept = BTreeSet::new();
        let names = list::names(self.own(), "/disks", &|name| {
            let text = std::str::from_utf8(name).ok()?;
            is_of_snapshot(name).then(|| text.to_owned())
        })?;
        for list in names.iter().filter_map(|name| name.strip_suffix(MARK)) {
            let label = list.strip_prefix('.').unwrap_or(list);
            kept.insert(list_name(label));
            let disks = self.list_of(label)?.unwrap_or_default();
            kept.extend(disks.iter().map(|disk| copy_name(label, disk)));
        }
        for name in names.iter().filter(|name| !kept.contains(*name)) {
            match rustix::fs::unlinkat(self.own(), name, AtFlags::empty()) {
                // A directory is not a copy, whatever its name.
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(errno) => return Err(directory(errno)),
            }
        }
        Ok(())
    }

    /// Gives the files of a rollback their names.
    fn complete(&self) -> Result<(), Error> {
        let Some(disks) = self.list_of("")? else {
            return Ok(());
        };
        for disk in &disks {
            let from = copy_name("", disk);
            match rustix::fs::statat(self.own(), &from, AtFlags::SYMLINK_NOFOLLOW) {
                // It has its name already.
                Err(Errno::NOENT) => {}
                _ => self.rename(&from, disk.file_name(), disk)?,
            }
        }
        if let Some(disk) = disks.first() {
            self.flush_directory(disk)?;
        }
        let removed = rustix::fs::unlinkat(self.own(), list_name(""), AtFlags::empty());
        removed.map_err(directory)
    }

    /// The disks in a list; None if there is none.
    fn list_of(&self, label: &str) -> Result<Option<Vec<DiskName>>, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(self.own(), list_name(label), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(directory(errno)),
        };
        let mut text = String::new();
        let read = file.take(MAX_LIST).read_to_string(&mut text);
        read.map_err(|error| Error::Directory {
            path: format!("/disks/{}", list_name(label)),
            source: error,
        })?;
        let disks = text.lines().filter_map(|line| line.parse().ok());
        Ok(Some(
            disks.filter(|disk: &DiskName| !disk.is_shared()).collect(),
        ))
    }

    fn new_file(&self, name: &str, disk: &DiskName) -> Result<File, Error> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.own(), name, flags, MODE);
        Ok(file.map_err(|errno| failed("copy", disk, errno))?.into())
    }

    fn rename(&self, from: &str, to: &str, disk: &DiskName) -> Result<(), Error> {
        let flags = RenameFlags::empty();
        let renamed = rustix::fs::renameat_with(self.own(), from, self.own(), to, flags);
        renamed.map_err(|errno| failed("name", disk, errno))
    }

    fn flush_directory(&self, disk: &DiskName) -> Result<(), Error> {
        let flushed = rustix::fs::fsync(self.own());
        flushed.map_err(|errno| failed("flush the directory of", disk, errno))
    }
}

fn directory(errno: Errno) -> Error {
    Error::Directory {
        path: "/disks".to_owned(),
        source: errno.into(),
    }
}
