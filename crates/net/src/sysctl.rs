//! Settings of the network that are files below /proc/sys, of the network namespace that the caller is in (umlmon, the
//! monitor process).

use std::fs::{self, File};
use std::io::{self, Write as _};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Whether packets that arrive at an interface are forwarded to others.
pub(crate) fn forwards(interface: &str) -> io::Result<bool> {
    let name = forwarding(interface);
    get(&name)
        .map(|value| value != "0")
        .map_err(|error| about("read", &name, &error))
}

/// Switches forwarding on or off.
pub(crate) fn set_forwarding(interface: &str, on: bool) -> io::Result<()> {
    set(&forwarding(interface), if on { "1" } else { "0" })
}

fn forwarding(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/forwarding")
}

/// Lets 127.0.0.1 of the host speak with what is at an interface, for its forwarded ports.
pub(crate) fn route_loopback(interface: &str) -> io::Result<()> {
    set(&format!("net/ipv4/conf/{interface}/route_localnet"), "1")
}

/// Disables IP version 6 of the host on an interface: the host would take addresses and routes from the VM.
pub(crate) fn without_ipv6(interface: &str) -> io::Result<()> {
    match set(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1") {
        // A host without IP version 6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn get(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/sys/{name}"))?
        .trim()
        .to_owned())
}

/// Gives a setting this value, if it has another one: in a container it may be right already and not to be changed.
fn set(name: &str, value: &str) -> io::Result<()> {
    let is_set = get(name).is_ok_and(|now| now == value);
    match is_set {
        true => Ok(()),
        false => {
            write(name, value).map_err(|error| about(&format!("write {value} to"), name, &error))
        }
    }
}

fn write(name: &str, value: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/{name}"), value) {
        // Containers mount it so. Another instance of the file system has the same settings.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ROFS) => {
            write_anew(name, value).map_err(|_| error)
        }
        written => written,
    }
}

/// Writes through a file system that is mounted nowhere.
fn write_anew(name: &str, value: &str) -> io::Result<()> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let (flags, attr) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    let proc = fsmount(&context, flags, attr)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&proc, format!("sys/{name}"), flags, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}

fn about(what: &str, name: &str, error: &io::Error) -> io::Error {
    let remedy = match Errno::from_io_error(error) {
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
            "; set it before, for a container with --sysctl"
        }
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!("cannot {what} /proc/sys/{name}: {error}{remedy}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs I6
    #[test]
    fn a_setting_that_cannot_be_written_is_named() {
        let text = |error: Errno| about("write 1 to", "net/x", &error.into()).to_string();
        assert_eq!(
            text(Errno::ROFS),
            "cannot write 1 to /proc/sys/net/x: Read-only file system (os error 30); set it before, for a container \
             with --sysctl"
        );
        let missing = set_forwarding("no-such-interface", true).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let file = "/proc/sys/net/ipv4/conf/no-such-interface/forwarding";
        assert!(missing.to_string().contains(file), "{missing}");
    }
}
