//! The disks of the guest of `kernelcheck`, made without mounting anything (umladmin).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use jail::{Needs, Program};
use monitors::cannot;

use super::guest::INIT;

/// Makes the root file system: this program as init, with its libraries.
pub(crate) fn make_root(tree: &Path, image: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut size = plant(&program, tree, Path::new(INIT))?;
    // This program is the administrator's; there is nobody to be careful about.
    let libraries = Program::on_host(&program)
        .and_then(|program| jail::libraries(&program, &Needs::read))
        .map_err(|error| error.to_string())?;
    for (library, target) in libraries {
        size += plant(&library, tree, &target)?;
    }
    for directory in ["dev", "proc", "mnt"] {
        let path = tree.join(directory);
        fs::create_dir_all(&path).map_err(|error| cannot("make", &path, &error))?;
    }
    let megabytes = (size >> 20) * 5 / 4 + 8;
    // Essential on Debian, but not in the PATH of every user.
    let made = Command::new("mke2fs")
        .env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
        .args([tree, image])
        .arg(format!("{megabytes}M"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("cannot run mke2fs, which makes the disk (package e2fsprogs): {error}")
        })?;
    match made.status.success() {
        true => Ok(()),
        false => Err(format!(
            "mke2fs: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        )),
    }
}

/// Copies a file into the tree; its size in bytes.
fn plant(from: &Path, tree: &Path, to: &Path) -> Result<u64, String> {
    let to = tree.join(to.strip_prefix("/").unwrap_or(to));
    let copied = to
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::copy(from, &to))
        .and_then(|size| {
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            Ok(size)
        });
    copied.map_err(|error| cannot("copy", from, &error))
}
