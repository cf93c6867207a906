//! What the tests of the web interface need beside Debian packages, and its pictures for the documentation: `cargo
//! xtask screenshots`.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::setup::{self, require_root};
use crate::steps::{self, cargo, heading, output, repository};

/// What drives the browser needs at least this version of Node.js.
const NODE: u32 = 20;

/// Gets what drives the browser, in the versions that tests/web/package-lock.json names.
pub(crate) fn install() -> anyhow::Result<()> {
    let version = output(Command::new("node").arg("--version"))
        .context("the tests of the web interface need Node.js and npm")?;
    let major = version.trim().trim_start_matches('v').split('.').next();
    let major: u32 = major.unwrap_or_default().parse().unwrap_or(0);
    ensure!(
        major >= NODE,
        "Node.js {} is too old for the tests of the web interface; they need {NODE}",
        version.trim()
    );
    let mut npm = Command::new("npm");
    npm.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]);
    steps::run(npm.current_dir(repository().join("tests/web")))
}

/// Makes the pictures anew.
pub(crate) fn screenshots() -> anyhow::Result<()> {
    require_root("screenshots", "the VMs that they show need root")?;
    heading("Pictures of the web interface");
    setup::install(&["chromium", "fonts-dejavu-core", "pngquant"])?;
    install()?;
    steps::run(&mut cargo(&["build", "--workspace"]))?;
    let directory = repository().join("docs/screenshots");
    fs::create_dir_all(&directory).context("cannot make docs/screenshots")?;
    let mut test = cargo(&["test", "-p", "e2e", "--test", "web", "the_pictures"]);
    test.env("UMLMON_TEST_PICTURES", &directory);
    steps::run(&mut test)?;
    // With 64 colours they look the same, and are a third as large.
    let mut pictures = Vec::new();
    for entry in fs::read_dir(&directory)? {
        pictures.push(entry?.path());
    }
    let mut reduce = Command::new("pngquant");
    reduce.args(["--force", "--ext", ".png", "--strip", "--speed", "1", "64"]);
    steps::run(reduce.args(pictures))
}
