//! Files of a VM's user, and file systems of the host that are full, or break (the end-to-end tests).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::Value;

use crate::{Vm, World, run};

const NOBODY: u32 = 65534;

/// A file system of 64 KB over a directory, as long as this lives.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Makes and mounts it.
    ///
    /// # Panics
    /// If that cannot be done, as with all of these.
    pub fn over(directory: &Path) -> SmallDisk {
        fs::create_dir_all(directory).unwrap();
        let options = c"size=64k,mode=0755";
        mount("tmpfs", directory, "tmpfs", MountFlags::empty(), options).unwrap();
        SmallDisk(directory.to_owned())
    }

    /// Takes all space there is, down to the last byte of the last block.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// Makes room again.
    pub fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If this fails, the world finds it.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// An ext4 file system in a file, over a directory, that becomes read-only by an error.
pub struct FailingDisk {
    image: PathBuf,
    directory: PathBuf,
    /// What it is mounted in. As on a host, what is unmounted there is unmounted for the jails, too.
    _host: SmallDisk,
}

impl FailingDisk {
    /// Makes and mounts it.
    pub fn new(world: &World) -> FailingDisk {
        let host = SmallDisk::over(&world.path().join("host"));
        mount_change(&host.0, MountPropagationFlags::SHARED).unwrap();
        let directory = host.0.join("logs");
        fs::create_dir(&directory).unwrap();
        let disk = FailingDisk {
            image: world.path().join("image"),
            directory,
            _host: host,
        };
        fs::File::create(&disk.image)
            .unwrap()
            .set_len(8 << 20)
            .unwrap();
        let mut mke2fs = Command::new("mke2fs");
        run(mke2fs
            .args(["-q", "-t", "ext4", "-e", "remount-ro"])
            .arg(&disk.image))
        .ok();
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Mounts it again, which repairs it if no process uses it any more.
    pub fn mount(&self) {
        let mut mount = Command::new("mount");
        run(mount
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.directory))
        .ok();
    }

    /// Takes it away from the directory, even if it is in use.
    pub fn unmount(&self) {
        unmount(&self.directory, UnmountFlags::DETACH).unwrap();
    }

    /// Has an error, after which nothing can be written.
    pub fn fail(&self) {
        let mut findmnt = Command::new("findmnt");
        let device = run(findmnt.args(["-no", "SOURCE"]).arg(&self.directory)).ok();
        let name = device.trim().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "test").unwrap();
    }
}

/// What `-disk-list -json` says of a disk.
///
/// # Panics
/// If it cannot be told.
#[track_caller]
pub fn listed(vm: &Vm<'_>, disk: &str) -> Value {
    let text = vm.umlwatch(&["-json", "-disk-list"]).ok();
    let list: Value = serde_json::from_str(&text).unwrap();
    let disks = list["disks"].as_array().unwrap();
    let found = disks.iter().find(|found| found["disk"] == disk);
    found.cloned().unwrap_or(Value::Null)
}

/// Makes a file that belongs to the VM's user.
///
/// # Panics
/// If that is not possible.
pub fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}
