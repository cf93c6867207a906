//! The Debian package `umlmon-kernel`: the kernels that `cargo xtask kernel` has built (cargo xtask dist).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::deb::{self, Description};
use crate::steps::repository;
use crate::{install, kernel};

const NAME: &str = "umlmon-kernel";

/// The scripts and descriptions of the package.
const CONTROL: &str = "crates/xtask/debian/kernel";

/// Where the package has the kernels. Its scripts put them into the directory that jails share.
const KERNELS: &str = "usr/lib/umlmon/kernels";

/// Makes the package in `directory`, if there are kernels in `kernels`.
pub(crate) fn make(kernels: &Path, directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(built) = kernel::built(kernels)? else {
        return Ok(None);
    };
    let root = tempfile::tempdir().context("cannot make a directory")?;
    fs::set_permissions(root.path(), Permissions::from_mode(0o755))?;
    let mut installed = Vec::new();
    for path in &built.kernels {
        let name = path.file_name().unwrap_or_default();
        installed.push(place(root.path(), path, &Path::new(KERNELS).join(name))?);
    }
    let documents = Path::new("usr/share/doc").join(NAME);
    let sources = kernel::sources()?;
    for path in &sources {
        let name = path.strip_prefix("etc/kernel").unwrap_or(path);
        installed.push(place(
            root.path(),
            &repository().join(path),
            &documents.join(name),
        )?);
    }
    let text = |name: &str| fs::read_to_string(repository().join(CONTROL).join(name));
    let ours = env!("CARGO_PKG_VERSION");
    let description = Description {
        name: NAME,
        version: format!("{}+umlmon{ours}", built.version),
        control: text("control")?.replace("@SOURCE@", &format!("linux (= {})", built.version)),
        conffiles: "",
        scripts: vec![("postinst", text("postinst")?), ("prerm", text("prerm")?)],
        copyright: text("copyright")?
            .replace("@PACKAGE@", &built.package)
            .replace("@SOURCE_VERSION@", &built.version),
    };
    deb::build(root.path(), &installed, &description, directory).map(Some)
}

/// Copies a file into the tree; returns its path as the host will call it.
fn place(root: &Path, from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    let path = root.join(to);
    let directory = path.parent().context("a file lies nowhere")?;
    install::make_directory(directory)?;
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    ensure!(!content.is_empty(), "{} is empty", from.display());
    let program = to.starts_with(KERNELS);
    deb::write(&path, if program { 0o755 } else { 0o644 }, &content)?;
    Ok(Path::new("/").join(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::output;
    use std::process::Command;

    #[test]
    fn the_package_has_the_kernels_and_says_what_they_are_made_of() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(make(directory.path(), directory.path()).unwrap(), None);
        let version = directory.path().join("version");
        fs::write(version, "linux-source-7.2 7.2.13-1\n").unwrap();
        fs::write(directory.path().join("linux-7.2.13-umlmon"), "\x7fELF").unwrap();
        let package = make(directory.path(), directory.path()).unwrap().unwrap();
        let first = fs::read(&package).unwrap();
        let name = package.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("umlmon-kernel_7.2.13-1+umlmon"), "{name}");
        let list = output(Command::new("dpkg-deb").arg("--contents").arg(&package)).unwrap();
        for line in [
            "-rwxr-xr-x root/root 4 ./usr/lib/umlmon/kernels/linux-7.2.13-umlmon",
            "./usr/share/doc/umlmon-kernel/config",
            "./usr/share/doc/umlmon-kernel/copyright",
            "./usr/share/doc/umlmon-kernel/patches/0001-ubd-carry-out-a-flush.patch",
        ] {
            let words: Vec<_> = line.split(' ').collect();
            let has = |row: &str| {
                words
                    .iter()
                    .all(|word| row.split_whitespace().any(|w| w == *word))
            };
            assert!(list.lines().any(has), "{line}\n{list}");
        }
        let field = ["--field", &package.display().to_string(), "Built-Using"].map(str::to_owned);
        let using = output(Command::new("dpkg-deb").args(field)).unwrap();
        assert_eq!(using.trim(), "linux (= 7.2.13-1)");
        make(directory.path(), directory.path()).unwrap();
        assert!(first == fs::read(&package).unwrap(), "other bytes");
    }
}
