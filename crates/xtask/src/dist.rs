//! `cargo xtask dist [--twice] [--try]`: Debian packages of what `cargo xtask install` installs: the suite, and its web
//! interface and its shim of containerd, which not every host wants.
//!
//! The same sources yield the same bytes: files have the date of the last commit (or `SOURCE_DATE_EPOCH`), an order and
//! owners that depend on nothing, and programs without a path of this machine. `--twice` shows it: it builds a copy of
//! the sources elsewhere, too, and compares. `--try` installs, uses and removes the package in a Debian of its own.
//!
//! The kernels that `cargo xtask kernel` has built become a package of their own.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use elf::ElfBytes;
use elf::abi::{DF_BIND_NOW, DT_FLAGS, ET_DYN, PT_GNU_RELRO, SHT_SYMTAB};
use elf::endian::AnyEndian;
use tempfile::TempDir;

use crate::deb::{self, Description};
use crate::install::{self, Part};
use crate::programs::{KEEPER, PROGRAMS};
use crate::steps::{heading, output, repository, target_dir};
use crate::{kernel, kernel_package, setup, trial};

/// The files with which a package begins, ends and is described.
const CONTROL: &str = "crates/xtask/debian";

/// A package.
struct Kind {
    name: &'static str,
    part: Part,
    /// Its scripts and description, below [`CONTROL`].
    control: &'static str,
    /// The files of an administrator, which an upgrade asks about.
    conffiles: &'static str,
}

const PACKAGES: [Kind; 3] = [
    Kind {
        name: "umlmon",
        part: Part::Suite,
        control: "",
        conffiles: "/etc/default/umlmon\n/etc/init.d/umlmon\n/etc/logrotate.d/umlmon\n/etc/umlmon\n",
    },
    Kind {
        name: "umlweb",
        part: Part::Web,
        control: "web",
        conffiles: "/etc/init.d/umlweb\n",
    },
    Kind {
        name: "umlmon-containerd",
        part: Part::Containerd,
        control: "containerd",
        conffiles: "",
    },
];

/// What a program may take at most on disk, in bytes. The largest is the shim, for the protocols of containerd.
const MAX_SIZE: usize = 5_500_000;

/// Libraries that programs may need, and the packages that have them.
const LIBRARIES: [(&str, &str); 4] = [
    ("libc.so.6", "libc6"),
    ("libm.so.6", "libc6"),
    ("ld-linux-x86-64.so.2", "libc6"),
    ("libgcc_s.so.1", "libgcc-s1"),
];

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    if let Some(word) = words
        .iter()
        .find(|word| !["--twice", "--try"].contains(word))
    {
        bail!("dist knows no {word:?}: --twice, --try");
    }
    if words.contains(&"--try") {
        let why = "a Debian of its own needs mounts and namespaces";
        setup::require_root(&format!("dist {}", words.join(" ")), why)?;
    }
    let target = target_dir().join("dist");
    // First, as a build takes long.
    let copy = words.contains(&"--twice").then(copy_sources).transpose()?;
    let programs = install::build(&repository(), &target)?;
    let packages = packages(&programs, &target)?;
    if let Some(copy) = copy {
        heading("The same once more, elsewhere");
        let target = copy.path().join("target");
        let programs = install::build(&copy.path().join("source"), &target)?;
        for (package, other) in packages.iter().zip(self::packages(&programs, &target)?) {
            same(package, &other)?;
        }
        println!("another build of the same sources, elsewhere, yields the same bytes");
    }
    if words.contains(&"--try") {
        trial::run(&packages)?;
    }
    for package in &packages {
        println!("{}", package.display());
    }
    heading("The package of our kernel");
    match kernel_package::make(&kernel::directory(), &target)? {
        Some(package) => println!("{}", package.display()),
        None => println!("left out, as there is none yet: cargo xtask kernel builds it"),
    }
    Ok(())
}

/// A copy of the sources in another directory.
fn copy_sources() -> anyhow::Result<TempDir> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let source = directory.path().join("source");
    fs::create_dir(&source)?;
    let mut copy = Command::new("sh");
    let script =
        "git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents -t \"$0\"";
    output(
        copy.args(["-ec", script])
            .arg(&source)
            .current_dir(repository()),
    )?;
    Ok(directory)
}

/// Asserts that two packages are the same; if not, it says which files are not.
fn same(one: &Path, other: &Path) -> anyhow::Result<()> {
    if fs::read(one)? == fs::read(other)? {
        return Ok(());
    }
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    for (package, name) in [(one, "one"), (other, "other")] {
        let mut unpack = Command::new("dpkg-deb");
        output(
            unpack
                .arg("--raw-extract")
                .arg(package)
                .arg(directory.path().join(name)),
        )?;
    }
    let mut compare = Command::new("diff");
    let differ = compare
        .args(["-rq", "one", "other"])
        .current_dir(directory.path())
        .output()?;
    bail!(
        "another build of the same sources yields other bytes:\n{}",
        String::from_utf8_lossy(&differ.stdout)
    )
}

/// Makes the packages of these programs in `directory`.
fn packages(programs: &Path, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    heading("The packages");
    let keeper = fs::read(programs.join(KEEPER))?;
    hardened(&ElfBytes::minimal_parse(&keeper)?, keeper.len()).context(KEEPER)?;
    PACKAGES
        .iter()
        .map(|kind| package(kind, programs, directory))
        .collect()
}

