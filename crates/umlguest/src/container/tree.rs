//! Finds and makes files below the root directory of a container, from outside: links lead nowhere out of it
//! (umlguest).
//!
//! Each step is taken from the directory of the last one and follows no link by itself, so other containers that change
//! the same files meanwhile change nothing about that.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

/// How many links there may be in a path, as for the kernel.
const LINKS: u32 = 40;

/// What is made where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// An empty file, in directories.
    File,
}

/// The files below a directory.
pub(super) struct Tree(OwnedFd);

impl Tree {
    pub(super) fn open(top: &Path) -> rustix::io::Result<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, top, flags, Mode::empty()).map(Tree)
    }

    /// The directory itself.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Finds a file; what is mounted on it counts.
    pub(super) fn find(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.walk(path, None)
    }

    /// Finds a file, or makes it.
    pub(super) fn make(&self, path: &[u8], kind: Kind) -> rustix::io::Result<OwnedFd> {
        self.walk(path, Some(kind))
    }

    fn walk(&self, path: &[u8], make: Option<Kind>) -> rustix::io::Result<OwnedFd> {
        let mut left: VecDeque<Vec<u8>> = names(path).collect();
        // The directories on the way here.
        let mut way: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == b".." {
                way.pop();
                continue;
            }
            let here = way.last().map_or(self.top(), |last| last.as_fd());
            let kind = make.map(|kind| match left.is_empty() {
                true => kind,
                false => Kind::Directory,
            });
            let next = step(here, OsStr::from_bytes(&name), kind)?;
            if FileType::from_raw_mode(fstat(&next)?.st_mode) != FileType::Symlink {
                way.push(next);
                continue;
            }
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP);
            }
            let target = readlinkat(here, OsStr::from_bytes(&name), Vec::new())?;
            if target.as_bytes().starts_with(b"/") {
                way.clear();
            }
            for name in names(target.as_bytes()).rev() {
                left.push_front(name);
            }
        }
        match way.pop() {
            Some(last) => Ok(last),
            None => Ok(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?),
        }
    }
}

/// The names in a path, without those that mean nothing.
fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    let names = path.split(|byte| *byte == b'/');
    let names = names.filter(|name| !name.is_empty() && *name != b".");
    names.map(<[u8]>::to_vec)
}

fn step(here: BorrowedFd<'_>, name: &OsStr, make: Option<Kind>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(here, name, flags, Mode::empty());
    let kind = match (make, open()) {
        (Some(kind), Err(Errno::NOENT)) => kind,
        (_, opened) => return opened,
    };
    let made = match kind {
        Kind::Directory => mkdirat(here, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(here, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => open(),
        Err(error) => Err(error),
    }
}

/// The path of an open file for calls that take only paths.
pub(super) fn path_of(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_nowhere_out_of_the_tree() {
        let outside = tempfile::tempdir().unwrap();
        let top = outside.path().join("top");
        fs::create_dir_all(top.join("run")).unwrap();
        symlink("../../../run/./later", top.join("dangling")).unwrap();
        symlink("/..", top.join("up")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let tree = Tree::open(&top).unwrap();
        let real = |file: OwnedFd| fs::read_link(path_of(&file)).unwrap();
        let made = tree.make(b"/dangling/x/../y", Kind::File).unwrap();
        assert_eq!(real(made), top.join("run/later/y"));
        assert!(top.join("run/later/x").is_dir());
        assert_eq!(
            real(tree.find(b"up/up/../../run").unwrap()),
            top.join("run")
        );
        assert_eq!(real(tree.find(b"..").unwrap()), top);
        assert_eq!(tree.find(b"loop").unwrap_err(), Errno::LOOP);
        assert_eq!(tree.find(b"nothing").unwrap_err(), Errno::NOENT);
        assert_eq!(
            tree.make(b"run/later/y/z", Kind::File).unwrap_err(),
            Errno::NOTDIR
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}
