//! Where the disks are, and how a file there is opened: never through a link, never waiting, never without a check
//! (umlmon, in the process that works on disks).
//!
//! A file name is one component and was checked, so `O_NOFOLLOW` is enough to stay in the directory. The owner of the
//! directory can replace a file at any time; so all that matters is checked again on the open file.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use config::DiskName;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Error;
use super::error::failed;
use crate::cow::{Header, READ_BYTES};
use crate::inspect::name_of;

/// The two directories with the disks of one VM.
#[derive(Debug)]
pub struct Workplace {
    own: OwnedFd,
    shared: OwnedFd,
}

/// A regular file, open.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) disk: &'a DiskName,
    pub(super) file: File,
    pub(super) facts: Facts,
}

/// The attributes that show whether a file has changed, and others of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// In bytes.
    pub(super) size: u64,
    /// Bytes that it occupies.
    pub(super) allocated: u64,
    /// When it was modified: seconds since 1970.
    pub(super) seconds: i64,
    /// And nanoseconds.
    pub(super) nanoseconds: i64,
}

impl Facts {
    pub(super) fn of(stat: &Stat) -> Facts {
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0);
        Facts {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: allocated.saturating_mul(512),
            seconds: stat.st_mtime,
            nanoseconds: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    /// The seconds as a copy-on-write header has them; None before 1970 and from 2106 on, when the kernel takes no
    /// header for right.
    pub(super) fn modified(&self) -> Option<u32> {
        u32::try_from(self.seconds).ok()
    }

    /// There are blocks for all of it.
    pub(super) fn is_full(&self) -> bool {
        self.size > 0 && self.allocated >= self.size
    }
}

impl<'a> Image<'a> {
    /// What was opened, if it is a regular file.
    fn of(disk: &'a DiskName, file: File) -> Result<Image<'a>, Error> {
        let stat = fstat(disk, &file)?;
        check_regular(disk, &stat)?;
        Ok(Image {
            disk,
            file,
            facts: Facts::of(&stat),
        })
    }

    /// The header of a copy-on-write image. It fits the length of the file.
    pub(super) fn header(&self) -> Result<Header, Error> {
        let mut bytes = vec![0; READ_BYTES];
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            let read = self.file.read_at(rest, length as u64);
            match read.map_err(|error| failed("read", self.disk, error))? {
                0 => break,
                more => length += more,
            }
        }
        bytes.truncate(length);
        let header = Header::parse(&bytes).and_then(|header| {
            header.geometry()?.check_length(self.facts.size)?;
            Ok(header)
        });
        header.map_err(|why| Error::Cow {
            disk: self.disk.clone(),
            why,
        })
    }

    /// Fails if the file is not what it was when it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), Error> {
        let stat = rustix::fs::fstat(&self.file);
        let now = Facts::of(&stat.map_err(|errno| failed("look at", self.disk, errno))?);
        let key = |facts: &Facts| (facts.size, facts.seconds, facts.nanoseconds);
        if key(&now) == key(&self.facts) {
            return Ok(());
        }
        Err(Error::Changed {
            disk: self.disk.clone(),
        })
    }
}

impl Workplace {
    /// Opens `disks` and `shared/disks` in `root`, the jail. The parents of both belong to root.
    ///
    /// # Errors
    /// [`Error::Directory`].
    pub fn open(root: &Path) -> Result<Workplace, Error> {
        let root_directory = directory(CWD, root, root)?;
        let shared = directory(&root_directory, Path::new("shared"), root)?;
        Ok(Workplace {
            own: directory(&root_directory, Path::new("disks"), root)?,
            shared: directory(&shared, Path::new("disks"), &root.join("shared"))?,
        })
    }

    /// The directory of disks that are changed.
    pub(super) fn own(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }

    /// The directory of disks that are only read.
    pub(super) fn shared(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }

