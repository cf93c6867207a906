//! `containerd-shim-uml-v2 start`: a server for a pod, or the name of the one that is there.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::address;
use crate::bundle::{Bundle, Kind};
use crate::options::Options;

/// The FIFO of a bundle from which containerd takes the log of a shim.
const LOG: &str = "log";

/// Prints the address of the server, as the last thing: containerd takes all that is printed for it.
pub(crate) fn start(options: &Options) -> anyhow::Result<()> {
    let directory = std::env::current_dir().context("there is no bundle")?;
    let pod = match Bundle::read(&directory)?.kind()? {
        Kind::Member(pod) => pod,
        Kind::Alone | Kind::Sandbox => options.id.clone(),
    };
    let socket = address::of(options, &pod);
    if UnixStream::connect(&socket).is_err() {
        let listener = listen(&socket)?;
        begin(options, &pod, listener)?;
    }
    address::write(&directory, &socket)?;
    println!("{}", address::url(&socket));
    Ok(())
}

/// A socket that only root can use. One that nobody listens at is left by a server that was killed.
fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let cannot = || format!("cannot make the socket {}", socket.display());
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory).with_context(cannot)?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(cannot);
        }
        _ => {}
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    UnixListener::bind(socket).with_context(cannot)
}

/// Begins a server with this socket as its standard input.
fn begin(options: &Options, pod: &str, listener: UnixListener) -> anyhow::Result<()> {
    // Opened for reading, too: containerd may be gone for a while, and nobody is to be ended by that.
    let log = File::options().read(true).write(true).open(LOG);
    let log = log.map_or_else(|_| Stdio::null(), Stdio::from);
    Command::new("/proc/self/exe")
        .args(["-namespace", &options.namespace, "-id", pod])
        .args(["-address", &options.address])
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot begin a server")?;
    Ok(())
}
