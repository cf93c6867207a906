//! A Debian package of a directory. The same files yield the same bytes (cargo xtask dist).

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use crate::steps::{output, repository};

/// What a package is, beside its files.
pub(crate) struct Description<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: String,
    /// The file `control`, with @VERSION@, @ARCHITECTURE@ and @SIZE@ to be filled in.
    pub(crate) control: String,
    /// Those of an administrator, which an upgrade asks about, one on a line.
    pub(crate) conffiles: &'a str,
    /// The names and texts of the scripts that dpkg runs.
    pub(crate) scripts: Vec<(&'a str, String)>,
    pub(crate) copyright: String,
}

/// Makes the package in `directory` of what is `installed` in `root`, by the names that the host will know.
pub(crate) fn build(
    root: &Path,
    installed: &[PathBuf],
    description: &Description<'_>,
    directory: &Path,
) -> anyhow::Result<PathBuf> {
    let Description { name, version, .. } = description;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let control = description
        .control
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@SIZE@", &kilobytes(root, installed)?.to_string());
    let debian = root.join("DEBIAN");
    fs::create_dir(&debian)?;
    write(&debian.join("control"), 0o644, control.as_bytes())?;
    if !description.conffiles.is_empty() {
        let path = debian.join("conffiles");
        write(&path, 0o644, description.conffiles.as_bytes())?;
    }
    let sums = sums(root, installed)?;
    write(&debian.join("md5sums"), 0o644, sums.as_bytes())?;
    for (script, text) in &description.scripts {
        write(&debian.join(script), 0o755, text.as_bytes())?;
    }
    let documents = root.join("usr/share/doc").join(name);
    // That of the web interface has nothing else.
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&documents)?;
    write(
        &documents.join("copyright"),
        0o644,
        description.copyright.as_bytes(),
    )?;
    let epoch = epoch()?;
    date(root, SystemTime::UNIX_EPOCH + Duration::from_secs(epoch))?;

    let package = directory.join(format!("{name}_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(root)
        .arg(&package);
    output(build.env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
    Ok(package)
}

/// Writes a file with this mode, whatever the umask is.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) -> anyhow::Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The date that everything gets, in seconds since 1970.
fn epoch() -> anyhow::Result<u64> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let epoch = match given {
        Some(epoch) => epoch,
        None => output(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(repository()),
        )?,
    };
    epoch
        .trim()
        .parse()
        .with_context(|| format!("{epoch:?} is no date in seconds"))
}

/// Gives this date to everything in a directory, and to itself.
fn date(path: &Path, when: SystemTime) -> anyhow::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            date(&entry?.path(), when)?;
        }
    }
    let dated = File::open(path).and_then(|file| file.set_modified(when));
    dated.with_context(|| format!("cannot give {} a date", path.display()))
}

/// What the files take, as Debian counts: each in whole kilobytes.
fn kilobytes(root: &Path, files: &[PathBuf]) -> anyhow::Result<u64> {
    let size = |path: &PathBuf| Ok(fs::metadata(under(root, path))?.len().div_ceil(1024));
    files.iter().map(size).sum()
}

/// What `dpkg --verify` compares with.
fn sums(root: &Path, files: &[PathBuf]) -> anyhow::Result<String> {
    let names: BTreeSet<&Path> = files
        .iter()
        .filter_map(|path| path.strip_prefix("/").ok())
        .filter(|path| !path.starts_with("etc"))
        .collect();
    output(Command::new("md5sum").args(names).current_dir(root))
}

fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
