//! Images of the root directories of containers: made once for all containers that begin with the same files (the
//! server of a pod).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use monitors::furnish::{MAKE_EXT4, WITHOUT_JOURNAL};
use sha2::{Digest as _, Sha256};

/// How large a file system appears to a container, in bytes. The image has holes.
const SIZE: u64 = 8 << 30;

/// The image of this tree in `directory`; it is made if there is none yet.
pub(crate) fn of(tree: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let name = identity(tree).with_context(|| format!("cannot look at {}", tree.display()))?;
    let image = directory.join(format!("{name}.img"));
    if image.exists() {
        return Ok(image);
    }
    fs::create_dir_all(directory)
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o711)))
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let draft = tempfile::Builder::new()
        .prefix(".draft-")
        .tempfile_in(directory)
        .with_context(|| format!("cannot write in {}", directory.display()))?;
    make(tree, draft.path())?;
    fs::set_permissions(draft.path(), fs::Permissions::from_mode(0o644))?;
    // Another server may have been sooner; one is as good as the other.
    draft
        .persist(&image)
        .with_context(|| format!("cannot write {}", image.display()))?;
    Ok(image)
}

/// Makes a file system of a tree.
fn make(tree: &Path, image: &Path) -> anyhow::Result<()> {
    let [program, words @ ..] = MAKE_EXT4;
    let made = Command::new(program)
        .args(words)
        .args(WITHOUT_JOURNAL)
        .arg("-d")
        .args([tree, image])
        .arg(format!("{}M", SIZE >> 20))
        .stdin(Stdio::null())
        .output()
        .context("cannot execute mke2fs (package e2fsprogs)")?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        bail!(
            "cannot make an image of the root directory: mke2fs: {}",
            said.trim()
        );
    }
    Ok(())
}

/// What tells this tree from others without reading its files: the name, kind, owner and mode of each, and of a file
/// with content its inode, size and times. The layers below two containers of an image are the same files; a file that
/// was written since has another time of change, which programs cannot set.
fn identity(tree: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        let mut entries = fs::read_dir(&directory)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, about) = (entry.path(), entry.metadata()?);
            let name = path.strip_prefix(tree).unwrap_or(&path);
            hash.update(name.as_os_str().as_bytes());
            hash.update([0]);
            for number in [about.mode(), about.uid(), about.gid()] {
                hash.update(number.to_le_bytes());
            }
            let kind = about.file_type();
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_symlink() {
                hash.update(fs::read_link(&path)?.as_os_str().as_bytes());
                hash.update([0]);
            } else if kind.is_block_device() || kind.is_char_device() {
                hash.update(about.rdev().to_le_bytes());
            } else if about.len() > 0 {
                hash.update(about.ino().to_le_bytes());
                hash.update(about.len().to_le_bytes());
                for time in [
                    about.mtime(),
                    about.mtime_nsec(),
                    about.ctime(),
                    about.ctime_nsec(),
                ] {
                    hash.update(time.to_le_bytes());
                }
            }
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_known_by_its_files() {
        let tree = tempfile::tempdir().unwrap();
        let of = || identity(tree.path()).unwrap();
        fs::create_dir(tree.path().join("etc")).unwrap();
        fs::write(tree.path().join("etc/a"), "1").unwrap();
        // A directory or an empty file that is made anew is the same.
        fs::write(tree.path().join("empty"), "").unwrap();
        let first = of();
        fs::remove_file(tree.path().join("empty")).unwrap();
        fs::write(tree.path().join("empty"), "").unwrap();
        assert_eq!(of(), first);
        fs::write(tree.path().join("etc/a"), "2").unwrap();
        let second = of();
        assert_ne!(second, first);
        fs::set_permissions(tree.path().join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(of(), second);
    }
}
