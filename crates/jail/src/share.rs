//! Directories of the host that a guest can use: opened by the monitor, and attached in the jail by its second process,
//! both as root.
//!
//! Others may have a hand in their paths, so a path is walked name by name, and everything on it must belong to root or
//! to the owner of the directory. What was found is held open, and that is mounted, whatever its name is by then. The
//! mount is attached only where the kernel's processes see it, so it ends with them.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::{Mapped, MountAttr};

use crate::directories::host;
use crate::walk::{Found, Guide, Step, failed, kind, walk};
use crate::{Account, Error, Result, mounts};

/// The directory in which the shares are, by number, as seen in the jail.
pub const SHARES: &str = "/share";
/// What is of the host's kernel, or of its devices.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A directory that a guest is to use.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The directory, an absolute path.
    pub directory: &'a Path,
    /// Nothing in it can be changed.
    pub read_only: bool,
    /// Files and directories of the host that it must not contain, and directories that it must not be in. Those that
    /// are missing do not count.
    pub closed: &'a [PathBuf],
}

/// A directory that can be attached in a jail. It is a mount that is attached nowhere, and gone when this is dropped.
#[derive(Debug)]
pub struct Shared {
    mount: OwnedFd,
    owner: Owner,
}

/// As whom the processes act in a shared directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// As their own user, to whom it belongs.
    Same,
    /// As its owner, who has this number.
    Mapped(u32),
    /// As their own user, to whom it does not belong, and why.
    Unmapped(String),
}

impl Shared {
    /// Opens the directory for the processes of `account`, which act as its owner in it.
    ///
    /// # Errors
    /// If it is none, or if others than root and its owner could exchange it; if it has to do with what the monitor
    /// works on; as open_tree(2).
    pub fn open(wanted: Wanted<'_>, account: &Account) -> Result<Self> {
        let path = wanted.directory;
        let found = find(path)?;
        keep_closed(&found, wanted.closed)?;
        let mounting = |source| Error::Mount {
            what: "share",
            at: path.to_owned(),
            source,
        };
        let mount = mounts::copy_of_one(&found.fd).map_err(mounting)?;
        // Not without programs: hostfs asks the host whether the guest may execute one.
        let mut attr = MountAttr::NO_SUID | MountAttr::NO_DEV;
        if wanted.read_only {
            attr = attr | MountAttr::READ_ONLY;
        }
        sys::separate_mount(&mount).map_err(mounting)?;
        // Linux before 5.14 follows links; then they lead to what is in the jail.
        sys::restrict_mount(&mount, attr | MountAttr::NO_SYMFOLLOW)
            .or_else(|_| sys::restrict_mount(&mount, attr))
            .map_err(mounting)?;
        let owner = map(&mount, &found.stat, account);
        Ok(Shared { mount, owner })
    }

    /// The mount, to be passed to the second process.
    #[must_use]
    pub fn mount(&self) -> &OwnedFd {
        &self.mount
    }

    /// As whom the processes act in it.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

/// Has the account act as the owner of the directory, if that is possible.
fn map(mount: &OwnedFd, directory: &Stat, account: &Account) -> Owner {
    let (user, group) = (account.uid, account.gid);
    if (directory.st_uid, directory.st_gid) == (user, group) {
        return Owner::Same;
    }
    let of = |stored, seen| Mapped { stored, seen };
    let namespace = sys::user_namespace(of(directory.st_uid, user), of(directory.st_gid, group));
    match namespace.and_then(|namespace| sys::map_owners(mount, namespace)) {
        Ok(()) => Owner::Mapped(directory.st_uid),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            Owner::Unmapped("its file system cannot map owners".to_owned())
        }
        Err(error) => Owner::Unmapped(format!("owners cannot be mapped here: {error}")),
    }
}

/// Attaches shares in the jail, for the processes of this mount namespace only: each at its number.
pub(crate) fn attach(jail: &OwnedFd, shares: Vec<(u8, OwnedFd)>) -> io::Result<()> {
    if shares.is_empty() {
        return Ok(());
    }
    let cover = mounts::small_directory()?;
    for (number, _) in &shares {
        mkdirat(&cover, number.to_string(), Mode::from_raw_mode(0o755))?;
    }
    sys::restrict_mount(&cover, MountAttr::READ_ONLY)?;
    mounts::attach(&cover, mounts::beneath(jail, Path::new(SHARES))?)?;
    for (number, mount) in shares {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let point = openat(&cover, number.to_string(), flags, Mode::empty())?;
        mounts::attach(mount, point)?;
    }
    Ok(())
}

/// Finds the directory, of which the path must be safe.
fn find(path: &Path) -> Result<Found> {
    let seen = Noting::default();
    let found = walk(&host()?, path, &seen)?;
    if found.kind() != FileType::Directory {
        return Err(Error::NotDirectory {
            path: path.to_owned(),
            found: kind(found.kind()),
        });
    }
    for (on_the_way, stat) in seen.0.into_inner() {
        if let Some(problem) = exchangeable(&stat, found.stat.st_uid) {
            return Err(Error::Unsafe {
                path: path.to_owned(),
                on_the_way,
                problem,
            });
        }
    }
    Ok(found)
}

