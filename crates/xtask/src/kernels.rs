//! `cargo xtask kernels DIR`: User Mode Linux kernels of newer Debian releases, each with the libraries it was built
//! for. They run in a jail that has these libraries; the host needs neither.
//!
//! apt works with a state of its own in `DIR/apt`, so that the host's package lists stay as they are.
//!
//! ```text
//! DIR/linux-6.12        the kernel          DIR/linux-6.12.lib/   ld-linux-x86-64.so.2 libc.so.6 libgcc_s.so.1
//! DIR/linux-7.2                             DIR/linux-7.2.lib/
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::steps::output;

/// The keys of the archive.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Releases that have a kernel of interest.
const SUITES: [&str; 2] = ["trixie", "sid"];

/// The release whose libraries serve all of them: symbols of glibc stay.
const LIBRARY_SUITE: &str = "sid";

/// What a kernel needs: by its header, by its dynamic section, and (thread cancellation at the end) by name at run
/// time.
const LIBRARIES: [&str; 3] = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1"];

/// Fetches the kernels into `directory`, unless they are there; returns their paths.
pub(crate) fn fetch(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    let present = kernels_in(&directory)?;
    if present.len() == SUITES.len() {
        return Ok(present);
    }
    let apt = Apt::new(directory.join("apt"))?;
    apt.run(&["-qq", "update"])?;
    let libraries = directory.join("apt/libraries");
    for package in ["libc6", "libgcc-s1"] {
        apt.unpack(package, LIBRARY_SUITE, &libraries)?;
    }
    for suite in SUITES {
        let tree = directory.join("apt").join(suite);
        let version = apt.unpack("user-mode-linux", suite, &tree)?;
        // 6.12um1+b21 is a build of Linux 6.12.
        let release = version.split("um").next().unwrap_or(&version);
        let kernel = directory.join(format!("linux-{release}"));
        place_libraries(&libraries, &directory.join(format!("linux-{release}.lib")))?;
        place(&find(&tree, "linux.uml")?, &kernel)?;
        println!("{}", kernel.display());
    }
    kernels_in(&directory)
}

/// The kernels in the directory: those whose libraries are beside them.
fn kernels_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut kernels = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let mut libraries = path.clone().into_os_string();
        libraries.push(".lib");
        if path.is_file() && Path::new(&libraries).is_dir() {
            kernels.push(path);
        }
    }
    kernels.sort();
    Ok(kernels)
}

fn place_libraries(tree: &Path, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    LIBRARIES
        .iter()
        .try_for_each(|name| place(&find(tree, name)?, &directory.join(name)))
}

/// Copies what a file name stands for, with its mode.
fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The file of this name somewhere in the tree; of links, only those that lead to a file of the tree.
fn find(tree: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?
        {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if entry.file_name() == name
                && path.canonicalize().is_ok_and(|real| real.starts_with(tree))
            {
                return Ok(path);
            }
        }
    }
    bail!(
        "there is no {name} in the packages unpacked in {}",
        tree.display()
    )
}

/// apt with its own sources, lists and cache.
struct Apt {
    state: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(state: PathBuf) -> anyhow::Result<Apt> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(part))
                .with_context(|| format!("cannot make {}", state.display()))?;
        }
        let mirror = mirror()?;
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(state.join("sources.list"), sources)
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
        Ok(Apt { state, options })
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

    /// Downloads the suite's version of a package and unpacks it into `tree`; returns the version.
    fn unpack(&self, package: &str, suite: &str, tree: &Path) -> anyhow::Result<String> {
        let table = output(self.command("apt-cache").args(["madison", package]))?;
        let version =
            version_in(&table, suite).with_context(|| format!("{suite} has no {package}"))?;
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

/// The mirror that the host itself uses.
pub(crate) fn mirror() -> anyhow::Result<String> {
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
