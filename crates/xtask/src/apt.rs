//! Packages of other Debian releases than the host's, without installing them (cargo xtask).
//!
//! apt works with a state of its own, so that the host's package lists stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::steps::output;

/// The keys of the archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with its own sources, lists and cache.
pub(crate) struct Apt {
    state: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// With the current lists of the suites; everything of it is in the directory `state`.
    pub(crate) fn new(state: PathBuf, suites: &[&str]) -> anyhow::Result<Apt> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(part))
                .with_context(|| format!("cannot make {}", state.display()))?;
        }
        let sources: anyhow::Result<Vec<String>> =
            suites.iter().map(|suite| source(suite)).collect();
        fs::write(state.join("sources.list"), sources?.join("\n") + "\n")
            .context("cannot write the list of sources")?;
        let at = |name: &str| state.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".into(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            // apt's own user may have no way into the directory.
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
        ];
        let options = options
            .into_iter()
            .flat_map(|option| ["-o".into(), option])
            .collect();
        let apt = Apt { state, options };
        apt.run(&["-qq", "update"])?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).current_dir(&self.state);
        command
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<()> {
        println!("apt-get {}", args.join(" "));
        output(self.command("apt-get").args(args)).map(|_| ())
    }

    /// The suite's version of a package.
    pub(crate) fn version(&self, package: &str, suite: &str) -> anyhow::Result<String> {
        let table = output(self.command("apt-cache").args(["madison", package]))?;
        version_in(&table, suite).with_context(|| format!("{suite} has no {package}"))
    }

    /// The first package that this one depends on.
    pub(crate) fn dependency(&self, package: &str) -> anyhow::Result<String> {
        let said = output(self.command("apt-cache").args(["depends", package]))?;
        let name = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "));
        let name = name.with_context(|| format!("{package} depends on nothing"))?;
        Ok(name.to_owned())
    }

    /// Downloads the suite's version of a package and unpacks it into `tree`; returns the version.
    pub(crate) fn unpack(&self, package: &str, suite: &str, tree: &Path) -> anyhow::Result<String> {
        let version = self.version(package, suite)?;
        self.run(&["-qq", "download", &format!("{package}={version}")])?;
        // apt writes the colon of an epoch as %3a.
        let prefix = format!("{package}_{}_", version.replace(':', "%3a"));
        let archive = fs::read_dir(&self.state)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            })
            .with_context(|| format!("apt-get download left no archive {prefix}*"))?;
        fs::create_dir_all(tree)?;
        output(Command::new("dpkg-deb").arg("-x").arg(archive).arg(tree))?;
        Ok(version)
    }
}

/// A suite of the host's mirror, as a line for apt.
pub(crate) fn source(suite: &str) -> anyhow::Result<String> {
    let mirror = mirror()?;
    Ok(format!("deb [signed-by={KEYRING}] {mirror} {suite} main"))
}

/// The mirror that the host itself uses.
fn mirror() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    let sites = output(command.args([
        "indextargets",
        "--format",
        "$(SITE)",
        "Created-By: Packages",
    ]))?;
    let site = sites
        .lines()
        .filter(|site| !site.contains("security"))
        .min();
    Ok(site
        .context("the host has no Debian mirror among its package sources")?
        .to_owned())
}

/// The version in the lines of apt-cache madison: `package | version | mirror suite/component arch Packages`.
fn version_in(table: &str, suite: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        let version = columns.nth(1)?;
        let of_suite = columns
            .next()?
            .split(' ')
            .any(|word| word.starts_with(&format!("{suite}/")));
        of_suite.then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_suite_is_found() {
        let table = "
            user-mode-linux |      7.2um1 | https://deb.example.org/debian sid/main amd64 Packages
            user-mode-linux | 6.12um1+b21 | https://deb.example.org/debian trixie/main amd64 Packages\n";
        assert_eq!(version_in(table, "trixie").as_deref(), Some("6.12um1+b21"));
        assert_eq!(version_in(table, "sid").as_deref(), Some("7.2um1"));
        assert_eq!(version_in(table, "bookworm"), None);
    }
}
