//! What a confined process may do with files: Landlock, where the host has it. Applied by the monitor's second process,
//! inherited by the kernel and by every process of its guest.
//!
//! It is the wall behind the jail's: the rules name directories themselves, not paths, so a process that gets out of
//! its root directory can do nothing with the host's files all the same.

use std::io;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use sys::{Landlock, Refused};

use crate::{Calls, SHARES};

/// Accesses to files, and the version of the interface that has them first (include/uapi/linux/landlock.h).
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ: u64 = 1 << 2 | 1 << 3;
const REMOVE: u64 = 1 << 4 | 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_SYM: u64 = 1 << 12;
/// All of the first version. The rest of it makes nodes of devices and pipes.
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

/// Refuses the calling process every file that it has not open, for good. Without effect where the host has no
/// Landlock.
pub(crate) fn give_up_files() -> io::Result<()> {
    match sys::landlock_version() {
        0 => Ok(()),
        version => Landlock::refuse(&refused(Calls::Disks, version))?.restrict_self(),
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
        Calls::Kernel { .. } => &[SIGNALS],
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
        Calls::Kernel { .. } => EXECUTE,
        Calls::Disks => 0,
    };
    let change = WRITE_FILE | REMOVE | MAKE_DIR | MAKE_REG;
    let change = change | known(version, &[REFER, TRUNCATE]);
    allow(&rules, "/", READ | execute)?;
    for path in WRITABLE {
        allow(&rules, path, change | MAKE_SOCK)?;
    }
    if calls == (Calls::Kernel { shares: true }) {
        allow(&rules, SHARES, change | MAKE_SYM)?;
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
    use std::fs::{self, File};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::process::Command;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    #[test]
    fn each_version_is_asked_for_what_it_knows() {
        let of = |version| {
            let it = refused(Calls::Disks, version);
            (it.files, it.network, it.scoped)
        };
        let expected = [
            (0x1fff, 0, 0),
            (0x3fff, 0, 0),
            (0x7fff, 0, 0),
            (0x7fff, 3, 0),
            (0xffff, 3, 0),
            (0xffff, 3, 3),
            (0xffff, 3, 3),
        ];
        for (version, expected) in (1..).zip(expected) {
            assert_eq!(of(version), expected, "{version}");
        }
        assert_eq!(
            refused(Calls::Kernel { shares: false }, 7).scoped,
            SIGNALS.0
        );
    }

    /// Does it in a thread under these rules, which end with it.
    fn under<T: Send>(rules: Landlock, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                rules.restrict_self().unwrap();
                act()
            });
            thread.join().unwrap()
        })
    }

    /// A host of an older version takes no more than this.
    #[test]
    fn the_rules_of_every_version_hold() {
        let (inside, outside) = (
            tempfile::tempdir_in("/tmp"),
            tempfile::tempdir_in("/var/tmp"),
        );
        let (inside, outside) = (inside.unwrap(), outside.unwrap());
        let file = outside.path().join("file");
        fs::write(&file, "x").unwrap();
        for version in 1..=sys::landlock_version() {
            let rules = rules(Calls::Kernel { shares: false }, version).unwrap();
            under(rules, || {
                assert_eq!(fs::read(&file).unwrap(), b"x", "{version}");
                fs::write(inside.path().join("new"), "x").unwrap();
                fs::remove_file(inside.path().join("new")).unwrap();
                for refused in [
                    fs::write(&file, "y"),
                    fs::write(outside.path().join("new"), "y"),
                    fs::remove_file(&file),
                    std::os::unix::fs::symlink("x", inside.path().join("link")),
                    File::options().write(true).open("/dev/null").map(drop),
                ] {
                    let kind = refused.unwrap_err().kind();
                    assert_eq!(kind, io::ErrorKind::PermissionDenied, "{version}");
                }
            });
        }
    }

    #[test]
    fn no_process_or_abstract_socket_outside_is_reached() {
        let version = sys::landlock_version();
        if version < SIGNALS.1 {
            return;
        }
        let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&stranger);
        let name = format!("umlmon-landlock-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let _daemon = UnixDatagram::bind_addr(&address).unwrap();
        let reach = || {
            let socket = UnixDatagram::unbound().unwrap();
            (
                kill_process(pid, Signal::CONT).map_err(io::Error::from),
                socket.send_to_addr(b"x", &address).map(drop),
            )
        };
        let (signal, socket) = reach();
        assert!(signal.is_ok() && socket.is_ok(), "without rules");
        let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
        let refused = Err(io::ErrorKind::PermissionDenied);
        let (signal, socket) = under(rules(Calls::Disks, version).unwrap(), reach);
        assert_eq!((kind(signal), kind(socket)), (refused, refused));
        let (signal, socket) = under(
            rules(Calls::Kernel { shares: false }, version).unwrap(),
            reach,
        );
        assert_eq!((kind(signal), kind(socket)), (refused, Ok(())));
        // The rules of an older version leave both to the namespaces.
        let (signal, socket) = under(rules(Calls::Disks, 5).unwrap(), reach);
        assert!(signal.is_ok() && socket.is_ok(), "version 5");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
