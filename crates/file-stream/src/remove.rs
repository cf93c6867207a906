//! Removes what was begun, whatever modes it has by now.

use std::ffi::OsStr;
use std::fs::{Permissions, set_permissions};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes an entry of a directory with all that is in it, and follows no link. What cannot be removed stays.
pub(crate) fn remove(parent: impl AsFd, name: &OsStr) {
    if unlinkat(&parent, name, AtFlags::empty()).is_ok() {
        return;
    }
    // A directory may have a mode by which its owner cannot read or change it.
    if let Ok(it) = openat(&parent, name, DIRECTORY | OFlags::PATH, Mode::empty()) {
        let path = format!("/proc/self/fd/{}", it.as_raw_fd());
        let _ = set_permissions(path, Permissions::from_mode(0o700));
    }
    if let Ok(directory) = openat(&parent, name, DIRECTORY, Mode::empty()) {
        for entry in Dir::read_from(&directory).into_iter().flatten().flatten() {
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => remove(&directory, OsStr::from_bytes(name)),
            }
        }
    }
    let _ = unlinkat(&parent, name, AtFlags::REMOVEDIR);
}
