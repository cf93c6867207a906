//! Virtual disks as the ubd driver sees them: is the file usable, and how is it passed (umlmon, the monitor process).
//!
//! The directories belong to the VM's user, so their files are only examined through descriptors that are held since
//! the start of the daemon, and never opened for reading or writing by root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use config::{DiskKind, DiskName};
use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat};

use crate::Identity;

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the two directories is not there.
    #[error("cannot open the disk directory {path}: {source}")]
    Directory {
        /// The directory, as the host sees it.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is no such file.
    #[error("{disk} does not exist (it would be {host})")]
    Missing {
        /// The disk's name in the jail.
        disk: DiskName,
        /// The same file as the host sees it.
        host: PathBuf,
    },
    /// A directory cannot be read.
    #[error("cannot list the disk directory {path}: {source}")]
    List {
        /// The directory, as the host sees it.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be examined.
    #[error("cannot look at {disk}: {source}")]
    Stat {
        /// The disk's name in the jail.
        disk: DiskName,
        /// The reason.
        source: io::Error,
    },
    /// A symlink, FIFO, directory, ...
    #[error("{disk} is not {expected}, but {found}")]
    Kind {
        /// The disk's name in the jail.
        disk: DiskName,
        /// The kind of file that the suffix stands for.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The VM's user may not read the file, or may not write a disk of its own.
    #[error(
        "{disk} is not {action} by {user} (owner {owner}, mode {mode:04o}); try: {remedy} {host}"
    )]
    Permission {
        /// The disk's name in the jail.
        disk: DiskName,
        /// "readable" or "writable".
        action: &'static str,
        /// The VM's user.
        user: String,
        /// The numeric owner of the file.
        owner: u32,
        /// The permission bits of the file.
        mode: u32,
        /// The command that gives the user the file, or its owner the permission.
        remedy: String,
        /// The file as the host sees it.
        host: PathBuf,
    },
}

/// The user as which the kernel will open the disks.
#[derive(Debug, Clone, Copy)]
pub struct Opener<'a> {
    /// For messages.
    pub name: &'a str,
    /// The user's number.
    pub uid: u32,
    /// The main group and all others.
    pub groups: &'a [u32],
}

/// What is known of a usable disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The identity of the disk, the same under every name.
    pub identity: Identity,
    /// In bytes; 0 for a block device.
    pub size: u64,
    /// Bytes that the file occupies.
    pub allocated: u64,
    /// The VM's user may only read it.
    pub read_only: bool,
}

/// The most names in a directory that are read by the monitor, which has other work to do.
const MAX_NAMES: usize = 65536;

/// The two directories that may hold disks.
#[derive(Debug)]
pub struct Disks {
    own: Directory,
    shared: Directory,
}

#[derive(Debug)]
struct Directory {
    fd: OwnedFd,
    host: PathBuf,
}

impl Directory {
    fn open(path: &Path) -> Result<Directory, Error> {
        let host = path.to_owned();
        match File::open(path) {
            Ok(file) => Ok(Directory {
                fd: file.into(),
                host,
            }),
            Err(source) => Err(Error::Directory { path: host, source }),
        }
    }
}

impl Disks {
    /// Opens `JAILDIR/disks` and `SHARED/disks`. Both parents belong to root.
    ///
    /// # Errors
    /// [`Error::Directory`].
    pub fn open(jaildir: &Path, shared: &Path) -> Result<Disks, Error> {
        let own = Directory::open(&jaildir.join("disks"))?;
        let shared = Directory::open(&shared.join("disks"))?;
        Ok(Disks { own, shared })
    }

