//! Walking a path name by name, so that each directory and each link in it can be checked, and nothing is opened that
//! could make the caller wait. All processes.
//!
//! Everything is held as an `O_PATH` descriptor: what was checked is what is used, even if names are changed meanwhile.
//! Links are followed within the root directory given, as in a process that has it as its root.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// Links followed in one walk; the kernel has the same limit.
const MAX_LINKS: usize = 40;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What was found in the walk.
pub(crate) struct Step<'a> {
    pub(crate) stat: &'a Stat,
    pub(crate) path: &'a Path,
    /// Nothing comes after it; a link is never the last step.
    pub(crate) last: bool,
}

impl Step<'_> {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// The rules of a walk: what a path may contain.
pub(crate) trait Guide {
    /// Refuses a directory or a link in the path, or what is at its end.
    fn judge(&self, step: &Step<'_>) -> Result<()>;

    /// Makes what is missing, or refuses. `last`: it is the end of the path.
    fn missing(&self, parent: &OwnedFd, name: &OsStr, path: &Path, last: bool) -> Result<()> {
        let _ = (parent, name, last);
        Err(failed(path)(Errno::NOENT))
    }
}

/// The end of a path.
pub(crate) struct Found {
    /// An `O_PATH` descriptor: it can be examined, but not read.
    pub(crate) fd: OwnedFd,
    pub(crate) stat: Stat,
    /// Where it is, from the root of the walk on, without links.
    pub(crate) path: PathBuf,
    /// The directory that it is in, and its name there; the root of the walk has none.
    entry: Option<(OwnedFd, OsString)>,
}

impl Found {
    fn root(root: &OwnedFd) -> Result<Found> {
        let path = PathBuf::from("/");
        let fd = fs::openat(root, ".", LOOK, Mode::empty()).map_err(failed(&path))?;
        Ok(Found {
            stat: fs::fstat(&fd).map_err(failed(&path))?,
            fd,
            path,
            entry: None,
        })
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// Whether programs of its mount cannot be executed.
    pub(crate) fn is_noexec(&self) -> io::Result<bool> {
        let mount = fs::fstatvfs(&self.fd)?;
        Ok(mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Opens the file for reading, by its name once more, since some processes have no /proc. Does not wait: not for
    /// the other end of a pipe that has replaced it, and not for the release of a lease.
    ///
    /// # Errors
    /// Those of open(2), and if it is not the same file any more.
    pub(crate) fn read(&self) -> io::Result<File> {
        let (parent, name) = self.entry.as_ref().ok_or(Errno::ISDIR)?;
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::AGAIN) => return Err(io::Error::other("another process has a lease on it")),
            file => file?,
        };
        let now = fs::fstat(&file)?;
        if (now.st_dev, now.st_ino) != (self.stat.st_dev, self.stat.st_ino) || !self.is_file() {
            return Err(io::Error::other("it was exchanged meanwhile"));
        }
        Ok(file.into())
    }
}

/// Walks along `path`, which must be absolute and without `..`, beginning at the directory `root`.
pub(crate) fn walk(root: &OwnedFd, path: &Path, guide: &impl Guide) -> Result<Found> {
    let mut names = components(path).ok_or_else(|| Error::BadPath(path.to_owned()))?;
    let mut at = Found::root(root)?;
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        let here = at.path.join(&name);
        let mut opened = fs::openat(&at.fd, &name, LOOK, Mode::empty());
        if let Err(Errno::NOENT) = opened {
            guide.missing(&at.fd, &name, &here, names.is_empty())?;
            opened = fs::openat(&at.fd, &name, LOOK, Mode::empty());
        }
        let fd = opened.map_err(failed(&here))?;
        let stat = fs::fstat(&fd).map_err(failed(&here))?;
        let step = Step {
            stat: &stat,
            path: &here,
            last: names.is_empty(),
        };
        match step.kind() {
            FileType::Symlink => {
                guide.judge(&Step {
                    last: false,
                    ..step
                })?;
                links += 1;
                if links > MAX_LINKS {
                    return Err(failed(&here)(Errno::LOOP));
                }
                let target = fs::readlinkat(&fd, "", Vec::new()).map_err(failed(&here))?;
                let target = at.path.join(OsStr::from_bytes(target.as_bytes()));
                names = follow(&target, names).ok_or(Error::BadPath(here))?;
                at = Found::root(root)?;
                continue;
            }
            FileType::Directory => {}
            _ if step.last => {}
            other => {
                return Err(Error::NotDirectory {
                    path: here,
                    found: kind(other),
                });
            }
        }
        guide.judge(&step)?;
        at = Found {
            fd,
            stat,
            path: here,
            entry: Some((at.fd, name)),
        };
    }
    Ok(at)
}

/// What kind of file it is, with its article.
pub(crate) fn kind(kind: FileType) -> &'static str {
    match kind {
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

pub(crate) fn failed(path: &Path) -> impl Fn(Errno) -> Error + '_ {
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

/// The remaining path after a link: that of its target, in which `..` is resolved by name, then the `rest`.
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
