//! `cargo xtask check`: checks of the sources that need no test run. The first fault ends it.

mod circles;
mod crates;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{self, cargo, heading, output, repository};
use crate::{r#gen, setup};
use anyhow::{Context as _, ensure};

/// The longest file, in lines. What is generated is exempt.
const MAX_LINES: usize = 600;
/// The longest line of a comment, in characters. rustfmt does not wrap comments.
const MAX_COLUMNS: usize = 120;

const FUZZ: &str = "tests/fuzz/Cargo.toml";

pub(crate) fn run() -> anyhow::Result<()> {
    setup::install(&["mandoc"])?;
    heading("Form");
    step(&["fmt", "--all", "--check"])?;
    step(&["fmt", "--all", "--check", "--manifest-path", FUZZ])?;
    heading("Lints");
    step(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    step(&[
        "clippy",
        "--quiet",
        "--all-targets",
        "--manifest-path",
        FUZZ,
        "--",
        "-D",
        "warnings",
    ])?;
    heading("Documentation");
    let doc = [
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    steps::run(cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    manual_pages()?;
    heading("Rules of the house");
    println!("generated files are current");
    r#gen::run(true)?;
    println!("crates use those that docs/ARCHITECTURE.md says, and no others");
    crates::check()?;
    println!("files of a crate do not use each other in a circle");
    circles::check()?;
    println!("no unsafe code but in modules of crates/sys, no file of more than {MAX_LINES} lines");
    sources()?;
    println!("no comment of more than {MAX_COLUMNS} columns");
    comments()
}

fn step(args: &[&str]) -> anyhow::Result<()> {
    steps::run(&mut cargo(args))
}

/// The files of the repository that git knows, or would add, with this ending.
fn files(ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    let list = [
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--deduplicate",
        "-z",
        "--",
    ];
    let names = output(git.args(list).arg(ending).current_dir(repository()))?;
    let paths = names
        .split_terminator('\0')
        .map(|name| repository().join(name));
    // A file that was removed and not yet committed is still listed.
    Ok(paths.filter(|path| path.exists()).collect())
}

fn manual_pages() -> anyhow::Result<()> {
    steps::run(
        Command::new("mandoc")
            .args(["-Tlint", "-W", "warning"])
            .args(files("man/*.[1-9]")?),
    )
}

fn sources() -> anyhow::Result<()> {
    // The compiler refuses unsafe code; this checks that no file permits it.
    for path in files("*Cargo.toml")? {
        let manifest = fs::read_to_string(&path)?;
        let is_crate = manifest.contains("[package]") && !path.ends_with(FUZZ);
        ensure!(
            !is_crate || manifest.contains("[lints]\nworkspace = true"),
            "{}: without `[lints] workspace = true`",
            path.display()
        );
    }
    let ban = ["unsafe", "code"].join("_");
    let home = repository().join("crates/sys/src");
    for path in files("*.rs")? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            !text.contains(&ban) || (path.starts_with(&home) && !path.ends_with("lib.rs")),
            "{}: speaks of {ban}; only a module of crates/sys lifts the ban, each for itself",
            path.display()
        );
        let lines = text.lines().count();
        ensure!(
            is_generated(&path) || lines <= MAX_LINES,
            "{}: {lines} lines",
            path.display()
        );
    }
    Ok(())
}

fn is_generated(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with("_xdr.rs") || name.ends_with("_rpc.rs")
}

fn comments() -> anyhow::Result<()> {
    for path in files("*.rs")?.into_iter().chain(files("*.x")?) {
        if is_generated(&path) {
            continue;
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (number, line) in (1..).zip(text.lines()) {
            let is_comment =
                path.extension().is_some_and(|it| it == "x") || line.trim_start().starts_with("//");
            ensure!(
                !is_comment || line.chars().count() <= MAX_COLUMNS,
                "{}:{number}: a comment of more than {MAX_COLUMNS} columns",
                path.display()
            );
        }
    }
    Ok(())
}
