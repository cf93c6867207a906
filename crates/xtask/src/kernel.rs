//! `cargo xtask kernel [DIR] [--smp]`: a User Mode Linux kernel of our own, from Debian's newest sources, with the
//! patches and options in `etc/kernel`.
//!
//! The same sources and compiler yield the same bytes. A second run compiles only what has changed.
//!
//! ```text
//! DIR/linux-VERSION-umlmon, DIR/linux-VERSION-umlmon-smp     the kernels
//! DIR/version                                                the version of Debian's package of the sources
//! DIR/source, DIR/patches                                    the patched sources, the patches that are in them
//! DIR/build, DIR/build-smp                                   what is compiled
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::apt::Apt;
use crate::setup;
use crate::steps::{self, heading, output, repository, target_dir};

/// What unpacks, configures and compiles the sources.
const PACKAGES: [&str; 8] = [
    "bc",
    "bison",
    "flex",
    "gcc",
    "libc6-dev",
    "make",
    "patch",
    "xz-utils",
];

/// The release with Debian's newest kernel.
const SUITE: &str = "sid";

/// Where Debian builds start: the options of User Mode Linux, in the sources.
const DEFCONFIG: &str = "arch/um/configs/x86_64_defconfig";

/// Our options, and those that the flavour with several CPUs has on top.
const OPTIONS: &str = "etc/kernel/config";
const SMP_OPTIONS: &str = "etc/kernel/config-smp";

/// Our changes of the sources, in the order of their names.
const PATCHES: &str = "etc/kernel/patches";

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (options, directories): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.starts_with("--"));
    let smp = match options.as_slice() {
        [] => false,
        ["--smp"] => true,
        _ => bail!("kernel knows no {}: DIR, --smp", options.join(" ")),
    };
    let directory = match directories.as_slice() {
        [] => directory(),
        [directory] => std::path::absolute(directory)?,
        _ => bail!("kernel takes one directory"),
    };
    setup::install(&PACKAGES)?;
    let begin = Instant::now();
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let tree = Tree { directory, smp };
    tree.fetch()?;
    tree.patch()?;
    let missing = tree.configure()?;
    let kernel = tree.compile()?;
    heading("The kernel");
    println!("{}", kernel.display());
    println!("{} bytes", fs::metadata(&kernel)?.len());
    let sum = output(Command::new("sha256sum").arg(&kernel))?;
    println!("SHA-256 {}", sum.split(' ').next().unwrap_or_default());
    println!("made in {} s", begin.elapsed().as_secs());
    for option in missing {
        println!("etc/kernel asks for {option}, which this version of Linux does not have");
    }
    Ok(())
}

/// Where the kernels are made unless told otherwise.
pub(crate) fn directory() -> PathBuf {
    target_dir().join("kernel")
}

/// What was built in a directory.
#[derive(Debug, PartialEq)]
pub(crate) struct Built {
    /// The files of kernels, one of each flavour that there is.
    pub(crate) kernels: Vec<PathBuf>,
    /// Debian's package of their sources, and its version.
    pub(crate) package: String,
    pub(crate) version: String,
}

/// The kernels in the directory, if there are any.
pub(crate) fn built(directory: &Path) -> anyhow::Result<Option<Built>> {
    let Ok(version) = fs::read_to_string(directory.join("version")) else {
        return Ok(None);
    };
    let (package, version) = version
        .trim()
        .split_once(' ')
        .with_context(|| format!("{}/version: not as expected", directory.display()))?;
    let mut kernels = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("linux-") && path.is_file() {
            kernels.push(path);
        }
    }
    kernels.sort();
    let built = Built {
        kernels,
        package: package.to_owned(),
        version: version.to_owned(),
    };
    Ok(Some(built).filter(|built| !built.kernels.is_empty()))
}

/// The files of the repository that make a kernel ours.
pub(crate) fn sources() -> anyhow::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = vec![OPTIONS.into(), SMP_OPTIONS.into()];
    let patches = files_in(&repository().join(PATCHES))?;
    paths.extend(
        patches
            .iter()
            .map(|(name, _)| Path::new(PATCHES).join(name)),
    );
    Ok(paths)
}

/// The sources, and what becomes of them for one flavour.
struct Tree {
    directory: PathBuf,
    smp: bool,
}

impl Tree {
    fn source(&self) -> PathBuf {
        self.directory.join("source")
    }

