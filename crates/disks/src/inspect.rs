//! Virtual disks as the ubd driver sees them: is the file usable, and how is it passed (umlmon, the monitor process).
//!
//! The directories belong to the VM's user, so their files are only examined, and never opened for reading or writing
//! by root. Each look opens the directory anew, as a kernel does that is started now: a file system may have been
//! mounted there meanwhile.
//!
//! Whether the VM's user may use a file is not concluded from its mode, because access control lists, mounts and
//! attributes count, too: the host's kernel is asked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use config::{DiskKind, DiskName};
use rustix::fs::{Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::Identity;

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the two directories is not there.
    #[error("cannot open the disk directory {path}: {source}")]
    Directory {
        /// The directory, as the host sees it.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// One of the two directories is not for the VM's user.
    #[error(
        "{user} cannot use the disk directory {path} (owner {owner}, mode {mode:04o}); try: {advice} {path}"
    )]
    Foreign {
        /// The directory, as the host sees it.
        path: PathBuf,
        /// The VM's user.
        user: String,
        /// The numeric owner of the directory.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// The command that would help, without the directory.
        advice: String,
    },
    /// There is no such file for the VM, but there is one on the host.
    #[error(
        "{disk} is {host} on the host, but the jail does not have it: a file system has been mounted there since the \
         monitor was started; umladmin stop and umladmin start of this VM help"
    )]
    Covered {
        /// The disk's name in the jail.
        disk: DiskName,
        /// The file that the host has.
        host: PathBuf,
    },
    /// There is no such file.
    #[error("{disk} does not exist (it would be {host})")]
    Missing {
        /// The disk's name in the jail.
        disk: DiskName,
        /// The same file as the host sees it.
        host: PathBuf,
    },
    /// A directory cannot be read.
    #[error("cannot list the disk directory {path}: {source}")]
    List {
        /// The directory, as the host sees it.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be examined.
    #[error("cannot look at {disk}: {source}")]
    Stat {
        /// The disk's name in the jail.
        disk: DiskName,
        /// The reason.
        source: io::Error,
    },
    /// A symlink, FIFO, directory, ...
    #[error("{disk} is not {expected}, but {found}")]
    Kind {
        /// The disk's name in the jail.
        disk: DiskName,
        /// The kind of file that the suffix stands for.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The VM's user may not read the file, or may not write a disk of its own.
    #[error(
        "{disk} is not {action} by {user} (owner {owner}, mode {mode:04o}); try: {remedy} {host}"
    )]
    Permission {
        /// The disk's name in the jail.
        disk: DiskName,
        /// "readable" or "writable".
        action: &'static str,
        /// The VM's user.
        user: String,
        /// The numeric owner of the file.
        owner: u32,
        /// The permission bits of the file.
        mode: u32,
        /// The command that gives the user the file, or its owner the permission.
        remedy: String,
        /// The file as the host sees it.
        host: PathBuf,
    },
    /// The VM's user may not use the file, and its owner and mode are not the reason.
    #[error("{disk} is not {action} by {user}: {source}")]
    Refused {
        /// The disk's name in the jail.
        disk: DiskName,
        /// "readable" or "writable".
        action: &'static str,
        /// The VM's user.
        user: String,
        /// The reason.
        source: io::Error,
    },
}

/// The user as which the kernel will open the disks.
#[derive(Debug, Clone, Copy)]
pub struct Opener<'a> {
    /// For messages.
    pub name: &'a str,
    /// The user's number.
    pub uid: u32,
    /// The main group.
    pub gid: u32,
    /// All others.
    pub groups: &'a [u32],
}

impl Opener<'_> {
    /// Asks whether it may use the file `name` like this.
    fn may(&self, access: Access, directory: impl AsFd, name: &str) -> io::Result<()> {
        let user = sys::FileUser {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups,
        };
        user.may(access, directory, Path::new(name))
    }
}

/// What is known of a usable disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The identity of the disk, the same under every name.
    pub identity: Identity,
    /// In bytes; 0 for a block device.
    pub size: u64,
    /// Bytes that the file occupies.
    pub allocated: u64,
    /// The VM's user may only read it.
    pub read_only: bool,
}

/// The most names in a directory that are read by the monitor, which has other work to do.
const MAX_NAMES: usize = 65536;

/// The two directories that may hold disks.
#[derive(Debug)]
pub struct Disks {
    own: Directory,
    shared: Directory,
}

#[derive(Debug)]
struct Directory {
    /// Where the jail has it.
    path: PathBuf,
    /// Where the host has it.
    host: PathBuf,
}

impl Directory {
    fn open(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, &self.path, flags, Mode::empty());
        opened.map_err(|errno| Error::Directory {
            path: self.host.clone(),
            source: errno.into(),
        })
    }
}

