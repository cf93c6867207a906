//! Directories that root works in: made or opened, and refused if another user could exchange them. The monitor, and
//! its second process as long as it is root.
//!
//! A path of the configuration is walked once, component by component. Each directory on it must belong to root and be
//! writable by root only, or have the sticky bit; symbolic links count if root made them. What lies below is opened
//! relative to the directory held, never following a link.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::walk::{Found, Guide, Step, failed, kind, walk};
use crate::{Error, Result};

/// Who owns a new directory and who may use it.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Access {
    /// Owned by root, with `mode`.
    pub(crate) const fn root(mode: u32) -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode,
        }
    }
}

/// Opens the directory `path`, which must be absolute and without `..`; missing directories are made, the last one with
/// `mode`, others with 0755.
pub(crate) fn open_path(path: &Path, mode: u32) -> Result<OwnedFd> {
    let found = walk(&host()?, path, &Making { mode })?;
    fs::openat(&found.fd, ".", FLAGS, Mode::empty()).map_err(failed(path))
}

/// The root directory of the process.
pub(crate) fn host() -> Result<OwnedFd> {
    let root = Path::new("/");
    fs::openat(CWD, root, FLAGS, Mode::empty()).map_err(failed(root))
}

/// Finds the regular file `path` in the directory `root`. Only root can exchange it, or a directory or link in its
/// path, or change its content. It is not opened.
pub(crate) fn find_file(root: &OwnedFd, path: &Path, open: Open) -> Result<Found> {
    let found = walk(root, path, &Trusting { open })?;
    match found.is_file() {
        true => Ok(found),
        false => Err(Error::NotFile {
            path: path.to_owned(),
            found: kind(found.kind()),
        }),
    }
}

/// Finds a directory of the host that is open to all, and that only root can exchange, if there is one.
pub(crate) fn find_directory(path: &Path) -> Option<OwnedFd> {
    let found = walk(&host().ok()?, path, &Trusting { open: Open::ToAll }).ok()?;
    (found.kind() == FileType::Directory).then_some(found.fd)
}

/// Which users must be able to search the directories in the path of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// All users, so that no file of a closed directory becomes accessible.
    ToAll,
    /// Only the user in question; the file is in the jail already.
    ToSome,
}

/// The rules for a directory that root works in, which is made if it is missing.
struct Making {
    mode: u32,
}

impl Guide for Making {
    fn judge(&self, step: &Step<'_>) -> Result<()> {
        if step.last && step.kind() != FileType::Directory {
            return Err(Error::NotDirectory {
                path: step.path.to_owned(),
                found: kind(step.kind()),
            });
        }
        of_root(step)
    }

    fn missing(&self, parent: &OwnedFd, name: &OsStr, path: &Path, last: bool) -> Result<()> {
        let mode = if last { self.mode } else { 0o755 };
        make(parent, name, path, Access::root(mode))
    }
}

/// The rules for a file of root.
pub(crate) struct Trusting {
    pub(crate) open: Open,
}

impl Guide for Trusting {
    fn judge(&self, step: &Step<'_>) -> Result<()> {
        let closed = step.kind() == FileType::Directory && step.stat.st_mode & 0o001 == 0;
        if self.open == Open::ToAll && closed {
            return Err(Error::Untrusted {
                path: step.path.to_owned(),
                problem: "is closed to others".to_owned(),
            });
        }
        of_root(step)
    }
}

/// Refuses a link that does not belong to root, and whatever another user could change.
fn of_root(step: &Step<'_>) -> Result<()> {
    match step.kind() {
        FileType::Symlink if step.stat.st_uid == 0 => Ok(()),
        FileType::Symlink => Err(Error::Untrusted {
            path: step.path.to_owned(),
            problem: format!("is a symbolic link of user ID {}", step.stat.st_uid),
        }),
        _ => trusted(step.stat, step.path, !step.last),
    }
}

/// Opens the directory `name` in `parent`, which is shown as `shown` in messages; if missing, it is made with `access`.
/// A directory that is there keeps its mode. If root is to own it, it must be writable by root only.
pub(crate) fn open_below(
    parent: &OwnedFd,
    name: &str,
    shown: &Path,
    access: Access,
) -> Result<OwnedFd> {
    if let Err(Errno::NOENT) = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        make(parent, OsStr::new(name), shown, access)?;
    }
    let directory = open(parent, OsStr::new(name), shown)?;
    if access.uid == 0 {
        trusted(&fs::fstat(&directory).map_err(failed(shown))?, shown, false)?;
    }
    Ok(directory)
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn open(parent: &OwnedFd, name: &OsStr, shown: &Path) -> Result<OwnedFd> {
    fs::openat(parent, name, FLAGS, Mode::empty()).map_err(|error| {
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                Error::NotDirectory {
                    path: shown.to_owned(),
                    found: kind(FileType::from_raw_mode(stat.st_mode)),
                }
            }
            _ => failed(shown)(error),
        }
    })
}

/// Makes a directory without opening it, so that a monitor that runs out of descriptors leaves none half made. By name
/// is safe here: only root can exchange what lies in `parent`. It is no error if another monitor has just made the same
/// one.
fn make(parent: &OwnedFd, name: &OsStr, shown: &Path, access: Access) -> Result<()> {
    let mode = Mode::from_raw_mode(access.mode);
    match fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => return Ok(()),
        made => made.map_err(failed(shown))?,
    }
    let owner = Some(fs::Uid::from_raw(access.uid));
    let group = Some(fs::Gid::from_raw(access.gid));
    fs::chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|()| fs::chmodat(parent, name, mode, AtFlags::empty()))
        .map_err(|error| {
            let _ = fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
            failed(shown)(error)
        })
}

/// Refuses a directory in which a user other than root could exchange the entries. With `on_the_way`, the sticky bit is
/// enough: there, others cannot exchange what belongs to root.
fn trusted(stat: &Stat, path: &Path, on_the_way: bool) -> Result<()> {
    let refuse = |problem| {
        Err(Error::Untrusted {
            path: path.to_owned(),
            problem,
        })
    };
    if stat.st_uid != 0 {
        return refuse(format!("belongs to user ID {}", stat.st_uid));
    }
    if on_the_way && stat.st_mode & 0o1000 != 0 {
        return Ok(());
    }
    if stat.st_mode & 0o002 != 0 {
        return refuse("is writable by everybody".to_owned());
    }
    if stat.st_mode & 0o020 != 0 && stat.st_gid != 0 {
        return refuse(format!("is writable by group ID {}", stat.st_gid));
    }
    Ok(())
}
