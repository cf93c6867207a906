//! Files that are seen in a jail without being in its directories: the loader and the libraries of a kernel. Planned by
//! the monitor; bound by the second process while it is root, for its own mount namespace only.
//!
//! They appear on small file systems of that namespace, which cover the few directories in [`COVERED`]. So nothing is
//! made in a directory of the host, whatever a kernel's file names.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::MountAttr;

use crate::directories::{Open, find_file, host};
use crate::{Error, Result, mounts, walk};

/// The directories of the jail, below its root, in which files can appear.
pub(crate) const COVERED: [&str; 3] = ["lib", "lib64", "proc"];

/// A file to be seen in the jail, for the life of the second process only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The file.
    pub source: Source,
    /// Where it appears, as an absolute path in the jail, in `/lib`, `/lib64` or `/proc`.
    pub target: PathBuf,
}

/// Where a file to bind is. A library is bound, read-only, only if root alone can change it, or exchange it or a
/// directory above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A library of the host, behind directories that are open to all.
    Host(PathBuf),
    /// A library in the jail; links in the path are followed within the jail.
    Jail(PathBuf),
    /// An interface of the host's kernel, which can be written to.
    Interface(PathBuf),
}

impl Bind {
    fn below(&self, directory: &str) -> Option<&Path> {
        let rest = self.target.strip_prefix("/").ok()?;
        rest.strip_prefix(directory).ok()
    }

    fn find(&self, jail: &OwnedFd) -> Result<OwnedFd> {
        let found = match &self.source {
            Source::Host(path) => find_file(&host()?, path, Open::ToAll),
            Source::Jail(path) => find_file(jail, path, Open::ToSome),
            Source::Interface(path) => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                return openat(CWD, path, flags, Mode::empty()).map_err(walk::failed(path));
            }
        };
        found.map(|found| found.fd)
    }

    fn attributes(&self) -> MountAttr {
        match self.source {
            Source::Host(_) | Source::Jail(_) => {
                MountAttr::NO_SUID | MountAttr::NO_DEV | MountAttr::READ_ONLY
            }
            Source::Interface(_) => MountAttr::NO_SUID,
        }
    }
}

/// The directories of the jail that the files appear in. They must be there before [`apply`].
pub(crate) fn covered(binds: &[Bind]) -> impl Iterator<Item = &'static str> {
    let has_any = |directory: &&str| binds.iter().any(|bind| bind.below(directory).is_some());
    COVERED.into_iter().filter(has_any)
}

/// Makes the files visible in the jail.
pub(crate) fn apply(jail: &OwnedFd, binds: &[Bind]) -> Result<()> {
    for directory in covered(binds) {
        let at = Path::new("/").join(directory);
        let failed = |source| Error::Mount {
            what: "cover, in the jail,",
            at: at.clone(),
            source,
        };
        let files = binds
            .iter()
            .filter_map(|bind| Some((bind, bind.below(directory)?)));
        let cover = mounts::small_directory().map_err(failed)?;
        mounts::attach(&cover, mounts::beneath(jail, &at).map_err(failed)?).map_err(failed)?;
        for (bind, below) in files {
            let source = bind.find(jail)?;
            show(&cover, below, source, bind.attributes()).map_err(|source| Error::Mount {
                what: "bind, in the jail,",
                at: bind.target.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Binds a file at the path `below` in the new directory `cover`.
fn show(cover: &OwnedFd, below: &Path, source: OwnedFd, attr: MountAttr) -> io::Result<()> {
    let mut parent = cover.try_clone()?;
    for component in below.parent().unwrap_or(Path::new("")).components() {
        let Component::Normal(name) = component else {
            return Err(Errno::INVAL.into());
        };
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        parent = openat(&parent, name, flags, Mode::empty())?;
    }
    let name = below.file_name().ok_or(Errno::INVAL)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let point = openat(&parent, name, flags, Mode::from_raw_mode(0o444))?;
    mounts::attach(mounts::copy_of(source, attr)?, point)
}
