//! Mounts made, found and removed through descriptors, and the memory file system of a running kernel. Monitor and, for
//! the mounts only the kernel sees, its second process; both as root.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};
use sys::MountAttr;

use crate::{Account, Error, Result};

/// A mount made by this crate; it is removed when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    /// The root of the mount, so that exactly this one is removed, whatever lies over or under it.
    root: OwnedFd,
    at: PathBuf,
    /// It was found, and stays when this is dropped.
    stays: AtomicBool,
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.stays.load(Ordering::Relaxed) {
            return;
        }
        // Lazily: a process that still has a file open there cannot delay it. If it fails, the next start removes the
        // mount.
        let _ = unmount(by_descriptor(&self.root), UnmountFlags::DETACH);
    }
}

impl Mount {
    /// The mount that is on the directory `name` in `parent` already, shown as `at`; None if there is none. It stays
    /// when this is dropped, unless [`Mount::take_over`] is called.
    pub(crate) fn found(parent: &OwnedFd, name: &str, at: &Path) -> Result<Option<Self>> {
        let failed = |source: Errno| Error::Mount {
            what: "look for what is mounted on",
            at: at.to_owned(),
            source: source.into(),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
        let at = at.to_owned();
        let stays = AtomicBool::new(true);
        let found = is_mount(&root).map_err(failed)?;
        Ok(found.then_some(Self { root, at, stays }))
    }

    /// From now on, dropping this removes the mount.
    pub(crate) fn take_over(&self) {
        self.stays.store(false, Ordering::Relaxed);
    }

    /// Device and inode of its root.
    pub(crate) fn identity(&self) -> Result<(u64, u64)> {
        let stat = fs::fstat(&self.root).map_err(|error| Error::Mount {
            what: "look at",
            at: self.at.clone(),
            source: error.into(),
        })?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Attaches the detached mount `root` to the directory or file `target`, shown as `at`.
    pub(crate) fn attach(root: OwnedFd, target: impl AsFd, at: &Path) -> Result<Self> {
        attach(&root, target).map_err(|error| Error::Mount {
            what: "mount on",
            at: at.to_owned(),
            source: error,
        })?;
        Ok(Self {
            root,
            at: at.to_owned(),
            stays: AtomicBool::new(false),
        })
    }
}

/// Attaches the detached mount `root` to `target`.
pub(crate) fn attach(root: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let by_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(root, "", target, "", by_fd)?)
}

/// A detached copy of the tree of mounts at `source` (a bind mount to be), with restrictions.
pub(crate) fn copy_of(source: impl AsFd, attr: MountAttr) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(source, "", flags)?;
    sys::restrict_mount(&tree, attr)?;
    Ok(tree)
}

/// A detached copy of the one mount at `source`, without those below it.
pub(crate) fn copy_of_one(source: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(source, "", flags)?)
}

/// A detached, empty directory that cannot be written to.
pub(crate) fn empty_directory() -> io::Result<OwnedFd> {
    let attr = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    tmpfs(&[("mode", "0555"), ("size", "4k")], attr)
}

/// A detached directory for mount points of files.
pub(crate) fn small_directory() -> io::Result<OwnedFd> {
    let attr = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    tmpfs(
        &[("mode", "0755"), ("size", "64k"), ("nr_inodes", "512")],
        attr,
    )
}

/// A detached, empty directory for device nodes.
pub(crate) fn node_directory() -> io::Result<OwnedFd> {
    let attr = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    tmpfs(&[("mode", "0755"), ("size", "4k")], attr)
}

/// A directory of this user for sockets, which is seen by descriptors only. It is gone with the last of them.
///
/// # Errors
/// Those of fsmount(2).
pub fn socket_directory(uid: u32, gid: u32) -> io::Result<OwnedFd> {
    let attr = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let owner = [("uid", uid.as_str()), ("gid", gid.as_str())];
    let size = [("mode", "0700"), ("size", "4k"), ("nr_inodes", "8")];
    tmpfs(&[owner.as_slice(), &size].concat(), attr)
}

