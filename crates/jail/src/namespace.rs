//! Network namespaces that somebody else has made, by their files (namespaces(7), ip-netns(8)). Opened by the monitor,
//! as root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::directories::{Open, Trusting, host};
use crate::walk::{kind, walk};
use crate::{Error, Result};

/// Opens a network namespace by an absolute path: a file that only root can exchange, or `/proc/PID/ns/net`.
///
/// # Errors
/// If there is none, or others could exchange it; those of setns(2), which is tried.
pub fn network_namespace(path: &Path) -> Result<OwnedFd> {
    let refused = |problem: String| Error::Namespace {
        path: path.to_owned(),
        problem,
    };
    let opened = match is_of_process(path) {
        true => of_process(path),
        false => of_file(path)?,
    };
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NoNamespace(path.to_owned()),
        _ => refused(format!("cannot be opened: {error}")),
    })?;
    // Opened anew from inside: an open file of a mount keeps that from being unmounted, as when the namespace is
    // removed.
    let entered = sys::in_network(&file, || File::open("/proc/thread-self/ns/net"));
    let entered = entered.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::INVAL) => refused("is no network namespace".to_owned()),
        _ => refused(format!("cannot be entered: {error}")),
    })?;
    Ok(entered.into())
}

/// Whether it is the link of the host's kernel to the namespace of a process. What that says cannot be followed as a
/// path, and nobody else can exchange it.
fn is_of_process(path: &Path) -> bool {
    let names: Vec<_> = path
        .components()
        .skip(1)
        .map(Component::as_os_str)
        .collect();
    match names[..] {
        [proc, pid, ns, net] => {
            let is_number = pid.as_encoded_bytes().iter().all(u8::is_ascii_digit);
            proc == "proc" && is_number && ns == "ns" && net == "net"
        }
        _ => false,
    }
}

fn of_process(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

/// The result of the walk, and in it that of the opening.
fn of_file(path: &Path) -> Result<io::Result<File>> {
    let walked = walk(&host()?, path, &Trusting { open: Open::ToSome });
    match walked {
        Ok(found) if found.is_file() => Ok(found.read()),
        Ok(found) => Err(Error::Namespace {
            path: path.to_owned(),
            problem: format!("is {}", kind(found.kind())),
        }),
        Err(Error::Directory { source, .. }) => Ok(Err(source)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_no_namespace_is_refused() {
        let refused = |path: &str| network_namespace(path.as_ref()).unwrap_err().to_string();
        for path in ["/run/netns/no-such-namespace", "/proc/0/ns/net"] {
            let said = refused(path);
            assert!(
                said.starts_with(&format!("there is no network namespace {path}")),
                "{said}"
            );
        }
        assert!(refused("/etc").contains("is a directory"));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        assert!(refused("/etc/passwd").contains("/etc/passwd is no network namespace"));
        let own = format!("/proc/{}/ns/net", std::process::id());
        network_namespace(own.as_ref()).unwrap();
    }

    #[test]
    fn what_others_could_exchange_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netns");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let said = network_namespace(&path).unwrap_err().to_string();
        assert!(said.contains("writable by root only"), "{said}");
    }

    #[test]
    fn only_the_link_to_the_network_of_a_process_is_followed() {
        assert!(is_of_process("/proc/12/ns/net".as_ref()));
        for other in [
            "/proc/12/ns/mnt",
            "/proc/self/ns/net",
            "/proc/1/root/ns/net",
            "/a/12/ns/net",
            "/proc/ns/net",
        ] {
            assert!(!is_of_process(other.as_ref()), "{other}");
        }
    }
}