impl Disks {
    /// The directories `JAILDIR/disks` and `SHARED/disks`; the jail has the latter as `JAILDIR/shared/disks`. All
    /// parents belong to root.
    ///
    /// # Errors
    /// [`Error::Directory`].
    pub fn open(jaildir: &Path, shared: &Path) -> Result<Disks, Error> {
        let own = jaildir.join("disks");
        let disks = Disks {
            own: Directory {
                path: own.clone(),
                host: own,
            },
            shared: Directory {
                path: jaildir.join("shared/disks"),
                host: shared.join("disks"),
            },
        };
        disks.own.open()?;
        disks.shared.open()?;
        Ok(disks)
    }

    /// Checks that the own directory is for `opener`, and not for a user as which the VM ran before.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Directory`].
    pub fn check_own(&self, opener: &Opener<'_>) -> Result<(), Error> {
        let directory = self.own.open()?;
        let stat = rustix::fs::fstat(&directory).map_err(|errno| Error::Directory {
            path: self.own.host.clone(),
            source: errno.into(),
        })?;
        match [0, opener.uid].contains(&stat.st_uid) {
            true => Ok(()),
            false => Err(foreign(
                &self.own,
                &stat,
                opener,
                format!("chown -R {}", opener.name),
            )),
        }
    }

