//! Notifying the service manager that a daemon is ready: one datagram, as sd_notify(3) describes it. Used by the
//! daemons.
//!
//! systemd names a socket in the environment of a service with `Type=notify` and starts what comes after it only when
//! the message has arrived. Without that variable nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket: a path, or with `@` an abstract name.
pub(crate) const SOCKET: &str = "NOTIFY_SOCKET";

/// Notifies the service manager, if there is one, that this process is the daemon, and ready.
///
/// # Errors
/// If there is a socket and it cannot be sent to, or its name is not valid.
pub(crate) fn ready() -> io::Result<()> {
    match std::env::var_os(SOCKET) {
        Some(name) if !name.is_empty() => tell(&name),
        _ => Ok(()),
    }
}

fn tell(name: &OsStr) -> io::Result<()> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            let text = format!("{SOCKET}={name:?} is neither a path nor an abstract name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    let socket = UnixDatagram::unbound()?;
    // A service manager that does not read must not delay the daemon.
    socket.set_nonblocking(true)?;
    let message = format!("READY=1\nMAINPID={}\n", std::process::id());
    socket.send_to_addr(message.as_bytes(), &to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram, name: &OsStr) -> String {
        tell(name).unwrap();
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn both_kinds_of_socket_are_told() {
        let expected = format!("READY=1\nMAINPID={}\n", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(heard(&socket, path.as_os_str()), expected);

        let name = format!("umlmon-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        assert_eq!(heard(&socket, OsStr::new(&format!("@{name}"))), expected);
    }

    #[test]
    fn nobody_who_listens_is_an_error_and_not_a_wait() {
        let dir = tempfile::tempdir().unwrap();
        assert!(tell(dir.path().join("notify").as_os_str()).is_err());
        let error = tell(OsStr::new("vsock:2:1234")).unwrap_err().to_string();
        assert!(error.contains("NOTIFY_SOCKET=\"vsock:2:1234\""), "{error}");
    }
}
