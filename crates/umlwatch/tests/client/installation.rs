//! An installation of its own for each test.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

/// A configuration with vm1, and no monitor for it.
pub(crate) fn configuration() -> TempDir {
    configuration_with("var")
}

/// The same, with this name of its `vardir`.
pub(crate) fn configuration_with(vardir: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let vardir = dir.path().join(vardir);
    fs::create_dir_all(vardir.join("vm1")).unwrap();
    let text = format!(
        "[GLOBAL]\nvardir = {}\n[vm1]\nvmuser = nobody\nkernel = /shared/kernels/linux\n",
        vardir.display()
    );
    fs::write(dir.path().join("umlmon"), text).unwrap();
    dir
}

pub(crate) fn umlwatch(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_umlwatch"));
    command
        .arg("-config")
        .arg(dir.path().join("umlmon"))
        .args(args);
    command.env("HOME", dir.path()).env("TERM", "vt100");
    command
}
