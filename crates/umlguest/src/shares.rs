//! Mounts the shared directories that the monitor has told in arguments of the kernel (umlguest, as process 1 of a
//! temporary VM and as helper).

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

/// The file system, and its number (linux/magic.h).
const KIND: &str = "hostfs";
const MAGIC: i64 = 0x00c0_ffee;

/// Mounts those that are not mounted. The error is that of the first one that cannot be; the others are.
pub(crate) fn mount_all() -> anyhow::Result<()> {
    let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut result = Ok(());
    for (number, path) in guest_line::shares_in(&arguments) {
        let mounted = mount_one(number, &path);
        let mounted =
            mounted.with_context(|| format!("cannot mount share {number} on {}", path.display()));
        result = result.and(mounted);
    }
    result
}

fn mount_one(number: u8, path: &Path) -> anyhow::Result<()> {
    if statfs(path).is_ok_and(|file_system| file_system.f_type == MAGIC) {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let directory = std::ffi::CString::new(format!("/{number}"))?;
    mount(KIND, path, KIND, flags, directory.as_c_str())?;
    Ok(())
}
