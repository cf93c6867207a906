//! Whose mounts a process sees (ioctl_ns(2)), and restrictions on a mount or on a tree of mounts, before it is attached
//! anywhere (mount_setattr(2)). Used by the monitor and by its second process as root.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd};
use std::{io, mem, ptr};

/// Restrictions that can be added to a mount (`MOUNT_ATTR_*` of mount_setattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountAttr(u64);

impl MountAttr {
    /// Nothing below the mount can be changed.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Programs cannot be executed.
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Symbolic links are not followed. Needs Linux 5.14.
    pub const NO_SYMFOLLOW: Self = Self(libc::MOUNT_ATTR_NOSYMFOLLOW);
}

impl BitOr for MountAttr {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Adds `attr` to the mount behind `mount` (from `open_tree` or `fsmount`) and to all mounts below it. Restrictions
/// that are already there stay. Needs Linux 5.12.
///
/// # Errors
/// As mount_setattr(2): `EINVAL` if `mount` is not the root of a mount.
pub fn restrict_mount(mount: impl AsFd, attr: MountAttr) -> io::Result<()> {
    change(
        mount,
        &libc::mount_attr {
            attr_set: attr.0,
            ..NO_CHANGE
        },
    )
}

/// Has what is mounted elsewhere from now on not appear below this mount.
///
/// # Errors
/// As [`restrict_mount`].
pub fn separate_mount(mount: impl AsFd) -> io::Result<()> {
    change(
        mount,
        &libc::mount_attr {
            propagation: libc::MS_PRIVATE,
            ..NO_CHANGE
        },
    )
}

/// Maps the owners of files on this mount, which is attached nowhere yet, as a user namespace says. Files of others
/// cannot be changed then, and what is made belongs to those that are mapped.
///
/// # Errors
/// `EINVAL` if the file system cannot do this; `EPERM` if the caller may not do it with this file system, as in a
/// container.
pub fn map_owners(mount: impl AsFd, namespace: impl AsFd) -> io::Result<()> {
    #[allow(clippy::cast_sign_loss)] // descriptors are not negative
    let userns_fd = namespace.as_fd().as_raw_fd() as u64;
    change(
        mount,
        &libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            userns_fd,
            ..NO_CHANGE
        },
    )
}

const NO_CHANGE: libc::mount_attr = libc::mount_attr {
    attr_set: 0,
    attr_clr: 0,
    propagation: 0,
    userns_fd: 0,
};

fn change(mount: impl AsFd, change: &libc::mount_attr) -> io::Result<()> {
    // SAFETY: the path is a NUL-terminated empty string and `change` is a mount_attr of the size given; both outlive
    // the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            ptr::from_ref(change),
            mem::size_of_val(change),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `NS_GET_USERNS` of ioctl_ns(2), which libc does not have.
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Whether the mount namespace of this process belongs to its user namespace. If not, no capability of the process
/// lets it mount anything.
///
/// # Errors
/// If `/proc/self/ns/mnt` cannot be opened; those of ioctl_ns(2), except that the owner is out of reach.
pub fn owns_mounts() -> io::Result<bool> {
    let namespace = File::open("/proc/self/ns/mnt")?;
    // SAFETY: this request takes no argument.
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if owner == -1 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EPERM) => Ok(false),
            _ => Err(error),
        };
    }
    // SAFETY: the call has returned a new descriptor, which nothing else has.
    drop(unsafe { OwnedFd::from_raw_fd(owner) });
    Ok(true)
}
