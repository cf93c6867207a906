//! The socket of a pod's server (every process of the shim).

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::files;
use crate::options::Options;

/// Where shims have their sockets. A path below it is short enough for one.
const DIRECTORY: &str = "/run/containerd/s";
/// The file of a bundle in which containerd finds the socket after it was restarted.
const FILE: &str = "address";

/// The socket of this pod: the same for all of its containers, and another one for each containerd and namespace.
pub(crate) fn of(options: &Options, pod: &str) -> PathBuf {
    let name = [&options.address, &options.namespace, pod].join("/");
    Path::new(DIRECTORY).join(files::hex(&Sha256::digest(name)))
}

/// How containerd names a socket.
pub(crate) fn url(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// Tells containerd, and those that come after it, where the server of this bundle is.
pub(crate) fn write(bundle: &Path, socket: &Path) -> anyhow::Result<()> {
    files::replace(&bundle.join(FILE), url(socket).as_bytes())
}