fn tmpfs(options: &[(&str, &str)], attr: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    if attr.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        fsconfig_set_flag(&context, "ro")?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr)?)
}

/// Opens what is at `path` in the jail, without following any link.
pub(crate) fn beneath(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// Takes away all mounts on the directory `name` in `parent`, also several on top of each other: what a monitor left
/// behind that had no chance to clean up. `shown` is the path for messages.
pub(crate) fn detach_all(parent: &OwnedFd, name: &str, shown: &Path) -> Result<()> {
    let failed = |source| Error::Mount {
        what: "unmount what is left on",
        at: shown.to_owned(),
        source,
    };
    loop {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = match fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            top => top.map_err(|error| failed(error.into()))?,
        };
        if !is_mount(&top).map_err(|error| failed(error.into()))? {
            return Ok(());
        }
        unmount(by_descriptor(&top), UnmountFlags::DETACH).map_err(|error| failed(error.into()))?;
    }
}

/// Whether this is the root of a mount.
fn is_mount(found: &OwnedFd) -> rustix::io::Result<bool> {
    let stat = fs::statx(found, "", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The name under which umount(2) takes a descriptor.
fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The fresh tmpfs on `jail/tmp` that holds the memory of one run of the kernel, and its mconsole socket. Dropping it
/// unmounts it.
#[derive(Debug)]
pub struct TmpMount {
    mount: Mount,
}

impl TmpMount {
    /// Mounts it on `target`, of `mem` megabytes.
    ///
    /// Executable, because the kernel maps guest memory executable and refuses to start otherwise. Files need kernel
    /// memory that `size` does not count, hence the limit on inodes; a kernel makes a handful.
    pub(crate) fn new(target: impl AsFd, at: &Path, mem: u32, account: &Account) -> Result<Self> {
        let failed = |source| Error::Mount {
            what: "mount a tmpfs on",
            at: at.to_owned(),
            source,
        };
        let size = format!("{mem}m");
        let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
        let options = [
            ("size", &*size),
            ("nr_inodes", "1024"),
            ("mode", "0700"),
            ("uid", &*uid),
            ("gid", &*gid),
        ];
        let attr = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let root = tmpfs(&options, attr).map_err(failed)?;
        Ok(Self {
            mount: Mount::attach(root, target, at)?,
        })
    }

    /// That of a run which another monitor has started: what is mounted on `tmp` in the jail, if it is this device. It
    /// stays when this is dropped, unless [`TmpMount::take_over`] is called.
    pub(crate) fn adopt(jail: &OwnedFd, at: &Path, device: u64) -> Result<Self> {
        let found = Mount::found(jail, "tmp", at)?;
        match found {
            Some(mount) if mount.identity()?.0 == device => Ok(Self { mount }),
            _ => Err(Error::Mount {
                what: "find the memory of the running VM on",
                at: at.to_owned(),
                source: io::ErrorKind::NotFound.into(),
            }),
        }
    }

    /// One that was found belongs to this from now on: dropping it unmounts it.
    pub fn take_over(&self) {
        self.mount.take_over();
    }

    /// The device that it is (st_dev): no other file system has the same as long as it exists.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn device(&self) -> Result<u64> {
        Ok(self.mount.identity()?.0)
    }

    /// The root of the tmpfs, to open files beneath it (openat2 with `RESOLVE_BENEATH`: the guest may create links).
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.mount.root.as_fd()
    }

    /// How many bytes are in use: the host memory that the guest has touched.
    ///
    /// # Errors
    /// As fstatvfs(3).
    pub fn used(&self) -> Result<u64> {
        let stat = fs::fstatvfs(&self.mount.root).map_err(|error| Error::Mount {
            what: "ask for the use of",
            at: self.mount.at.clone(),
            source: error.into(),
        })?;
        Ok(stat
            .f_blocks
            .saturating_sub(stat.f_bfree)
            .saturating_mul(stat.f_frsize))
    }
}
