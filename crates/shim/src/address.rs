//! The socket of a pod's server (every process of the shim).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::options::Options;

/// Where shims have their sockets. A path below it is short enough for one.
const DIRECTORY: &str = "/run/containerd/s";
/// The file of a bundle in which containerd finds the socket after it was restarted.
const FILE: &str = "address";

/// The socket of this pod: the same for all of its containers, and another one for each containerd and namespace.
pub(crate) fn of(options: &Options, pod: &str) -> PathBuf {
    let name = [&options.address, &options.namespace, pod].join("/");
    Path::new(DIRECTORY).join(format!("{:x}", Sha256::digest(name)))
}

/// How containerd names a socket.
pub(crate) fn url(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// Tells containerd, and those that come after it, where the server of this bundle is: in one step, as it may be
/// killed.
pub(crate) fn write(bundle: &Path, socket: &Path) -> anyhow::Result<()> {
    let path = bundle.join(FILE);
    let draft = path.with_extension("new");
    fs::write(&draft, url(socket))
        .and_then(|()| fs::rename(&draft, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}
