//! What a chore needs of the machine: to be root, and Debian packages (cargo xtask).

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::steps::{self, output};

/// Fails with what to type instead, if we are not root. `chore` is what the user typed after `cargo xtask`.
pub(crate) fn require_root(chore: &str, why: &str) -> anyhow::Result<()> {
    ensure!(
        is_root(),
        "{why}; run it as root, for example:\n  sudo -E env \"PATH=$PATH\" cargo xtask {chore}"
    );
    Ok(())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this runs in CI, where a missing program must count as a failure.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Installs those of the Debian packages that are missing.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let missing: BTreeSet<&str> = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.into_iter().collect();
    ensure!(
        is_root(),
        "missing packages; install them first, as root:\n  apt-get install {}",
        names.join(" ")
    );
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        steps::run(&mut command)
    };
    apt(&["-qq", "update"])?;
    apt(&[
        ["-qq", "-y", "--no-install-recommends", "install"].as_slice(),
        &names,
    ]
    .concat())
}

fn missing<'a>(packages: &[&'a str]) -> anyhow::Result<BTreeSet<&'a str>> {
    let mut query = Command::new("dpkg-query");
    let installed = output(query.args(["-W", "-f", "${Package} ${db:Status-Status}\n"])).context(
        "this chore installs what it needs on Debian and relatives of it, which this host is not",
    )?;
    let installed: BTreeSet<&str> = installed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect())
}
