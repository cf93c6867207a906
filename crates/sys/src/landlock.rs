//! Landlock (landlock(7), include/uapi/linux/landlock.h): a process gives up access to files for good. Used by the
//! monitor's second process.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use libc::{c_long, c_uint};

/// What the ruleset is asked for to tell the version of the interface instead.
const VERSION: c_uint = 1;
/// The type of the rules that name a directory or file.
const PATH_BENEATH: c_uint = 1;

/// `struct landlock_ruleset_attr`: what is refused unless a rule allows it. A kernel that has fewer members takes this
/// as long as the others are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// `LANDLOCK_ACCESS_FS_*`.
    pub files: u64,
    /// `LANDLOCK_ACCESS_NET_*`.
    pub network: u64,
    /// `LANDLOCK_SCOPE_*`.
    pub scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

/// The version of Landlock's interface that the host's kernel has; 0 without Landlock, or if it may not be used.
#[must_use]
pub fn landlock_version() -> u32 {
    let none = std::ptr::null::<Refused>();
    // SAFETY: with this flag, the call takes no structure.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Rules that are being written.
#[derive(Debug)]
pub struct Landlock(OwnedFd);

impl Landlock {
    /// Rules that refuse all of this.
    ///
    /// # Errors
    /// `EINVAL` for what this version of the interface does not know.
    pub fn refuse(refused: &Refused) -> io::Result<Self> {
        let size = size_of::<Refused>();
        // SAFETY: the structure outlives the call, which only reads so many bytes of it.
        let fd = checked(unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const *refused,
                size,
                0,
            )
        })?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made this descriptor, for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Allows some of it in a directory and below, or for a file.
    ///
    /// # Errors
    /// `EINVAL` for what is not refused, or is not for a file.
    pub fn allow(&self, beneath: impl AsFd, files: u64) -> io::Result<()> {
        let rule = Beneath {
            allowed: files,
            parent: beneath.as_fd().as_raw_fd(),
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: the structure, and the descriptors, outlive the call, which only reads it.
        checked(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                fd,
                PATH_BENEATH,
                &raw const rule,
                0,
            )
        })
        .map(drop)
    }

    /// Puts the calling thread and all it starts under the rules, for good.
    ///
    /// # Errors
    /// `EPERM` without `no_new_privs`, `E2BIG` under 16 such sets of rules.
    pub fn restrict_self(self) -> io::Result<()> {
        // SAFETY: the call takes numbers only, and the descriptor is open.
        checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) })
            .map(drop)
    }
}

fn checked(result: c_long) -> io::Result<c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