    /// Checks a disk: it must be what its suffix says, and `opener` must be able to open it.
    ///
    /// A disk of the VM's own must be writable, as the driver would silently fall back to reading only. A shared one
    /// may be read-only.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn inspect(&self, disk: &DiskName, opener: &Opener<'_>) -> Result<Disk, Error> {
        if !disk.is_shared() {
            self.check_own(opener)?;
        }
        let found = self.inspect_backing(disk, opener)?;
        if found.read_only && !disk.is_shared() {
            self.ask(disk, opener, Access::WRITE_OK)?;
        }
        Ok(found)
    }

    /// The same for a disk that is only read: the backing file of a copy-on-write image.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn inspect_backing(&self, disk: &DiskName, opener: &Opener<'_>) -> Result<Disk, Error> {
        let stat = self.stat(disk)?;
        self.ask(disk, opener, Access::READ_OK)?;
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0);
        Ok(Disk {
            identity: Identity::of(&stat),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: allocated.saturating_mul(512),
            read_only: self.ask(disk, opener, Access::WRITE_OK).is_err(),
        })
    }

    /// Whether `opener` could also write the disk.
    pub fn may_write(&self, disk: &DiskName, opener: &Opener<'_>) -> bool {
        let found = self.inspect_backing(disk, opener);
        found.is_ok_and(|found| !found.read_only)
    }

    /// Whether every user who can write the file `image` could write `disk`, too, by the modes of both: no particular
    /// user can be asked for.
    pub fn writers_may_write(&self, image: &DiskName, disk: &DiskName) -> bool {
        let Ok(stat) = self.stat(image) else {
            return false;
        };
        let Ok(target) = self.stat(disk) else {
            return false;
        };
        let nobody = u32::MAX;
        // The least of them.
        let (uid, gid) = match Mode::from_raw_mode(stat.st_mode) {
            mode if mode.contains(Mode::WOTH) => (nobody, nobody),
            mode if mode.contains(Mode::WGRP) => (nobody, stat.st_gid),
            _ => (stat.st_uid, stat.st_gid),
        };
        uid == 0 || permissions(&target, uid, gid) & 6 == 6
    }

    /// The identity of a disk, the same under every name.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Stat`], [`Error::Kind`].
    pub fn identity(&self, disk: &DiskName) -> Result<Identity, Error> {
        Ok(Identity::of(&self.stat(disk)?))
    }

    /// Where a disk is on the host.
    pub fn host_path(&self, disk: &DiskName) -> PathBuf {
        self.directory(disk).host.join(disk.file_name())
    }

    /// Where the monitor finds what the jail has under that name.
    pub(crate) fn jail_path(&self, disk: &DiskName) -> PathBuf {
        self.directory(disk).path.join(disk.file_name())
    }

    /// Whether there is a file in one of the directories for whose name `wanted` holds; also true if there are too many
    /// to check all. The VM's user may have made a million.
    ///
    /// # Errors
    /// [`Error::List`].
    pub fn any(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<bool, Error> {
        for directory in [&self.own, &self.shared] {
            let failed = |errno: Errno| Error::List {
                path: directory.host.clone(),
                source: errno.into(),
            };
            let entries = Dir::read_from(directory.open()?).map_err(failed)?;
            for (count, entry) in entries.enumerate() {
                if count >= MAX_NAMES || wanted(entry.map_err(failed)?.file_name().to_bytes()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn directory(&self, disk: &DiskName) -> &Directory {
        match disk.is_shared() {
            true => &self.shared,
            false => &self.own,
        }
    }

    /// Checks a file, which must be what its suffix says.
    fn stat(&self, disk: &DiskName) -> Result<Stat, Error> {
        let directory = self.directory(disk).open()?;
        let stat = rustix::fs::statat(directory, disk.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|errno| match errno {
            Errno::NOENT => self.missing(disk),
            _ => Error::Stat {
                disk: disk.clone(),
                source: errno.into(),
            },
        })?;
        check_kind(disk, &stat)?;
        Ok(stat)
    }

    fn missing(&self, disk: &DiskName) -> Error {
        let (disk, host) = (disk.clone(), self.host_path(disk));
        match host.symlink_metadata() {
            Ok(_) => Error::Covered { disk, host },
            Err(_) => Error::Missing { disk, host },
        }
    }

    /// Asks the host's kernel whether `opener` may use a disk; why not, otherwise.
    fn ask(&self, disk: &DiskName, opener: &Opener<'_>, access: Access) -> Result<(), Error> {
        let directory = self.directory(disk);
        let fd = directory.open()?;
        let Err(source) = opener.may(access, &fd, disk.file_name()) else {
            return Ok(());
        };
        let action = match access.contains(Access::WRITE_OK) {
            true => "writable",
            false => "readable",
        };
        if Errno::from_io_error(&source) != Some(Errno::ACCESS) {
            return Err(Error::Refused {
                disk: disk.clone(),
                action,
                user: opener.name.to_owned(),
                source,
            });
        }
        let closed = opener.may(Access::EXEC_OK, &fd, ".").is_err();
        match rustix::fs::fstat(&fd) {
            Ok(stat) if closed => {
                let advice = match disk.is_shared() {
                    true => "chmod o+x".to_owned(),
                    false => format!("chown {}", opener.name),
                };
                Err(foreign(directory, &stat, opener, advice))
            }
            _ => Err(self.permission(disk, &self.stat(disk)?, opener, action)),
        }
    }

    fn permission(
        &self,
        disk: &DiskName,
        stat: &Stat,
        opener: &Opener<'_>,
        action: &'static str,
    ) -> Error {
        Error::Permission {
            disk: disk.clone(),
            action,
            user: opener.name.to_owned(),
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            remedy: match stat.st_uid == opener.uid {
                true => "chmod u+rw".to_owned(),
                false => format!("chown {}", opener.name),
            },
            host: self.host_path(disk),
        }
    }
}

fn foreign(directory: &Directory, stat: &Stat, opener: &Opener<'_>, advice: String) -> Error {
    Error::Foreign {
        path: directory.host.clone(),
        user: opener.name.to_owned(),
        owner: stat.st_uid,
        mode: stat.st_mode & 0o7777,
        advice,
    }
}

fn check_kind(disk: &DiskName, stat: &Stat) -> Result<(), Error> {
    let found = FileType::from_raw_mode(stat.st_mode);
    let (wanted, expected) = match disk.kind() {
        DiskKind::Dsk | DiskKind::Cow => (FileType::RegularFile, "a regular file"),
        DiskKind::Dev => (FileType::BlockDevice, "a block device"),
    };
    if found == wanted {
        return Ok(());
    }
    Err(Error::Kind {
        disk: disk.clone(),
        expected,
        found: name_of(found),
    })
}

pub(crate) fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "something unknown",
    }
}

/// The permission bits (4 read, 2 write, 1 execute) that the mode of a file grants to a user of this group.
fn permissions(stat: &Stat, uid: u32, gid: u32) -> u32 {
    let mode = Mode::from_raw_mode(stat.st_mode).bits();
    if stat.st_uid == uid {
        mode >> 6 & 7
    } else if stat.st_gid == gid {
        mode >> 3 & 7
    } else {
        mode & 7
    }
}

/// The kernel argument for disk `n` (arch/um/drivers/ubd_kern.c).
///
/// - `d` for flat images and devices: their content is never taken for a copy-on-write header, which the guest could
///   write to make the next start open any file.
/// - `s` for synchronous mode: without it most kernels carry out no flush of the guest.
/// - `t` for an image whose blocks are all allocated: the guest's discards must not make it sparse.
/// - `r` for what may only be read.
///
/// A copy-on-write image is passed with the backing file that was checked and claimed for it, so that the kernel opens
/// no other one.
pub fn ubd_argument(
    n: u8,
    name: &DiskName,
    disk: &Disk,
    backing: Option<&DiskName>,
    sync: bool,
) -> String {
    let copy_on_write = name.kind() == DiskKind::Cow;
    let full = name.kind() == DiskKind::Dsk && disk.size > 0 && disk.allocated >= disk.size;
    let mut flags = String::new();
    for (flag, given) in [
        ('r', disk.read_only),
        ('s', sync),
        ('d', !copy_on_write),
        ('t', full),
    ] {
        if given {
            flags.push(flag);
        }
    }
    let backing = backing.map_or(String::new(), |backing| format!(",{backing}"));
    format!("ubd{n}{flags}={name}{backing}")
}

#[cfg(test)]
#[path = "inspect/tests.rs"]
mod tests;
