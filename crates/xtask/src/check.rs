//! `cargo xtask check`: what can be said of the sources without running a test. The first thing that is wrong ends it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::steps::{self, cargo, heading, output, repository};
use crate::{r#gen, setup};

/// Which crates of ours a crate may use, tests aside; docs/ARCHITECTURE.md says why.
const MAY_USE: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("sys", &[]),
    ("cli", &[]),
    ("rpc-xdr", &[]),
    ("jail", &["config", "sys"]),
    ("pty", &["config", "sys"]),
    ("disks", &["config", "sys"]),
    ("net", &["config", "sys"]),
    ("daemon", &["config", "sys"]),
    (
        "umlmon",
        &[
            "config", "sys", "cli", "rpc-xdr", "jail", "pty", "disks", "net", "daemon",
        ],
    ),
    ("umldir", &["config", "sys", "cli", "rpc-xdr", "daemon"]),
    ("remote", &["config", "cli", "rpc-xdr"]),
    ("umlwatch", &["config", "cli", "rpc-xdr", "remote"]),
    (
        "umladmin",
        &[
            "config", "cli", "rpc-xdr", "remote", "jail", "net", "daemon", "umlwatch",
        ],
    ),
    ("xtask", &[]),
    ("e2e", &["sys", "xtask"]),
];

/// The longest file, in lines. What is generated is exempt.
const MAX_LINES: usize = 600;

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
    println!("crates use only those they may");
    dependencies()?;
    println!("no unsafe code outside crates/sys, no file of more than {MAX_LINES} lines");
    sources()
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

fn dependencies() -> anyhow::Result<()> {
    let metadata = output(&mut cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cannot read cargo metadata")?;
    check_dependencies(&uses(&metadata)?)
}

/// Each crate of the workspace with those of its dependencies that have a path, not counting those of its tests.
fn uses(metadata: &Value) -> anyhow::Result<BTreeMap<&str, Vec<&str>>> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    let mut uses = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let all = package["dependencies"]
            .as_array()
            .context("a package has no list of dependencies")?;
        let ours = all
            .iter()
            .filter(|dependency| !dependency["path"].is_null() && dependency["kind"] != "dev");
        uses.insert(
            name,
            ours.filter_map(|dependency| dependency["name"].as_str())
                .collect(),
        );
    }
    Ok(uses)
}

fn check_dependencies(uses: &BTreeMap<&str, Vec<&str>>) -> anyhow::Result<()> {
    for (name, used) in uses {
        let rule = MAY_USE.iter().find(|(known, _)| known == name);
        let (_, allowed) =
            rule.with_context(|| format!("{name}: MAY_USE does not say which crates it may use"))?;
        let wrong: Vec<&str> = used
            .iter()
            .copied()
            .filter(|used| !allowed.contains(used))
            .collect();
        ensure!(
            wrong.is_empty(),
            "{name} uses {}, which docs/ARCHITECTURE.md rules out",
            wrong.join(", ")
        );
    }
    Ok(())
}

fn sources() -> anyhow::Result<()> {
    // The compiler refuses unsafe code; what is left to check is that nobody lifts the ban.
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
    let home = repository().join("crates/sys");
    for path in files("*.rs")? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            !text.contains(&ban) || path.starts_with(&home),
            "{}: speaks of {ban}",
            path.display()
        );
        let generated = path.to_string_lossy().ends_with("_xdr.rs");
        let lines = text.lines().count();
        ensure!(
            generated || lines <= MAX_LINES,
            "{}: {lines} lines",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_dependency_is_found() {
        let good = BTreeMap::from([("jail", vec!["config", "sys"]), ("config", vec![])]);
        assert!(check_dependencies(&good).is_ok());
        let bad = BTreeMap::from([("jail", vec!["pty"])]);
        let error = check_dependencies(&bad).unwrap_err().to_string();
        assert_eq!(error, "jail uses pty, which docs/ARCHITECTURE.md rules out");
        assert!(check_dependencies(&BTreeMap::from([("novel", vec![])])).is_err());
    }

    #[test]
    fn the_table_of_the_architecture_says_the_same() {
        let text = fs::read_to_string(repository().join("docs/ARCHITECTURE.md")).unwrap();
        let row = |name: &str, uses: &[&str]| {
            let begins = format!("| `{name}` |");
            let ends = match uses {
                [] => "| |".to_owned(),
                uses => format!("| {} |", uses.join(", ")),
            };
            text.lines()
                .any(|line| line.starts_with(&begins) && line.ends_with(&ends))
        };
        for (name, uses) in MAY_USE.iter().filter(|(name, _)| *name != "e2e") {
            assert!(row(name, uses), "{name} uses {uses:?}");
        }
    }

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let metadata = serde_json::json!({"packages": [{"name": "jail", "dependencies": [
            {"name": "config", "path": "/x", "kind": null},
            {"name": "pty", "path": "/x", "kind": "dev"},
            {"name": "nix", "kind": null},
        ]}]});
        assert_eq!(
            uses(&metadata).unwrap(),
            BTreeMap::from([("jail", vec!["config"])])
        );
    }
}
