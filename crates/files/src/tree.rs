//! A directory with everything in it, in which other users may write: what it takes, and its removal. Runs in umladmin,
//! as root.
//!
//! No link is followed, and no mount is entered: a user, or a mount that a killed monitor has left, must not lead root
//! to files elsewhere.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat,
    unlinkat,
};
use rustix::io::Errno;

/// How deep directories may be nested: each level takes a descriptor.
const MAX_DEPTH: usize = 64;
/// The unit of `st_blocks`, inode(7).
const BLOCK: u64 = 512;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    directory: OwnedFd,
}

/// What a directory contains.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Contents {
    /// How many files that are not directories.
    pub files: u64,
    /// What they and the directories take on the disk.
    pub bytes: u64,
    /// The directories in it that something is mounted on; what is below them is not counted.
    pub mounts: Vec<PathBuf>,
}

/// An entry of a directory.
enum Entry<'a> {
    /// After the entries in it: its directory, its name, and what it is.
    Own(&'a OwnedFd, &'a CStr, &'a Stat),
    /// Something is mounted on this directory, which is not entered.
    Mount(&'a Path),
}

type Act<'a> = dyn FnMut(Entry<'_>) -> io::Result<()> + 'a;

impl Tree {
    /// Opens a directory, which must not be a link.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Tree> {
        Ok(Tree {
            path: path.to_owned(),
            directory: openat(CWD, path, FLAGS, Mode::empty())?,
        })
    }

    /// What is in it.
    ///
    /// # Errors
    /// If directories are nested too deep; those of open(2). The message names it.
    pub fn contents(&self) -> io::Result<Contents> {
        let mut contents = Contents::default();
        each(&self.directory, &self.path, 0, &mut |entry| {
            match entry {
                Entry::Own(_, _, stat) => {
                    contents.files += u64::from(!is_directory(stat));
                    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
                    contents.bytes = contents.bytes.saturating_add(blocks.saturating_mul(BLOCK));
                }
                Entry::Mount(path) => contents.mounts.push(path.to_owned()),
            }
            Ok(())
        })?;
        Ok(contents)
    }

    /// Removes it with everything in it, or nothing, if something is mounted in it.
    ///
    /// # Errors
    /// Those of [`Tree::contents`], and of unlink(2).
    pub fn remove(self) -> io::Result<()> {
        if let Some(mount) = self.contents()?.mounts.first() {
            return Err(named(mount, mounted()));
        }
        each(&self.directory, &self.path, 0, &mut |entry| match entry {
            Entry::Own(directory, name, stat) => {
                let how = match is_directory(stat) {
                    true => AtFlags::REMOVEDIR,
                    false => AtFlags::empty(),
                };
                Ok(unlinkat(directory, name, how)?)
            }
            Entry::Mount(_) => Err(mounted()),
        })?;
        let removed = unlinkat(CWD, &self.path, AtFlags::REMOVEDIR);
        removed.map_err(|error| named(&self.path, error.into()))
    }
}

fn mounted() -> io::Error {
    let why = "something is mounted here; umount it, as with umount -l";
    io::Error::new(io::ErrorKind::CrossesDevices, why)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn each(directory: &OwnedFd, path: &Path, depth: usize, act: &mut Act<'_>) -> io::Result<()> {
    let entries = Dir::read_from(directory).map_err(|error| named(path, error.into()))?;
    for entry in entries {
        let entry = entry.map_err(|error| named(path, error.into()))?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let shown = path.join(OsStr::from_bytes(name.to_bytes()));
        let failed = |error: Errno| named(&shown, error.into());
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let entry = match is_directory(&stat).then(|| open_below(directory, name)) {
            Some(Err(Errno::XDEV)) => Entry::Mount(&shown),
            Some(Ok(_)) if depth >= MAX_DEPTH => {
                let why = io::Error::other("directories are nested too deep here");
                return Err(named(&shown, why));
            }
            Some(below) => {
                each(&below.map_err(failed)?, &shown, depth + 1, act)?;
                Entry::Own(directory, name, &stat)
            }
            None => Entry::Own(directory, name, &stat),
        };
        act(entry).map_err(|error| named(&shown, error))?;
    }
    Ok(())
}

fn open_below(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    openat2(directory, name, FLAGS, Mode::empty(), resolve)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_links_lead_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, other) = (directory.path().join("t"), directory.path().join("o"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "kept").unwrap();
        fs::write(tree.join("a/b/c"), vec![1; 8192]).unwrap();
        fs::hard_link(other.join("kept"), tree.join("second")).unwrap();
        symlink(&other, tree.join("a/link")).unwrap();
        let contents = Tree::open(&tree).unwrap().contents().unwrap();
        assert_eq!(contents.files, 3);
        assert!(contents.bytes >= 8192);
        Tree::open(&tree).unwrap().remove().unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read(other.join("kept")).unwrap(), b"kept");
        symlink(&other, &tree).unwrap();
        assert!(Tree::open(&tree).is_err());
    }

    #[test]
    fn the_depth_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(MAX_DEPTH + 2);
        fs::create_dir_all(directory.path().join(deep)).unwrap();
        let refused = Tree::open(directory.path()).unwrap().contents();
        assert!(refused.unwrap_err().to_string().ends_with("too deep here"));
    }

    #[test]
    fn a_mount_is_not_entered() {
        let root = Tree::open(Path::new("/")).unwrap();
        let proc = open_below(&root.directory, c"proc");
        assert_eq!(proc.err(), Some(Errno::XDEV));
    }
}
