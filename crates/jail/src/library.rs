//! Where loaders and libraries are taken from, and where they appear in a jail. All processes.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, mkdirat};
use sys::MountAttr;

use crate::directories::find_directory;
use crate::{Error, Result, mounts};

/// The directories of the host that are searched, in this order; the loaders' own defaults. They are root's, and open
/// to all. No other directory of the host is ever searched, whatever a kernel's file names.
pub(crate) const DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What [`DIRECTORIES`] are in.
pub(crate) const ROOTS: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// The limit on the number of libraries, which no kernel reaches, and on the bytes of all their names.
pub(crate) const MAX_LIBRARIES: usize = 64;
pub(crate) const MAX_NAMES: usize = 4096;
/// The longest path of a loader.
const MAX_LOADER: usize = 255;

/// Where the process that inspects a kernel sees `ROOTS`: its jail has a `/tmp`, for which it has no other use.
pub const LIBRARIES: &str = "/tmp";

/// Makes the directories of libraries visible in the jail, with the same layout as below the root of the host, so that
/// links between them work. For a process that inspects a kernel, which may read no other directory of the host.
/// `shown` is the path of the jail for messages.
pub(crate) fn show(jail: &OwnedFd, shown: &Path) -> Result<()> {
    let failed = |source| Error::Mount {
        what: "cover",
        at: shown.join(LIBRARIES.trim_start_matches('/')),
        source,
    };
    let cover = mounts::small_directory().map_err(failed)?;
    let at = mounts::beneath(jail, Path::new(LIBRARIES)).map_err(failed)?;
    mounts::attach(&cover, at).map_err(failed)?;
    let directory = |path: &str| mkdirat(&cover, path, Mode::from_raw_mode(0o755));
    directory("usr").map_err(|error| failed(error.into()))?;
    for root in ROOTS {
        let Some(found) = find_directory(Path::new(root)) else {
            continue;
        };
        let below = root.trim_start_matches('/');
        directory(below).map_err(|error| failed(error.into()))?;
        let attr = MountAttr::NO_SUID | MountAttr::NO_DEV | MountAttr::READ_ONLY;
        mounts::copy_of(found, attr)
            .and_then(|copy| mounts::attach(copy, mounts::beneath(&cover, Path::new(below))?))
            .map_err(failed)?;
    }
    Ok(())
}

/// Whether a loader can appear at this path in a jail.
pub(crate) fn is_loader(path: &Path) -> bool {
    let normal = |c| matches!(c, Component::RootDir | Component::Normal(_));
    path.as_os_str().len() <= MAX_LOADER
        && path.to_str().is_some()
        && path.components().all(normal)
        && ["/lib", "/lib64"]
            .iter()
            .any(|root| path.parent().is_some_and(|parent| parent.starts_with(root)))
}

/// Whether it can be the name of a library.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.contains(['/', '\0'])
        && ![".", ".."].contains(&name)
}

/// Where a library of one of [`DIRECTORIES`] appears in a jail. Every loader searches both, of a pair with and without
/// `/usr`.
pub(crate) fn in_jail(directory: &str, name: &str) -> PathBuf {
    Path::new(directory.strip_prefix("/usr").unwrap_or(directory)).join(name)
}

/// The directory that has libraries for the kernel at this path only.
pub(crate) fn beside(kernel: &Path) -> PathBuf {
    let mut path = kernel.as_os_str().to_owned();
    path.push(".lib");
    path.into()
}
