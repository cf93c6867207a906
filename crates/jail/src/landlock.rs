//! What a confined process may do with files: Landlock, where the host has it. Applied by the monitor's second process,
//! inherited by the kernel and by every process of its guest.
//!
//! It is the wall behind the jail's: the rules name directories themselves, not paths, so a process that gets out of
//! its root directory can do nothing with the host's files all the same.

use std::io;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use sys::{Landlock, Refused};

use crate::Calls;

/// Accesses to files, and the version of the interface that has them first (include/uapi/linux/landlock.h).
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ: u64 = 1 << 2 | 1 << 3;
const REMOVE: u64 = 1 << 4 | 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
/// All of the first version. The rest of it makes nodes of devices, pipes and symbolic links.
const FIRST: u64 = (1 << 13) - 1;
/// Move and link from one directory to another.
const REFER: (u64, u32) = (1 << 13, 2);
const TRUNCATE: (u64, u32) = (1 << 14, 3);
/// ioctl(2) on devices that the process opens.
const IOCTL_DEV: (u64, u32) = (1 << 15, 5);

/// Bind and connect of TCP.
const TCP: (u64, u32) = (1 | 1 << 1, 4);
/// Connect to abstract sockets of processes outside.
const ABSTRACT_SOCKETS: (u64, u32) = (1, 6);
/// Signals to processes outside.
const SIGNALS: (u64, u32) = (1 << 1, 6);

/// Where files can be changed.
const WRITABLE: [&str; 3] = ["/disks", "/shared/disks", "/tmp"];
/// Where devices are: block devices as disks, and that of taps.
const DEVICES: [&str; 2] = ["/shared/disks", "/dev/net/tun"];

/// Whether the host has Landlock, and so each confined process is restricted by it.
#[must_use]
pub fn has_landlock() -> bool {
    sys::landlock_version() > 0
}

/// Restricts the calling process, in the jail, and all it starts, permanently. Without effect where the host has no
/// Landlock.
pub(crate) fn restrict(calls: Calls) -> io::Result<()> {
    match sys::landlock_version() {
        0 => Ok(()),
        version => rules(calls, version)?.restrict_self(),
    }
}

/// What a version of the interface has of these.
fn known(version: u32, accesses: &[(u64, u32)]) -> u64 {
    let known = accesses.iter().filter(|(_, since)| *since <= version);
    known.map(|(access, _)| access).sum()
}

fn refused(calls: Calls, version: u32) -> Refused {
    let scoped: &[_] = match calls {
        // It answers the monitor at an abstract socket. There are none but those in its network namespace.
        Calls::Kernel => &[SIGNALS],
        Calls::Disks => &[SIGNALS, ABSTRACT_SOCKETS],
    };
    Refused {
        files: FIRST | known(version, &[REFER, TRUNCATE, IOCTL_DEV]),
        network: known(version, &[TCP]),
        scoped: known(version, scoped),
    }
}

fn rules(calls: Calls, version: u32) -> io::Result<Landlock> {
    let rules = Landlock::refuse(&refused(calls, version))?;
    let execute = match calls {
        Calls::Kernel => EXECUTE,
        Calls::Disks => 0,
    };
    let change = WRITE_FILE | REMOVE | MAKE_DIR | MAKE_REG | MAKE_SOCK;
    let change = change | known(version, &[REFER, TRUNCATE]);
    allow(&rules, "/", READ | execute)?;
    for path in WRITABLE {
        allow(&rules, path, change)?;
    }
    for path in DEVICES {
        allow(&rules, path, WRITE_FILE | known(version, &[IOCTL_DEV]))?;
    }
    Ok(rules)
}

/// The paths are constants, in directories of root. What is missing, or closed to the user, needs no rule.
fn allow(rules: &Landlock, path: &str, access: u64) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(beneath) => rules.allow(beneath, access),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_host_is_asked_for_what_it_knows() {
        let of = |version| refused(Calls::Disks, version);
        assert_eq!((of(1).files, of(1).network, of(1).scoped), (0x1fff, 0, 0));
        assert_eq!((of(3).files, of(3).network, of(3).scoped), (0x7fff, 0, 0));
        assert_eq!((of(6).files, of(6).network, of(6).scoped), (0xffff, 3, 3));
        assert_eq!(of(100), of(6));
        assert_eq!(refused(Calls::Kernel, 6).scoped, SIGNALS.0);
        if let version @ 1.. = sys::landlock_version() {
            Landlock::refuse(&of(version)).unwrap();
        }
    }
}