    fn build(&self) -> PathBuf {
        let name = if self.smp { "build-smp" } else { "build" };
        self.directory.join(name)
    }

    /// Our files of options.
    fn options(&self) -> Vec<PathBuf> {
        let names = [OPTIONS, SMP_OPTIONS];
        let count = if self.smp { 2 } else { 1 };
        names
            .iter()
            .take(count)
            .map(|name| repository().join(name))
            .collect()
    }

    /// Fetches and unpacks the sources, unless they are there.
    fn fetch(&self) -> anyhow::Result<()> {
        let (source, version) = (self.source(), self.directory.join("version"));
        if source.is_dir() {
            println!(
                "the sources are those of {}; remove {} for newer ones",
                fs::read_to_string(version)?.trim(),
                self.directory.display()
            );
            return Ok(());
        }
        heading("The sources");
        let state = self.directory.join("apt");
        let apt = Apt::new(state.clone(), &[SUITE])?;
        // An empty package that depends on the sources: 7.2.13-1 on linux-source-7.2.
        let newest = apt.version("linux-source", SUITE)?;
        let release = newest.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        let package = format!("linux-source-{release}");
        let unpacked = state.join("unpacked");
        let newest = apt.unpack(&package, SUITE, &unpacked)?;
        let new = self.directory.join("source.new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir(&new)?;
        let archive = unpacked.join(format!("usr/src/{package}.tar.xz"));
        let mut tar = Command::new("tar");
        tar.args(["--strip-components=1", "-xJf"])
            .arg(archive)
            .arg("-C")
            .arg(&new);
        steps::run(&mut tar)?;
        fs::remove_dir_all(&state)?;
        fs::write(version, format!("{package} {newest}\n"))?;
        fs::rename(&new, &source)?;
        Ok(())
    }

    /// Applies our patches. Those applied before are taken back first, if ours have changed since.
    fn patch(&self) -> anyhow::Result<()> {
        let applied = self.directory.join("patches");
        fs::create_dir_all(&applied)?;
        let (ours, before) = (files_in(&repository().join(PATCHES))?, files_in(&applied)?);
        if ours == before {
            return Ok(());
        }
        heading("The patches");
        for (name, _) in before.iter().rev() {
            let path = applied.join(name);
            self.apply(&path, &["--reverse"])?;
            fs::remove_file(&path)?;
        }
        for (name, content) in ours {
            self.apply(&repository().join(PATCHES).join(&name), &[])?;
            fs::write(applied.join(name), content)?;
        }
        Ok(())
    }

    fn apply(&self, patch: &Path, options: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("patch");
        command
            .args(["--force", "--no-backup-if-mismatch", "-p1", "-d"])
            .arg(self.source())
            .arg("-i")
            .arg(patch)
            .args(options);
        steps::run(&mut command)
    }

    /// Writes the configuration; returns the options of ours that are not in it.
    fn configure(&self) -> anyhow::Result<Vec<String>> {
        heading("The configuration");
        let defconfig = self.source().join(DEFCONFIG);
        let mut ours = String::new();
        for path in self.options() {
            ours += &fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        let build = self.build();
        fs::create_dir_all(&build)?;
        let config = build.join(".config");
        // The later one counts where two differ.
        fs::write(&config, fs::read_to_string(&defconfig)? + &ours)?;
        output(&mut self.make(&["olddefconfig"])?)?;
        Ok(missing(&ours, &fs::read_to_string(&config)?))
    }

    /// Compiles, and puts the kernel in place without its symbols.
    fn compile(&self) -> anyhow::Result<PathBuf> {
        heading("Compiling");
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        steps::run(&mut self.make(&[&format!("-j{jobs}"), "linux"])?)?;
        let release = output(&mut self.make(&["kernelrelease"])?)?;
        let kernel = self.directory.join(format!("linux-{}", release.trim()));
        let mut strip = Command::new("strip");
        output(strip.arg("-o").arg(&kernel).arg(self.build().join("linux")))?;
        Ok(kernel)
    }

    /// make in the sources, with all that a kernel has of its build always the same.
    fn make(&self, args: &[&str]) -> anyhow::Result<Command> {
        // The date of the sources; the patches leave this file alone.
        let mut date = Command::new("date");
        let date = output(
            date.env("LC_ALL", "C")
                .args(["--utc", "--rfc-email", "--reference"])
                .arg(self.source().join("Makefile")),
        )?;
        let mut output_directory = std::ffi::OsString::from("O=");
        output_directory.push(self.build());
        let mut make = Command::new("make");
        make.args(["-s", "ARCH=um"])
            .arg(output_directory)
            .args(args)
            .current_dir(self.source())
            .env("LC_ALL", "C")
            .env("KBUILD_BUILD_TIMESTAMP", date.trim())
            .env("KBUILD_BUILD_VERSION", "1")
            .env("KBUILD_BUILD_USER", "umlmon")
            .env("KBUILD_BUILD_HOST", "umlmon");
        Ok(make)
    }
}

/// The names and contents of the files in a directory, in the order of their names.
fn files_in(directory: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name, fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

/// The lines of options that a configuration does not have; of an option that is set twice, the last one counts.
fn missing(wanted: &str, config: &str) -> Vec<String> {
    let has: BTreeSet<&str> = config.lines().collect();
    let names: BTreeSet<&str> = config.lines().filter_map(set).collect();
    let last = |name| wanted.lines().rfind(|line| option(line) == Some(name));
    let lines = wanted
        .lines()
        .filter(|line| option(line).is_some_and(|name| last(name) == Some(line)));
    lines
        .filter(|line| match set(line) {
            Some(_) => !has.contains(line),
            None => option(line).is_some_and(|name| names.contains(name)),
        })
        .map(str::to_owned)
        .collect()
}

/// The name of the option that a line sets or switches off.
fn option(line: &str) -> Option<&str> {
    set(line).or_else(|| line.strip_prefix("# ")?.strip_suffix(" is not set"))
}

/// The name in `CONFIG_NAME=VALUE`.
fn set(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    name.starts_with("CONFIG_").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_a_kernel_does_not_have_are_named() {
        let wanted = "CONFIG_LOCALVERSION=\"-a\"\n# Why.\nCONFIG_SMP=y\n# CONFIG_MODULES is not set\n\
                      # CONFIG_OLD is not set\nCONFIG_GONE=y\nCONFIG_LOCALVERSION=\"-b\"\n";
        let config = "CONFIG_LOCALVERSION=\"-b\"\nCONFIG_MODULES=y\n# CONFIG_SMP is not set\n";
        assert_eq!(
            missing(wanted, config),
            [
                "CONFIG_SMP=y",
                "# CONFIG_MODULES is not set",
                "CONFIG_GONE=y"
            ]
        );
    }

    #[test]
    fn what_was_built_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert_eq!(built(directory.path()).unwrap(), None);
        fs::write(path("version"), "linux-source-7.2 7.2.13-1\n").unwrap();
        assert_eq!(built(directory.path()).unwrap(), None);
        for name in ["linux-7.2.13-umlmon-smp", "linux-7.2.13-umlmon"] {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir(path("source")).unwrap();
        let found = built(directory.path()).unwrap().unwrap();
        assert_eq!(
            found.kernels,
            [path("linux-7.2.13-umlmon"), path("linux-7.2.13-umlmon-smp")]
        );
        assert_eq!(
            (&*found.package, &*found.version),
            ("linux-source-7.2", "7.2.13-1")
        );
    }

    #[test]
    fn every_option_of_ours_has_its_reason_above() {
        for name in [OPTIONS, SMP_OPTIONS] {
            let text = fs::read_to_string(repository().join(name)).unwrap();
            let mut above = "";
            for line in text.lines() {
                let known = option(above).is_some() || above.starts_with("# ");
                assert!(option(line).is_none() || known, "{name}: {line}");
                above = line;
            }
        }
    }

    #[test]
    fn every_patch_is_ready_to_be_sent() {
        let patches = files_in(&repository().join(PATCHES)).unwrap();
        let count = patches.len();
        for (n, (name, content)) in (1..).zip(patches) {
            let text = String::from_utf8(content).unwrap();
            let (message, change) = text.split_once("\n---\n").unwrap();
            assert!(
                message.contains(&format!("\nSubject: [PATCH {n}/{count}] um: ")),
                "{name}"
            );
            assert!(message.contains("\n\nSigned-off-by: "), "{name}");
            assert!(message.lines().all(|line| line.len() <= 75), "{name}");
            assert!(change.starts_with("--- a/arch/um/"), "{name}");
        }
    }
}
