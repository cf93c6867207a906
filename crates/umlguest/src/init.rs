//! The first process of a guest that has no other one: it mounts what programs expect, takes the disk as the root
//! directory if there is one, and then waits for processes (umlguest, as process 1 of a temporary VM).
//!
//! The helper itself is another process, so that it need not know of processes that are not its own.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use anyhow::Context as _;
use nix::sys::wait::wait;
use nix::unistd::{chroot, sethostname};
use rustix::fs::{Access, access};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::system::{RebootCommand, reboot};

use crate::network;
use crate::shares;

/// The path of this program in an initramfs.
const INIT: &str = "/init";
/// The program itself. It is in the initramfs, which the guest does not see any more.
const SELF: &str = "/proc/self/exe";
/// The disk, if the VM has one; and where it is mounted before it is the root.
const DISK: &str = "/dev/ubda";
const ROOT: &str = "/root";
/// The file systems that a root disk may have.
const KINDS: [&str; 6] = ["ext4", "xfs", "btrfs", "f2fs", "squashfs", "erofs"];
/// The name of the guest.
const NAME: &str = "uml";

/// Whether this process is the first one of a guest.
pub(crate) fn is_init() -> bool {
    std::process::id() == 1 && std::env::args_os().next().is_some_and(|name| name == INIT)
}

/// Lives as long as the guest.
pub(crate) fn main() -> ! {
    if let Err(error) = live() {
        eprintln!("umlguest: {error:#}");
    }
    power_off()
}

/// Until the helper ends.
fn live() -> anyhow::Result<()> {
    // The kernel has done that already if it can, but not for an initramfs.
    let _ = mount("dev", "/dev", "devtmpfs", MountFlags::empty(), None);
    if Path::new(DISK).exists() {
        enter_disk()?;
    }
    provide();
    // A command without its files is not to begin.
    shares::mount_all()?;
    let helper = Command::new(SELF).spawn();
    let helper = helper.context("cannot start the helper")?.id();
    // Orphans of commands, too.
    loop {
        let ended = wait().context("cannot wait for processes")?;
        if ended.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok()) == Some(helper) {
            return Ok(());
        }
    }
}

/// Makes the file system of the disk the root directory.
fn enter_disk() -> anyhow::Result<()> {
    fs::create_dir_all(ROOT)?;
    mount_any(DISK, ROOT.as_ref())?;
    let dev = Path::new(ROOT).join("dev");
    // It may be there, and a root that cannot be written may do without it.
    let _ = fs::create_dir(&dev);
    let _ = mount_move("/dev", &dev);
    std::env::set_current_dir(ROOT)?;
    mount_move(".", "/").context("cannot move the root directory")?;
    chroot(".").context("cannot change the root directory")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Mounts a disk, whichever file system it has.
pub(crate) fn mount_any(disk: &str, at: &Path) -> anyhow::Result<()> {
    let try_all = |flags| {
        let mut kinds = KINDS.iter();
        kinds.any(|kind| mount(disk, at, *kind, flags, None).is_ok())
    };
    let mounted = try_all(MountFlags::empty()) || try_all(MountFlags::RDONLY);
    anyhow::ensure!(mounted, "{disk} has no file system that this kernel knows");
    Ok(())
}

/// What programs expect. Where something of it fails, those that need it say so.
fn provide() {
    let none = MountFlags::empty();
    let secure = MountFlags::NOSUID | MountFlags::NODEV;
    let closed = secure | MountFlags::NOEXEC;
    for (kind, at, flags, options) in [
        ("proc", "/proc", closed, None),
        ("sysfs", "/sys", closed, None),
        (
            "devpts",
            "/dev/pts",
            none,
            Some(c"mode=620,gid=5,ptmxmode=666"),
        ),
        ("tmpfs", "/dev/shm", secure, Some(c"mode=1777")),
        ("tmpfs", "/run", secure, Some(c"mode=755")),
    ] {
        let _ = fs::create_dir_all(at);
        let _ = mount(kind, at, kind, flags, options);
    }
    if access("/tmp", Access::WRITE_OK).is_err() {
        let _ = fs::create_dir_all("/tmp");
        let _ = mount("tmpfs", "/tmp", "tmpfs", secure, Some(c"mode=1777"));
    }
    for (name, to) in [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ] {
        let _ = symlink(format!("/proc/self/fd{to}"), Path::new("/dev").join(name));
    }
    let _ = sethostname(NAME);
    if let Err(error) = network::set_up() {
        eprintln!("umlguest: the network: {error:#}");
    }
}

/// Powers the guest off: by the program for that, whose process is to be waited for, or by a call if process 1 is of
/// this program.
pub(crate) fn end_guest() -> io::Result<Option<Child>> {
    let id = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if id("/proc/1/exe").ok() == id(SELF).ok() {
        power_off();
    }
    Command::new("poweroff").spawn().map(Some)
}

/// Writes what is not written yet, and ends the guest.
fn power_off() -> ! {
    rustix::fs::sync();
    // Nothing else can be done.
    let _ = reboot(RebootCommand::PowerOff);
    loop {
        thread::park();
    }
}