    fn directory_of(&self, disk: &DiskName) -> BorrowedFd<'_> {
        if disk.is_shared() {
            self.shared()
        } else {
            self.own()
        }
    }

    /// What is at the name, which may be anything.
    pub(super) fn stat(&self, disk: &DiskName) -> Result<Stat, Error> {
        let name = disk.file_name();
        let stat = rustix::fs::statat(self.directory_of(disk), name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_err(|errno| match errno {
            Errno::NOENT => Error::Missing { disk: disk.clone() },
            _ => failed("look at", disk, errno),
        })
    }

    /// Fails if there is anything at the name.
    pub(super) fn check_absent(&self, disk: &DiskName) -> Result<(), Error> {
        match self.stat(disk) {
            Ok(_) => Err(Error::Exists { disk: disk.clone() }),
            Err(Error::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file for reading.
    pub(super) fn read<'a>(&self, disk: &'a DiskName) -> Result<Image<'a>, Error> {
        self.image(disk, OFlags::RDONLY)
    }

    /// Opens a regular file for reading and writing. It is the only name of a file that belongs to the VM's user.
    pub(super) fn change<'a>(&self, disk: &'a DiskName) -> Result<Image<'a>, Error> {
        let image = self.image(disk, OFlags::RDWR)?;
        check_ownership(disk, &fstat(disk, &image.file)?)?;
        Ok(image)
    }

    /// Removes a file that could have been opened for writing, but for its mode.
    pub(super) fn remove(&self, disk: &DiskName) -> Result<(), Error> {
        let image = self.image(disk, OFlags::PATH)?;
        check_ownership(disk, &fstat(disk, &image.file)?)?;
        let removed =
            rustix::fs::unlinkat(self.directory_of(disk), disk.file_name(), AtFlags::empty());
        removed.map_err(|errno| failed("delete", disk, errno))
    }

    /// Opens a regular file in the own directory that has another name than its disk, for reading.
    pub(super) fn read_as<'a>(&self, name: &str, disk: &'a DiskName) -> Result<Image<'a>, Error> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self.own(), name, OFlags::RDONLY | flags, Mode::empty());
        Image::of(
            disk,
            opened
                .map_err(|errno| failed("read the copy of", disk, errno))?
                .into(),
        )
    }

    /// Fails if something else than a file would be replaced.
    pub(super) fn check_replaceable(&self, disk: &DiskName) -> Result<(), Error> {
        check_regular(disk, &self.stat(disk)?)
    }

    fn image<'a>(&self, disk: &'a DiskName, access: OFlags) -> Result<Image<'a>, Error> {
        // This check first: devices are not opened, and the messages are better.
        let stat = self.stat(disk)?;
        check_regular(disk, &stat)?;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(
            self.directory_of(disk),
            disk.file_name(),
            access | flags,
            Mode::empty(),
        );
        let fd = fd.map_err(|errno| match errno {
            Errno::NOENT => Error::Missing { disk: disk.clone() },
            Errno::ACCESS => Error::Permission {
                disk: disk.clone(),
                action: if access == OFlags::RDWR {
                    "writable"
                } else {
                    "readable"
                },
                owner: stat.st_uid,
                mode: stat.st_mode & 0o7777,
            },
            _ => failed("open", disk, errno),
        })?;
        Image::of(disk, fd.into())
    }
}

fn fstat(disk: &DiskName, file: &File) -> Result<Stat, Error> {
    rustix::fs::fstat(file).map_err(|errno| failed("look at", disk, errno))
}

fn check_regular(disk: &DiskName, stat: &Stat) -> Result<(), Error> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        other => Err(Error::Kind {
            disk: disk.clone(),
            found: name_of(other),
        }),
    }
}

fn check_ownership(disk: &DiskName, stat: &Stat) -> Result<(), Error> {
    let disk = disk.clone();
    let (owner, user) = (stat.st_uid, rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(Error::Owner { disk, owner, user });
    }
    let links = stat.st_nlink;
    if links != 1 {
        return Err(Error::Links { disk, links });
    }
    Ok(())
}

fn directory(at: impl AsFd, name: &Path, parent: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(at, name, flags, Mode::empty());
    opened.map_err(|errno| Error::Directory {
        path: parent.join(name).display().to_string(),
        source: errno.into(),
    })
}