fn package(kind: &Kind, programs: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let root = tempfile::tempdir().context("cannot make a directory")?;
    fs::set_permissions(root.path(), Permissions::from_mode(0o755))?;
    let installed = install::place(programs, root.path(), "/usr", &[kind.part])?;
    let mut needs = Needs::default();
    let programs = PROGRAMS.iter().filter_map(|(program, place)| {
        let path = Path::new("/usr").join(place).join(program);
        installed.contains(&path).then(|| programs.join(program))
    });
    for path in programs {
        needs
            .add(&fs::read(&path)?)
            .with_context(|| path.display().to_string())?;
    }
    let text = |name| fs::read_to_string(repository().join(CONTROL).join(kind.control).join(name));
    let description = Description {
        name: kind.name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        control: text("control")?.replace("@DEPENDS@", &needs.packages()),
        conffiles: kind.conffiles,
        scripts: vec![
            ("postinst", text("postinst")?),
            ("prerm", text("prerm")?),
            ("postrm", text("postrm")?),
        ],
        copyright: copyright_text()?,
    };
    deb::build(root.path(), &installed, &description, directory)
}

/// Both licences, of which the user has the choice.
fn copyright_text() -> anyhow::Result<String> {
    let mit = fs::read_to_string(repository().join("LICENSE-MIT"))?;
    Ok(format!(
        "UMLMON is available under the licence MIT, which follows, or the Apache License 2.0, which Debian systems have in\n\
         /usr/share/common-licenses/Apache-2.0, as you like.\n\n{mit}"
    ))
}

/// What programs need from other packages.
#[derive(Debug, Default, PartialEq)]
struct Needs {
    packages: BTreeSet<&'static str>,
    /// The newest version of glibc that a symbol is of, major and minor.
    glibc: (u32, u32),
}

impl Needs {
    /// Adds a program, after a look at how it was linked.
    fn add(&mut self, program: &[u8]) -> anyhow::Result<()> {
        let file = ElfBytes::<AnyEndian>::minimal_parse(program).context("not a program")?;
        hardened(&file, program.len())?;
        let (dynamic, strings) = (
            file.dynamic()?.context("not linked dynamically")?,
            file.dynamic_symbol_table()?
                .context("without dynamic symbols")?
                .1,
        );
        for entry in dynamic
            .iter()
            .filter(|entry| entry.d_tag == elf::abi::DT_NEEDED)
        {
            let name = strings.get(usize::try_from(entry.d_val())?)?;
            let known = LIBRARIES.iter().find(|(library, _)| *library == name);
            let (_, package) = known.with_context(|| format!("which package has {name}?"))?;
            self.packages.insert(package);
        }
        let (section, _) = file
            .section_header_by_name(".dynstr")?
            .map(|header| file.section_data(&header))
            .context("without strings")??;
        let versions = section.split(|byte| *byte == 0).filter_map(glibc);
        self.glibc = versions.fold(self.glibc, std::cmp::max);
        Ok(())
    }

    /// As in `Depends`.
    fn packages(&self) -> String {
        let named = self.packages.iter().map(|package| match *package {
            "libc6" => format!("libc6 (>= {}.{})", self.glibc.0, self.glibc.1),
            other => other.to_owned(),
        });
        named.collect::<Vec<_>>().join(", ")
    }
}

/// The version in `GLIBC_2.34`.
fn glibc(name: &[u8]) -> Option<(u32, u32)> {
    let version = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Asserts what makes a program hard to subvert, and small: at a random place, nothing of the linker's tables writable,
/// no symbols.
fn hardened(file: &ElfBytes<'_, AnyEndian>, size: usize) -> anyhow::Result<()> {
    let segments = file.segments().context("without segments")?;
    let has = |kind| segments.iter().any(|segment| segment.p_type == kind);
    ensure!(
        file.ehdr.e_type == ET_DYN,
        "not a position independent program"
    );
    let flags = file
        .dynamic()?
        .and_then(|table| table.iter().find(|entry| entry.d_tag == DT_FLAGS));
    let now =
        flags.is_some_and(|flags| flags.d_val() & u64::try_from(DF_BIND_NOW).unwrap_or(0) != 0);
    ensure!(has(PT_GNU_RELRO) && now, "without full RELRO");
    let sections = file.section_headers().context("without sections")?;
    ensure!(
        sections.iter().all(|section| section.sh_type != SHT_SYMTAB),
        "not stripped"
    );
    ensure!(size <= MAX_SIZE, "{size} bytes are more than {MAX_SIZE}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(glibc(b"GLIBC_2.34"), Some((2, 34)));
        assert_eq!(glibc(b"GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(glibc(b"GLIBC_PRIVATE"), None);
        let needs = Needs {
            packages: BTreeSet::from(["libgcc-s1", "libc6"]),
            glibc: (2, 36),
        };
        assert_eq!(needs.packages(), "libc6 (>= 2.36), libgcc-s1");
    }

    #[test]
    fn what_is_not_hardened_is_refused() {
        // This test has its symbols.
        let program = fs::read("/proc/self/exe").unwrap();
        let why = Needs::default().add(&program).unwrap_err().to_string();
        assert_eq!(why, "not stripped");
        assert!(Needs::default().add(b"#!/bin/sh\n").is_err());
    }
}