    /// Checks a disk: it must be what its suffix says, and `opener` must be able to open it.
    ///
    /// A disk of the VM's own must be writable, as the driver would silently fall back to reading only. A shared one
    /// may be read-only.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn inspect(&self, disk: &DiskName, opener: &Opener<'_>) -> Result<Disk, Error> {
        let found = self.inspect_backing(disk, opener)?;
        if found.read_only && !disk.is_shared() {
            return Err(self.permission(disk, &self.stat(disk)?, opener, "writable"));
        }
        Ok(found)
    }

    /// The same for a disk that is only read: the backing file of a copy-on-write image.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn inspect_backing(&self, disk: &DiskName, opener: &Opener<'_>) -> Result<Disk, Error> {
        let stat = self.stat(disk)?;
        let granted = permissions(&stat, opener);
        if granted & 4 == 0 {
            return Err(self.permission(disk, &stat, opener, "readable"));
        }
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0);
        Ok(Disk {
            identity: Identity::of(&stat),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: allocated.saturating_mul(512),
            read_only: granted & 2 == 0,
        })
    }

    /// Whether `opener` could also write the disk.
    pub fn may_write(&self, disk: &DiskName, opener: &Opener<'_>) -> bool {
        let found = self.inspect_backing(disk, opener);
        found.is_ok_and(|found| !found.read_only)
    }

    /// Whether every user who can write the file `image` could write `disk`, too.
    pub fn writers_may_write(&self, image: &DiskName, disk: &DiskName) -> bool {
        let Ok(stat) = self.stat(image) else {
            return false;
        };
        let group = [stat.st_gid];
        let name = "";
        let nobody = u32::MAX;
        // The least of them.
        let (uid, groups) = match Mode::from_raw_mode(stat.st_mode) {
            mode if mode.contains(Mode::WOTH) => (nobody, &[][..]),
            mode if mode.contains(Mode::WGRP) => (nobody, &group[..]),
            _ => (stat.st_uid, &group[..]),
        };
        uid == 0 || self.may_write(disk, &Opener { name, uid, groups })
    }

    /// The identity of a disk, the same under every name.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Stat`], [`Error::Kind`].
    pub fn identity(&self, disk: &DiskName) -> Result<Identity, Error> {
        Ok(Identity::of(&self.stat(disk)?))
    }

    /// Where a disk is on the host.
    pub fn host_path(&self, disk: &DiskName) -> PathBuf {
        self.directory(disk).host.join(disk.file_name())
    }

    /// Whether there is a file in one of the directories for whose name `wanted` holds; also true if there are too many
    /// to check all. The VM's user may have made a million.
    ///
    /// # Errors
    /// [`Error::List`].
    pub fn any(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<bool, Error> {
        for directory in [&self.own, &self.shared] {
            let failed = |errno: rustix::io::Errno| Error::List {
                path: directory.host.clone(),
                source: errno.into(),
            };
            let entries = Dir::read_from(&directory.fd).map_err(failed)?;
            for (count, entry) in entries.enumerate() {
                if count >= MAX_NAMES || wanted(entry.map_err(failed)?.file_name().to_bytes()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn directory(&self, disk: &DiskName) -> &Directory {
        match disk.is_shared() {
            true => &self.shared,
            false => &self.own,
        }
    }

    /// Checks a file, which must be what its suffix says.
    fn stat(&self, disk: &DiskName) -> Result<Stat, Error> {
        let directory = &self.directory(disk).fd;
        let stat = rustix::fs::statat(directory, disk.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|errno| match errno {
            rustix::io::Errno::NOENT => Error::Missing {
                disk: disk.clone(),
                host: self.host_path(disk),
            },
            _ => Error::Stat {
                disk: disk.clone(),
                source: errno.into(),
            },
        })?;
        check_kind(disk, &stat)?;
        Ok(stat)
    }

    fn permission(
        &self,
        disk: &DiskName,
        stat: &Stat,
        opener: &Opener<'_>,
        action: &'static str,
    ) -> Error {
        Error::Permission {
            disk: disk.clone(),
            action,
            user: opener.name.to_owned(),
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            remedy: match stat.st_uid == opener.uid {
                true => "chmod u+rw".to_owned(),
                false => format!("chown {}", opener.name),
            },
            host: self.host_path(disk),
        }
    }
}

fn check_kind(disk: &DiskName, stat: &Stat) -> Result<(), Error> {
    let found = FileType::from_raw_mode(stat.st_mode);
    let (wanted, expected) = match disk.kind() {
        DiskKind::Dsk | DiskKind::Cow => (FileType::RegularFile, "a regular file"),
        DiskKind::Dev => (FileType::BlockDevice, "a block device"),
    };
    if found == wanted {
        return Ok(());
    }
    Err(Error::Kind {
        disk: disk.clone(),
        expected,
        found: name_of(found),
    })
}

pub(crate) fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "something unknown",
    }
}

/// The permission bits (4 read, 2 write, 1 execute) that the file grants to the user.
fn permissions(stat: &Stat, opener: &Opener<'_>) -> u32 {
    let mode = Mode::from_raw_mode(stat.st_mode).bits();
    if stat.st_uid == opener.uid {
        mode >> 6 & 7
    } else if opener.groups.contains(&stat.st_gid) {
        mode >> 3 & 7
    } else {
        mode & 7
    }
}

/// The kernel argument for disk `n` (arch/um/drivers/ubd_kern.c).
///
/// - `d` for flat images and devices: their content is never taken for a copy-on-write header, which the guest could
///   write to make the next start open any file.
/// - `s` for synchronous mode: without it no flush of the guest ever reaches the host's disk.
/// - `t` for an image whose blocks are all allocated: the guest's discards must not make it sparse.
/// - `r` for what may only be read.
///
/// A copy-on-write image is passed with the backing file that was checked and claimed for it, so that the kernel opens
/// no other one.
pub fn ubd_argument(
    n: u8,
    name: &DiskName,
    disk: &Disk,
    backing: Option<&DiskName>,
    sync: bool,
) -> String {
    let copy_on_write = name.kind() == DiskKind::Cow;
    let full = name.kind() == DiskKind::Dsk && disk.size > 0 && disk.allocated >= disk.size;
    let mut flags = String::new();
    for (flag, given) in [
        ('r', disk.read_only),
        ('s', sync),
        ('d', !copy_on_write),
        ('t', full),
    ] {
        if given {
            flags.push(flag);
        }
    }
    let backing = backing.map_or(String::new(), |backing| format!(",{backing}"));
    format!("ubd{n}{flags}={name}{backing}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn name(text: &str) -> DiskName {
        text.parse().unwrap()
    }

    /// Two directories with a flat image that every user may write.
    fn directories() -> (tempfile::TempDir, Disks) {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["jail/disks", "shared/disks"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let image = dir.path().join("jail/disks/root.dsk");
        File::create(&image).unwrap().set_len(1 << 20).unwrap();
        set_mode(&image, 0o666);
        let disks = Disks::open(&dir.path().join("jail"), &dir.path().join("shared")).unwrap();
        (dir, disks)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    const STRANGER: Opener<'static> = Opener {
        name: "nobody",
        uid: 65534,
        groups: &[65534],
    };

    #[test]
    fn a_flat_image_is_usable() {
        let (_dir, disks) = directories();
        let disk = disks.inspect(&name("/disks/root.dsk"), &STRANGER).unwrap();
        assert_eq!(
            (disk.size, disk.allocated, disk.read_only),
            (1 << 20, 0, false)
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        let (dir, disks) = directories();
        set_mode(&dir.path().join("jail/disks/root.dsk"), 0o644);
        let refused = disks
            .inspect(&name("/disks/root.dsk"), &STRANGER)
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("/disks/root.dsk is not writable by nobody (owner "),
            "{refused}"
        );
        assert!(refused.contains("try: chown nobody "), "{refused}");
        set_mode(&dir.path().join("jail/disks/root.dsk"), 0o400);
        let owner = Opener {
            uid: rustix::process::getuid().as_raw(),
            ..STRANGER
        };
        let refused = disks.inspect(&name("/disks/root.dsk"), &owner).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("try: chmod u+rw /"), "{refused}");
        let missing = disks
            .inspect(&name("/disks/other.dsk"), &STRANGER)
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("/disks/other.dsk does not exist"),
            "{missing}"
        );
    }

    #[test]
    fn a_shared_image_may_be_read_only() {
        let (dir, disks) = directories();
        let image = dir.path().join("shared/disks/base.dsk");
        File::create(&image).unwrap();
        set_mode(&image, 0o644);
        assert!(
            disks
                .inspect(&name("/shared/disks/base.dsk"), &STRANGER)
                .unwrap()
                .read_only
        );
    }

    #[test]
    fn what_the_least_writer_of_an_image_may_do_counts() {
        let (dir, disks) = directories();
        let shared = dir.path().join("shared/disks");
        let file = |name: &str, uid, gid, mode| {
            File::create(shared.join(name)).unwrap();
            set_mode(&shared.join(name), mode);
            // Only root can.
            std::os::unix::fs::chown(shared.join(name), Some(uid), Some(gid)).is_ok()
        };
        if !file("base.dsk", 1, 2, 0o664) {
            return;
        }
        for (uid, gid, mode, expected) in [
            (0, 0, 0o644, true),
            (0, 0, 0o664, false),
            (0, 2, 0o664, true),
            (1, 1, 0o644, true),
            (1, 1, 0o646, false),
            (3, 3, 0o644, false),
        ] {
            file("a.cow", uid, gid, mode);
            let may = disks.writers_may_write(
                &name("/shared/disks/a.cow"),
                &name("/shared/disks/base.dsk"),
            );
            assert_eq!(may, expected, "{uid} {gid} {mode:o}");
        }
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let (dir, disks) = directories();
        let planted = dir.path().join("jail/disks");
        std::os::unix::fs::symlink("/etc/passwd", planted.join("link.dsk")).unwrap();
        std::fs::create_dir(planted.join("dir.dsk")).unwrap();
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            planted.join("fifo.cow"),
            FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        for (file, found) in [
            ("link.dsk", "a symbolic link"),
            ("dir.dsk", "a directory"),
            ("fifo.cow", "a FIFO"),
        ] {
            let refused = disks
                .inspect(&name(&format!("/disks/{file}")), &STRANGER)
                .unwrap_err();
            assert!(
                refused.to_string().ends_with(&format!("but {found}")),
                "{refused}"
            );
        }
    }

    #[test]
    fn flags() {
        let sparse = Disk {
            identity: Identity::Device(0),
            size: 1 << 20,
            allocated: 0,
            read_only: false,
        };
        let full = Disk {
            allocated: 1 << 20,
            ..sparse.clone()
        };
        let argument = |file, disk: &Disk, sync| ubd_argument(0, &name(file), disk, None, sync);
        assert_eq!(
            argument("/disks/a.dsk", &sparse, true),
            "ubd0sd=/disks/a.dsk"
        );
        assert_eq!(
            argument("/disks/a.dsk", &full, false),
            "ubd0dt=/disks/a.dsk"
        );
        let base = name("/shared/disks/b.dsk");
        let pair = ubd_argument(1, &name("/disks/a.cow"), &sparse, Some(&base), true);
        assert_eq!(pair, "ubd1s=/disks/a.cow,/shared/disks/b.dsk");
        let read_only = Disk {
            read_only: true,
            ..sparse
        };
        assert_eq!(
            argument("/shared/disks/a.dsk", &read_only, true),
            "ubd0rsd=/shared/disks/a.dsk"
        );
    }

    /// The directories are opened by root before any file of the user is examined.
    #[test]
    fn a_missing_directory_is_named() {
        let error = Disks::open(Path::new("/nonexistent"), Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/disks"), "{error}");
    }
}
