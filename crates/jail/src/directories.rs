//! Directories that root works in: made or opened, and refused if somebody else could exchange them. The monitor, and
//! its second process as long as it is root.
//!
//! A path of the configuration is walked once, component by component. Each directory on it must belong to root and be
//! writable by root only, or have the sticky bit; symbolic links count if root made them. What lies below is opened
//! relative to the directory held, never following a link. [`in_jail`] alone follows links, as far as the jail goes.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::{Error, Result};

/// Links followed on the way to one directory, as the kernel's own limit.
const MAX_LINKS: usize = 40;

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
    let mut names = components(path).ok_or_else(|| Error::BadPath(path.to_owned()))?;
    let mut shown = PathBuf::from("/");
    let mut directory = fs::openat(CWD, "/", FLAGS, Mode::empty()).map_err(failed(&shown))?;
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        let here = shown.join(&name);
        match fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                links += 1;
                if stat.st_uid != 0 || links > MAX_LINKS {
                    let problem = format!("is a symbolic link of user ID {}", stat.st_uid);
                    return Err(Error::Untrusted {
                        path: here,
                        problem,
                    });
                }
                let target =
                    fs::readlinkat(&directory, &name, Vec::new()).map_err(failed(&here))?;
                let target = shown.join(OsStr::from_bytes(target.as_bytes()));
                names = follow(&target, names).ok_or(Error::BadPath(here))?;
                shown = PathBuf::from("/");
                directory = fs::openat(CWD, "/", FLAGS, Mode::empty()).map_err(failed(&shown))?;
                continue;
            }
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let mode = if names.is_empty() { mode } else { 0o755 };
                make(&directory, &name, &here, Access::root(mode))?;
            }
            Err(error) => return Err(failed(&here)(error)),
        }
        directory = open(&directory, &name, &here)?;
        trusted(
            &fs::fstat(&directory).map_err(failed(&here))?,
            &here,
            !names.is_empty(),
        )?;
        shown = here;
    }
    Ok(directory)
}

/// Opens the directory `name` in `parent`, which is shown as `shown` in messages; if missing, it is made with `access`. A
/// directory that is there keeps its mode. If root is to own it, it must be writable by root only.
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

/// Opens `path` as a process in the jail would: links are followed, but never lead out.
pub(crate) fn in_jail(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..16 {
        // EAGAIN: something was renamed at the same time.
        match fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// What kind of file a mode tells, with its article.
pub(crate) fn kind(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "something unknown",
    }
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn failed(path: &Path) -> impl Fn(Errno) -> Error + '_ {
    move |error| Error::Directory {
        path: path.to_owned(),
        source: error.into(),
    }
}

/// The names of an absolute path from the root on; `None` if it is relative or has `..`.
fn components(path: &Path) -> Option<VecDeque<OsString>> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    components
        .map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            _ => None,
        })
        .collect()
}

/// The way to go after a link: that of its target, in which `..` is resolved by name, then the `rest`.
fn follow(target: &Path, rest: VecDeque<OsString>) -> Option<VecDeque<OsString>> {
    let mut names = VecDeque::new();
    for component in target.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            // Right, because `target` starts with a path that was walked and has no link in it; a link later on is seen
            // again, as a component.
            Component::ParentDir => drop(names.pop_back()),
            Component::Normal(name) => names.push_back(name.to_owned()),
            Component::Prefix(_) => return None,
        }
    }
    names.extend(rest);
    Some(names)
}

fn open(parent: &OwnedFd, name: &OsStr, shown: &Path) -> Result<OwnedFd> {
    fs::openat(parent, name, FLAGS, Mode::empty()).map_err(|error| {
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                Error::NotDirectory {
                    path: shown.to_owned(),
                    found: kind(stat.st_mode),
                }
            }
            _ => failed(shown)(error),
        }
    })
}

/// Makes a directory without opening it, so that a monitor short of descriptors leaves none half made. By name is safe here:
/// only root can exchange what lies in `parent`. That another monitor has just made the same one is as good.
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

/// Refuses a directory in which somebody else than root could exchange the entries. With `on_the_way`, the sticky bit is
/// enough: there, others cannot touch what belongs to root.
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
