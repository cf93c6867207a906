//! What is mounted in a container: the list of mounts, and paths that it cannot see or write (umlguest, inside a
//! container that is being made).

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::Context as _;
use guest_line::{Mount, Source};
use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use super::tree::{Kind, Tree, path_of};

/// Flags of a mount that are passed on. Those of propagation are not: nothing is propagated into a container, as
/// nothing is mounted in the guest later.
const FLAGS: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::SYNCHRONOUS)
    .union(MountFlags::DIRSYNC)
    .union(MountFlags::NOATIME)
    .union(MountFlags::NODIRATIME)
    .union(MountFlags::RELATIME)
    .union(MountFlags::STRICTATIME)
    .union(MountFlags::LAZYTIME);
/// `MS_REC`.
const RECURSIVE: u64 = 1 << 14;

/// Carries the list out.
///
/// # Errors
/// Names the mount that cannot be.
pub(super) fn mount_all(tree: &Tree, list: &[Mount]) -> anyhow::Result<()> {
    // Others are mounted on directories in them, which are made first.
    let mut later = Vec::new();
    for one in list {
        let flags = MountFlags::from_bits_retain(u32::try_from(one.flags & 0xffff_ffff)?) & FLAGS;
        let source = match &one.source {
            Source::Kernel(kind) => kind.clone(),
            Source::Bind(path) => String::from_utf8_lossy(path).into_owned(),
        };
        let target = String::from_utf8_lossy(&one.target);
        let cannot = || format!("cannot mount {source} on {target}");
        match &one.source {
            Source::Kernel(kind) => {
                let first = match kind == "tmpfs" {
                    true => flags - MountFlags::RDONLY,
                    false => flags,
                };
                new(tree, one, kind, first).with_context(cannot)?;
                if first != flags {
                    later.push((one, flags));
                }
            }
            Source::Bind(path) => bind(tree, one, path, flags).with_context(cannot)?,
        }
    }
    for (one, flags) in later {
        let there = tree.find(&one.target)?;
        mount_remount(path_of(&there), MountFlags::BIND | flags, "")?;
    }
    Ok(())
}

fn new(tree: &Tree, one: &Mount, kind: &str, flags: MountFlags) -> anyhow::Result<()> {
    let target = tree.make(&one.target, Kind::Directory)?;
    let options = CString::new(&one.options[..])?;
    let options = Some(options.as_c_str()).filter(|options| !options.is_empty());
    mount(kind, path_of(&target), kind, flags, options)?;
    Ok(())
}

fn bind(tree: &Tree, one: &Mount, source: &[u8], flags: MountFlags) -> anyhow::Result<()> {
    let source = OsStr::from_bytes(source);
    let kind = match fs::metadata(source)?.is_dir() {
        true => Kind::Directory,
        false => Kind::File,
    };
    let target = tree.make(&one.target, kind)?;
    match one.flags & RECURSIVE {
        0 => mount_bind(source, path_of(&target))?,
        _ => mount_bind_recursive(source, path_of(&target))?,
    }
    if !flags.is_empty() {
        // What was opened before is below it.
        let there = tree.find(&one.target)?;
        mount_remount(path_of(&there), MountFlags::BIND | flags, "")?;
    }
    Ok(())
}

/// Hides paths: there is an empty directory or file instead. What is not there is passed over.
pub(super) fn mask(tree: &Tree, paths: &[Vec<u8>]) -> anyhow::Result<()> {
    for path in paths {
        let cannot = || format!("cannot hide {}", String::from_utf8_lossy(path));
        let Some(there) = present(tree, path).with_context(cannot)? else {
            continue;
        };
        let at = path_of(&there);
        let hidden = match fs::metadata(&at).with_context(cannot)?.is_dir() {
            true => mount("tmpfs", at, "tmpfs", MountFlags::RDONLY, Some(c"size=0k")),
            false => mount_bind("/dev/null", at),
        };
        hidden.with_context(cannot)?;
    }
    Ok(())
}

/// Makes paths read-only. What is not there is passed over.
pub(super) fn protect(tree: &Tree, paths: &[Vec<u8>]) -> anyhow::Result<()> {
    for path in paths {
        let cannot = || format!("cannot make {} read-only", String::from_utf8_lossy(path));
        let Some(there) = present(tree, path).with_context(cannot)? else {
            continue;
        };
        mount_bind_recursive(path_of(&there), path_of(&there)).with_context(cannot)?;
        let there = tree.find(path).with_context(cannot)?;
        read_only(&there).with_context(cannot)?;
    }
    Ok(())
}

/// Makes a mount read-only, and leaves its other flags.
pub(super) fn read_only(there: &OwnedFd) -> rustix::io::Result<()> {
    let has = fstatvfs(there)?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
    ];
    let kept = kept.into_iter().filter(|(flag, _)| has.contains(*flag));
    let flags = kept.fold(MountFlags::BIND | MountFlags::RDONLY, |all, (_, flag)| {
        all | flag
    });
    mount_remount(path_of(there), flags, "")
}

fn present(tree: &Tree, path: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    match tree.find(path) {
        Ok(there) => Ok(Some(there)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}
