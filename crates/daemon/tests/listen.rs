//! The socket of a daemon: who may connect, and what is in its way. A process of its own, as binding changes the umask.

#![cfg(feature = "server")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Mutex;

use daemon::{CtrlSocket, Error};

/// Held while a test binds: there is one umask for all threads.
static UMASK: Mutex<()> = Mutex::new(());

#[test]
fn the_socket_is_for_everybody_and_goes_with_the_guard() {
    let _umask = UMASK.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ctrl");
    let socket = CtrlSocket::bind(dir.path()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o777);
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_anything_else_is_not() {
    let _umask = UMASK.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ctrl");
    drop(UnixListener::bind(&path).unwrap());
    if rustix::process::geteuid().is_root() {
        drop(CtrlSocket::bind(dir.path()).unwrap());
    }
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, "precious").unwrap();
    let error = CtrlSocket::bind(dir.path()).unwrap_err();
    assert!(matches!(error, Error::InTheWay(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
