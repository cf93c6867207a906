//! Where a tree is received: the rules of cp(1) for its destination.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::item::Name;
use crate::{Error, cannot};

/// Where a tree is received: a directory that is open, and what the tree will be called in it.
#[derive(Debug)]
pub struct Target {
    pub(crate) directory: OwnedFd,
    /// Of the directory, for messages.
    pub(crate) path: PathBuf,
    /// Nothing: what is in the tree is received in the directory itself.
    pub(crate) name: Option<Name>,
    /// The path asks for a directory, by a slash at its end.
    pub(crate) only_directory: bool,
}

/// What a copy of this path is called in another directory. Nothing: its contents go there, as with `cp -r . DIR`.
pub fn name_of(source: &Path) -> Option<&OsStr> {
    match source.components().next_back() {
        // `a/.` is `a` for a Path, but not for cp(1).
        Some(Component::Normal(name)) if !source.as_os_str().as_bytes().ends_with(b"/.") => {
            Some(name)
        }
        _ => None,
    }
}

impl Target {
    /// The target for a copy to this path of something that is called `name`: if the path is a directory, the copy is
    /// made in it; else the path is the copy's own.
    ///
    /// # Errors
    /// If there is no directory to make it in.
    pub fn at(path: &Path, name: Option<&OsStr>) -> Result<Target, Error> {
        let shown = path.join(name.unwrap_or_default());
        let valid = |name: &OsStr| {
            let name = Name::try_from(name.as_bytes().to_vec()).ok();
            let name = name.filter(|name| !name.is_root());
            name.ok_or(Error::Unfit {
                path: shown.clone(),
                why: "this name cannot be used",
            })
        };
        match open(path) {
            Ok(directory) => Ok(Target {
                directory,
                path: path.into(),
                name: name.map(valid).transpose()?,
                only_directory: false,
            }),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let parent = match path.parent() {
                    Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                    Some(parent) => parent,
                    None => Path::new("/"),
                };
                let name = path.file_name().unwrap_or_default();
                Ok(Target {
                    directory: open(parent).map_err(cannot("open", parent))?,
                    path: parent.into(),
                    name: Some(valid(name)?),
                    only_directory: path.as_os_str().as_bytes().ends_with(b"/"),
                })
            }
            Err(error) => Err(cannot("open", path)(error)),
        }
    }
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}
