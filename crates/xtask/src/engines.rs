//! Docker of a newer Debian release, for the tier `docker`: its packages, unpacked but not installed (cargo xtask).

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::apt::Apt;

/// The release whose Docker takes runtimes of containerd.
const SUITE: &str = "trixie";

const PACKAGES: [&str; 4] = ["containerd", "docker.io", "docker-cli", "runc"];

/// Unpacks them into `directory`, unless it exists.
pub(crate) fn fetch(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    let part = directory.with_extension("part");
    let apt = Apt::new(part.join("apt"), &[SUITE])?;
    let tree = part.join("tree");
    for package in PACKAGES {
        apt.unpack(package, SUITE, &tree)?;
    }
    fs::rename(&tree, directory).with_context(|| format!("cannot make {}", directory.display()))?;
    fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))
}