/// Whether somebody else than root and `owner` could have exchanged what is behind this directory or link.
fn exchangeable(stat: &Stat, owner: u32) -> Option<String> {
    if stat.st_uid != 0 && stat.st_uid != owner {
        return Some(format!("belongs to user ID {}", stat.st_uid));
    }
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if is_link || stat.st_mode & 0o1000 != 0 {
        return None;
    }
    if stat.st_mode & 0o002 != 0 {
        return Some("is writable by everybody".to_owned());
    }
    let by_group = stat.st_mode & 0o020 != 0 && stat.st_gid != 0;
    by_group.then(|| format!("is writable by group ID {}", stat.st_gid))
}

/// Notes what is on the way, except the end.
#[derive(Default)]
struct Noting(RefCell<Vec<(PathBuf, Stat)>>);

impl Guide for Noting {
    fn judge(&self, step: &Step<'_>) -> Result<()> {
        if !step.last {
            self.0.borrow_mut().push((step.path.to_owned(), *step.stat));
        }
        Ok(())
    }
}

/// Refuses what the monitor works on, or the host's kernel.
fn keep_closed(found: &Found, closed: &[PathBuf]) -> Result<()> {
    let refuse = |problem: String| {
        Err(Error::NotShared {
            path: found.path.clone(),
            problem,
        })
    };
    if found.path == Path::new("/") {
        return refuse("it is the root directory of the host".to_owned());
    }
    let of_the_kernel = OF_THE_KERNEL.iter().find(|top| found.path.starts_with(top));
    if let Some(top) = of_the_kernel {
        return refuse(format!("{top} is of the host's kernel"));
    }
    for path in closed {
        let Ok(path) = path.canonicalize() else {
            continue;
        };
        let is_directory = path.is_dir();
        let directory = match path.parent() {
            Some(parent) if !is_directory => parent,
            _ => &path,
        };
        let failed = failed(&path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let other = openat(CWD, directory, flags, Mode::empty()).map_err(&failed)?;
        if is_in(&other, &found.stat).map_err(&failed)? {
            return refuse(format!("it contains {}", path.display()));
        }
        let other = fstat(&other).map_err(&failed)?;
        if is_directory && is_in(&found.fd, &other).map_err(&failed)? {
            return refuse(format!("it is in {}", path.display()));
        }
    }
    Ok(())
}

/// Whether a directory is this one or is in it, wherever that is mounted.
fn is_in(inner: &OwnedFd, directory: &Stat) -> rustix::io::Result<bool> {
    let same = |one: &Stat, other: &Stat| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
    let mut at = inner.try_clone().map_err(|_| Errno::MFILE)?;
    let mut stat = fstat(&at)?;
    loop {
        if same(&stat, directory) {
            return Ok(true);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        at = openat(&at, "..", flags, Mode::empty())?;
        let above = fstat(&at)?;
        if same(&above, &stat) {
            return Ok(false);
        }
        stat = above;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn open(directory: &Path, closed: &[PathBuf]) -> std::result::Result<(), String> {
        let account = Account {
            name: "u".to_owned(),
            uid: 7,
            gid: 8,
            groups: vec![8],
        };
        let wanted = Wanted {
            directory,
            read_only: false,
            closed,
        };
        let opened = Shared::open(wanted, &account);
        opened.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn what_others_could_exchange_or_the_monitor_needs_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        fs::create_dir_all(at("home/job/inner")).unwrap();
        fs::write(at("home/file"), "").unwrap();
        let refused = |path: PathBuf, closed: &[PathBuf]| open(&path, closed).unwrap_err();
        open(&at("home/job"), &[at("missing")]).unwrap();

        // What a user owns may have links of that user's on the way, but what root owns may not.
        chown(at("home"), Some(7), Some(7)).unwrap();
        let why = refused(at("home/job"), &[]);
        assert!(why.ends_with("home belongs to user ID 7, who could exchange it; share a directory of which the path belongs to its owner and root only"), "{why}");
        for name in ["home/job", "home/job/inner"] {
            chown(at(name), Some(7), Some(7)).unwrap();
        }
        open(&at("home/job"), &[]).unwrap();
        symlink(at("home/job"), at("home/link")).unwrap();
        std::os::unix::fs::lchown(at("home/link"), Some(9), Some(9)).unwrap();
        assert!(refused(at("home/link"), &[]).contains("home/link belongs to user ID 9"));
        std::os::unix::fs::lchown(at("home/link"), Some(7), Some(7)).unwrap();
        open(&at("home/link"), &[]).unwrap();
        fs::set_permissions(at("home"), Permissions::from_mode(0o777)).unwrap();
        assert!(refused(at("home/job"), &[]).contains("home is writable by everybody"));
        fs::set_permissions(at("home"), Permissions::from_mode(0o755)).unwrap();

        assert!(refused(at("home/file"), &[]).contains("is a file"));
        assert!(refused("/".into(), &[]).contains("the root directory of the host"));
        assert!(refused("/proc/sys".into(), &[]).contains("/proc is of"));
        let why = refused(at("home/job"), &[at("home/job/inner")]);
        assert!(why.contains("it contains"), "{why}");
        assert!(refused(at("home/job/inner"), &[at("home/job")]).contains("it is in"));
        assert!(refused(at("home"), &[at("home/file")]).contains("it contains"));
        open(&at("home/job"), &[at("home/file")]).unwrap();
    }
}
