//! Builds the programs as they are released (cargo xtask).
//!
//! Two have no libraries: umlguest, which runs in any guest, and umlkeep. There is one umlkeep beside each kernel; a
//! linker's tables would be half of its memory.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use xtask::guest::{TARGET, helper_in, helper_target, static_in};

use crate::steps::{self, cargo, repository, target_dir};

/// Each program, and where it belongs under the prefix: `sbin` is for root.
pub(crate) const PROGRAMS: [(&str, &str); 6] = [
    ("umlmon", "sbin"),
    ("umldir", "sbin"),
    ("umlweb", "sbin"),
    ("umladmin", "sbin"),
    ("umlwatch", "bin"),
    (SHIM, "sbin"),
];

/// The program that containerd executes; the crate has a shorter name.
pub(crate) const SHIM: &str = "containerd-shim-uml-v2";

/// The program that the monitor executes beside each kernel.
pub(crate) const KEEPER: &str = "umlkeep";
/// The helper in guests.
pub(crate) const HELPER: &str = "umlguest";

/// Builds all of them where a release of cargo's is.
pub(crate) fn build_release() -> anyhow::Result<()> {
    let mut build = cargo(&["build", "--release"]);
    steps::run(build.args(packages()))?;
    add_static(
        &repository(),
        &helper_target(),
        "",
        &target_dir().join("release"),
    )
}

/// What cargo is told, to build those with libraries.
pub(crate) fn packages() -> impl Iterator<Item = &'static str> {
    let package = |program| if program == SHIM { "shim" } else { program };
    PROGRAMS
        .map(|(program, _)| ["-p", package(program)])
        .into_iter()
        .flatten()
}

/// Copies those below this directory that temporary VMs need, as they are installed. They have been built.
pub(crate) fn copy_released(prefix: &Path) -> anyhow::Result<()> {
    let released = target_dir().join("release");
    for (from, to) in [
        (released.join("umladmin"), "sbin"),
        (released.join("umlmon"), "sbin"),
        (released.join(SHIM), "sbin"),
        (released.join(KEEPER), "lib/umlmon"),
        (helper_in(&helper_target()), "lib/umlmon"),
    ] {
        let to = prefix.join(to);
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        let name = from.file_name().context("a program has no name")?;
        fs::copy(&from, to.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Builds the helper where [`xtask::guest::build`] finds it. The tests use an umlkeep with libraries, which is built
/// sooner.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    let helper = ["-p", HELPER, "--bin", HELPER];
    build(&repository(), &helper_target(), "", &helper)
}

/// Builds the two from the sources in `source`, in the directory `target`, with these flags of the compiler (separated
/// as `CARGO_ENCODED_RUSTFLAGS` has it) in addition, and puts them beside the other programs, in `programs`.
pub(crate) fn add_static(
    source: &Path,
    target: &Path,
    flags: &str,
    programs: &Path,
) -> anyhow::Result<()> {
    let both = [
        "-p", HELPER, "-p", "umlmon", "--bin", HELPER, "--bin", KEEPER,
    ];
    build(source, target, flags, &both)?;
    for program in [HELPER, KEEPER] {
        let to = programs.join(program);
        // What cargo has put there is a link to a file of its own, which must stay.
        if to.exists() {
            fs::remove_file(&to).with_context(|| format!("cannot remove {}", to.display()))?;
        }
        let from = static_in(target, program);
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

fn build(source: &Path, target: &Path, flags: &str, what: &[&str]) -> anyhow::Result<()> {
    let separator = if flags.is_empty() { "" } else { "\u{1f}" };
    let flags = format!("{flags}{separator}-Ctarget-feature=+crt-static");
    let mut build = cargo(&["build", "--release", "--locked"]);
    build.args(what);
    // With the target named, what runs on this host is not built so.
    build.args(["--target", TARGET, "--target-dir"]).arg(target);
    build.current_dir(source).env_remove("RUSTFLAGS");
    steps::run(build.env("CARGO_ENCODED_RUSTFLAGS", flags))
}
