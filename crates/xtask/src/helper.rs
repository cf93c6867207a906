//! Builds umlguest, the helper in guests, as a program without libraries (cargo xtask).

use std::path::Path;

use xtask::guest::{TARGET, helper_target};

use crate::steps::{self, cargo, repository};

/// Builds it where [`xtask::guest::build`] finds it.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    build(&repository(), &helper_target(), "")
}

/// Builds it from the sources in `source`, in the directory `target`, with these flags of the compiler (separated as
/// `CARGO_ENCODED_RUSTFLAGS` has it) in addition.
pub(crate) fn build(source: &Path, target: &Path, flags: &str) -> anyhow::Result<()> {
    let separator = if flags.is_empty() { "" } else { "\u{1f}" };
    let flags = format!("{flags}{separator}-Ctarget-feature=+crt-static");
    let mut build = cargo(&["build", "--release", "--locked", "-p", "umlguest"]);
    // With the target named, what runs on this host is not built so.
    build.args(["--target", TARGET, "--target-dir"]).arg(target);
    build.current_dir(source).env_remove("RUSTFLAGS");
    steps::run(build.env("CARGO_ENCODED_RUSTFLAGS", flags))
}
