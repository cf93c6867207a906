//! Who else on the host uses a disk, besides the VMs: loop devices, mounts, swap, and programs that have locked it
//! (umlmon, the monitor process, as root).
//!
//! Files are not opened for this, because they belong to the VM's user: `/proc` and `/sys` tell it.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use config::DiskName;
use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Mode, OFlags, StatxFlags, fstat, major, makedev, minor, openat,
    statx,
};
use rustix::io::Errno;

use crate::{Access, Claim, Disks, Identity};

/// A disk that cannot be used because somebody else has it.
#[derive(Debug, thiserror::Error)]
#[error("{disk} is {by}")]
pub struct InUse {
    disk: DiskName,
    /// Who, and how to end that.
    by: String,
}

impl Disks {
    /// Checks that nobody on the host uses a disk in a way that conflicts with a claim. What is only read may be read
    /// by others as well.
    ///
    /// # Errors
    /// [`InUse`].
    pub fn check_unused(&self, claim: &Claim) -> Result<(), InUse> {
        let path = self.jail_path(&claim.disk);
        let by = match claim.identity {
            Identity::New(_) => None,
            Identity::File { dev, ino } => {
                let file = Used { path, dev, ino };
                let by = file.loop_device(claim.access);
                let by = by.or_else(|| file.swap());
                by.or_else(|| file.lock(claim.access))
            }
            Identity::Device(number) => device(&path, number, claim.access),
        };
        match by {
            None => Ok(()),
            Some(by) => Err(InUse {
                disk: claim.disk.clone(),
                by,
            }),
        }
    }
}

/// A file in question.
struct Used {
    path: PathBuf,
    dev: u64,
    ino: u64,
}

impl Used {
    fn is_at(&self, path: impl AsRef<Path>) -> bool {
        let found = fs::metadata(path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == (self.dev, self.ino))
    }

    /// Such as one that has been mounted with `mount -o loop`.
    fn loop_device(&self, access: Access) -> Option<String> {
        let devices = fs::read_dir("/sys/block").ok()?.flatten();
        let mut taken = devices.filter_map(|device| {
            let backing = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
            let read_only = fs::read_to_string(device.path().join("ro")).ok()?;
            let only_read = access == Access::Read && read_only.trim() == "1";
            let name = device.file_name().to_string_lossy().into_owned();
            (!only_read && self.is_at(backing.trim_end_matches('\n'))).then_some(name)
        });
        let name = taken.next()?;
        let how = match mounted_at(|device, _| Some(device) == number_of(&name)) {
            Some(at) => format!("mounted on {at}; umount {at} ends that"),
            None => format!("losetup -d /dev/{name} ends that"),
        };
        Some(format!("in use on the host as /dev/{name} ({how})"))
    }

    fn swap(&self) -> Option<String> {
        swap(|file| self.is_at(file))
    }

    /// A lock for writing, or, if the disk is to be written, any lock. A bare User Mode Linux kernel locks its disks
    /// so.
    fn lock(&self, access: Access) -> Option<String> {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let mut found = locks.lines().filter_map(Lock::parse);
        let lock = found.find(|lock| {
            lock.ino == self.ino
                && (lock.writes || access == Access::Write)
                && (lock.dev == self.dev || Some(lock.dev) == self.superblock())
        })?;
        let program = fs::read_to_string(format!("/proc/{}/comm", lock.pid));
        Some(match program {
            Ok(name) => format!("locked by {}, pid {}", name.trim_end(), lock.pid),
            // A lock of an open file belongs to no process.
            Err(_) => format!(
                "locked by a program (fuser -v {} shows it)",
                self.path.display()
            ),
        })
    }

    /// The device of the file system as `/proc` names it; some file systems show another one in st_dev.
    fn superblock(&self) -> Option<Dev> {
        let found = statx(
            CWD,
            &self.path,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::MNT_ID,
        )
        .ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let id = found.stx_mnt_id.to_string();
        let line = mounts
            .lines()
            .find(|line| line.split(' ').next() == Some(&id))?;
        number(line.split(' ').nth(2)?, 10)
    }
}

/// A line of `/proc/locks`, see proc_locks(5).
struct Lock {
    writes: bool,
    pid: i32,
    dev: Dev,
    ino: u64,
}

impl Lock {
    /// None for one that waits, and for leases.
    fn parse(line: &str) -> Option<Lock> {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next()?;
        let access = words.nth(1)?;
        let pid = words.next()?.parse().ok()?;
        let (dev, ino) = words.next()?.rsplit_once(':')?;
        ["POSIX", "OFDLCK", "FLOCK"]
            .contains(&kind)
            .then_some(Lock {
                writes: access == "WRITE",
                pid,
                dev: number(dev, 16)?,
                ino: ino.parse().ok()?,
            })
    }
}

