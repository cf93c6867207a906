//! Whether the host's kernel has the system calls that a monitor cannot do without, and a container lets it make them
//! (umlmon, before it goes to the background).

use std::os::fd::{AsFd, OwnedFd};

use anyhow::bail;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsmount, fsopen, move_mount, open_tree,
};
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use sys::MountAttr;

/// The least version of the host's kernel: that of mount_setattr(2), the latest of the calls. docs/REQUIREMENTS.md has
/// the others.
const LEAST: &str = "5.12";

/// Makes a call that has no effect. It may fail in any way but those of a call that does not exist, or is forbidden.
/// The descriptor is that of a pipe, on which nothing can be mounted or opened.
type Probe = fn(&OwnedFd) -> Result<()>;

const NEEDED: [(&str, Probe); 9] = [
    ("openat2", |pipe| {
        let beneath = ResolveFlags::BENEATH;
        openat2(pipe, "x", OFlags::PATH, Mode::empty(), beneath).map(drop)
    }),
    ("open_tree", |pipe| {
        open_tree(pipe, "x", OpenTreeFlags::OPEN_TREE_CLOEXEC).map(drop)
    }),
    ("move_mount", |pipe| {
        move_mount(pipe, "x", pipe, "x", MoveMountFlags::empty())
    }),
    ("fsopen", |_| {
        fsopen("no file system", FsOpenFlags::FSOPEN_CLOEXEC).map(drop)
    }),
    ("fsconfig", |pipe| fsconfig_create(pipe.as_fd())),
    ("fsmount", |pipe| {
        let (flags, attr) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
        fsmount(pipe.as_fd(), flags, attr).map(drop)
    }),
    ("mount_setattr", |pipe| {
        let restricted = sys::restrict_mount(pipe, MountAttr::READ_ONLY);
        restricted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }),
    ("pidfd_open", |_| {
        pidfd_open(getpid(), PidfdFlags::empty()).map(drop)
    }),
    ("pidfd_send_signal", |pipe| {
        pidfd_send_signal(pipe, Signal::CONT)
    }),
];

/// Checks that all of them can be made. To be called with CAP_SYS_ADMIN, without which some are forbidden anyway.
///
/// # Errors
/// A sentence that names the first that cannot, and what is needed.
pub fn check() -> anyhow::Result<()> {
    let (pipe, _other_end) = rustix::pipe::pipe()?;
    for (name, probe) in NEEDED {
        let refused = match probe(&pipe) {
            Err(error @ (Errno::NOSYS | Errno::PERM)) => error,
            _ => continue,
        };
        bail!(
            "the system call {name}(2) cannot be made here: {refused}; this needs Linux {LEAST} or later and, in a container, \
             a seccomp filter that allows it (--security-opt seccomp=unconfined)"
        );
    }
    Ok(())
}
