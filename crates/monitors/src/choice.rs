//! What a VM is made of: its kernel, the helper for its guest, and an image (umladmin, and the other programs that
//! make VMs).

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Config, Global};

/// Debian's kernel.
const DEBIAN: &str = "/usr/bin/linux.uml";
/// How names of our kernels begin and end; see docs/KERNELS.md.
const OURS: (&str, &str) = ("linux-", "-umlmon");
/// Where the installation has the program for guests, seen from the directory of this program.
const HELPER: &str = "../lib/umlmon/umlguest";

/// The configuration; the usual file may be missing, one that was asked for must be there.
///
/// # Errors
/// If it cannot be read, or has a fault.
pub fn configuration(path: &Path, asked_for: bool) -> config::Result<Config> {
    match path.exists() || asked_for {
        true => Config::load(path),
        false => Config::parse("", path),
    }
}

/// The kernel of this name or path; without one, the newest of ours in the shared directory, else Debian's.
///
/// # Errors
/// If there is none.
pub fn kernel(global: &Global, wanted: Option<&Path>) -> Result<PathBuf, String> {
    let kernels = global.shared.join("kernels");
    if let Some(wanted) = wanted {
        return found(&kernels, wanted);
    }
    let names = fs::read_dir(&kernels).into_iter().flatten().flatten();
    let mut ours: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(OURS.0) && name.ends_with(OURS.1))
        .collect();
    ours.sort_by(|one, other| by_version(one, other));
    match ours.last() {
        Some(name) => Ok(kernels.join(name)),
        None if Path::new(DEBIAN).exists() => Ok(DEBIAN.into()),
        None => Err(format!(
            "there is no kernel: neither one of ours in {}, nor {DEBIAN}; install one (apt install user-mode-linux, or \
             the package umlmon-kernel), or give one with -kernel",
            kernels.display()
        )),
    }
}

/// The image of this path, or of this name in the shared directory.
///
/// # Errors
/// If there is none.
pub fn image(global: &Global, wanted: &Path) -> Result<PathBuf, String> {
    found(&global.shared.join("images"), wanted)
}

/// A path as it is; a name in this directory.
fn found(directory: &Path, wanted: &Path) -> Result<PathBuf, String> {
    let is_name = wanted.components().count() == 1 && !wanted.is_absolute();
    let candidates = match is_name {
        true => vec![directory.join(wanted), wanted.to_owned()],
        false => vec![wanted.to_owned()],
    };
    let there = candidates.iter().find(|path| path.is_file());
    there.cloned().ok_or_else(|| {
        let places = match is_name {
            true => format!("neither in {} nor here", directory.display()),
            false => "there is no such file".into(),
        };
        format!("{}: {places}", wanted.display())
    })
}

/// The program for guests.
///
/// # Errors
/// If the installation has none.
pub fn helper() -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let directory = exe.parent().unwrap_or(Path::new("/"));
    let helper = directory.join(HELPER);
    match helper.is_file() {
        true => Ok(helper),
        false => Err(format!(
            "{} is missing, which runs commands in the guest: the installation is not complete (cargo xtask install)",
            helper.display()
        )),
    }
}

/// Numbers in names count as numbers: 6.12 is newer than 6.9.
fn by_version(one: &str, other: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        let parts = name.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).collect()
    };
    numbers(one).cmp(&numbers(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_our_kernels_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let kernels = directory.path().join("shared/kernels");
        fs::create_dir_all(&kernels).unwrap();
        let text = format!("[GLOBAL]\nvardir = {}\n", directory.path().display());
        let global = Config::parse(&text, "umlmon".as_ref()).unwrap().global;
        for name in [
            "linux-6.9.1-umlmon",
            "linux-6.12.2-umlmon",
            "linux-7.0-umlmon-smp",
            "linux",
        ] {
            fs::write(kernels.join(name), "").unwrap();
        }
        let newest = kernel(&global, None).unwrap();
        assert_eq!(newest, kernels.join("linux-6.12.2-umlmon"));
        let named = kernel(&global, Some("linux".as_ref())).unwrap();
        assert_eq!(named, kernels.join("linux"));
        let why = kernel(&global, Some("none".as_ref())).unwrap_err();
        assert!(why.starts_with("none: neither in "), "{why}");
    }
}