/// Opens a block device for itself alone. The name is in a directory of the VM's user: what has another number is not
/// opened, as opening some devices does something.
fn open_alone(path: &Path, number: Dev) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let named = openat(CWD, path, flags, Mode::empty())?;
    let found = fstat(&named)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice || found.st_rdev != number {
        return Ok(());
    }
    let again = format!("/proc/self/fd/{}", named.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, again, flags, Mode::empty()).map(drop)
}

/// Who has a block device for itself: the host's kernel knows, whatever it is used for.
fn device(path: &Path, number: Dev, access: Access) -> Option<String> {
    if access == Access::Read || open_alone(path, number) != Err(Errno::BUSY) {
        return None;
    }
    let directory = format!("/sys/dev/block/{}:{}", major(number), minor(number));
    // With its partitions.
    let mut parts = vec![number];
    let entries = || fs::read_dir(&directory).into_iter().flatten().flatten();
    parts.extend(entries().filter_map(|entry| number_in(&entry.path())));
    if let Some(at) = mounted_at(|device, source| {
        let source = fs::metadata(source).map_or(0, |found| found.rdev());
        parts.contains(&device) || parts.contains(&source)
    }) {
        return Some(format!(
            "mounted on {at} of the host (umount {at} ends that)"
        ));
    }
    let is_part = |file: &str| fs::metadata(file).is_ok_and(|it| parts.contains(&it.rdev()));
    swap(is_part).or_else(|| {
        Some(format!(
            "in use by the host (lsblk /dev/block/{}:{} shows for what)",
            major(number),
            minor(number)
        ))
    })
}

/// Where a file system is mounted whose device and source are those wanted.
fn mounted_at(wanted: impl Fn(Dev, &str) -> bool) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(2);
        let device = number(words.next()?, 10)?;
        let at = words.nth(1)?;
        wanted(device, system.split(' ').nth(1)?).then(|| at.to_owned())
    })
}

/// That the file or device which `is_it` recognises is swap, if it is.
fn swap(is_it: impl Fn(&str) -> bool) -> Option<String> {
    let swaps = fs::read_to_string("/proc/swaps").ok()?;
    let lines = swaps.lines().skip(1);
    let mut files = lines.filter_map(|line| line.split_whitespace().next());
    let file = files.find(|file| is_it(file))?;
    Some(format!("swap of the host (swapoff {file} ends that)"))
}

fn number_of(name: &str) -> Option<Dev> {
    number_in(&Path::new("/sys/block").join(name))
}

/// The number of the device that a directory of sysfs is about.
fn number_in(directory: &Path) -> Option<Dev> {
    number(fs::read_to_string(directory.join("dev")).ok()?.trim(), 10)
}

/// `254:0`
fn number(text: &str, radix: u32) -> Option<Dev> {
    let (major, minor) = text.split_once(':')?;
    let part = |text| u32::from_str_radix(text, radix).ok();
    Some(makedev(part(major)?, part(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_locks() {
        let lock = Lock::parse("4: POSIX  ADVISORY  WRITE 24548 fe:00:10043494 0 EOF").unwrap();
        assert_eq!((lock.writes, lock.pid, lock.ino), (true, 24548, 10_043_494));
        assert_eq!(lock.dev, makedev(254, 0));
        let lock = Lock::parse("5: OFDLCK ADVISORY  READ -1 00:37:3 0 EOF").unwrap();
        assert_eq!(
            (lock.writes, lock.pid, lock.dev),
            (false, -1, makedev(0, 0x37))
        );
        for other in [
            "",
            "6: -> POSIX  ADVISORY  WRITE 24548 fe:00:10043494 0 EOF",
            "7: LEASE  ACTIVE    WRITE 24548 fe:00:10043494 0 EOF",
            "8: POSIX  ADVISORY  WRITE x fe:00:10043494 0 EOF",
        ] {
            assert!(Lock::parse(other).is_none(), "{other}");
        }
    }

    /// A file without swap, loop device, or lock; then with locks of this process.
    #[test]
    fn a_lock_counts_if_it_conflicts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = file.as_file().metadata().unwrap();
        let used = Used {
            path: file.path().to_owned(),
            dev: found.dev(),
            ino: found.ino(),
        };
        let by = |access| {
            used.loop_device(access)
                .or_else(|| used.swap())
                .or_else(|| used.lock(access))
        };
        assert_eq!((by(Access::Read), by(Access::Write)), (None, None));
        file.as_file().lock_shared().unwrap();
        let pid = std::process::id();
        assert_eq!(by(Access::Read), None);
        assert!(
            by(Access::Write)
                .unwrap()
                .ends_with(&format!(", pid {pid}"))
        );
        file.as_file().unlock().unwrap();
        file.as_file().lock().unwrap();
        assert!(by(Access::Read).unwrap().starts_with("locked by "));
    }
}
