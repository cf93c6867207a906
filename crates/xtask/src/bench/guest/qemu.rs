//! The peer: the guest under QEMU without KVM, which translates its programs and its kernel (cargo xtask bench guest).
//!
//! Its kernel is Debian's for virtual machines. The driver of its disk is a module, so it has the smallest initramfs
//! that can mount it: what Debian makes instead would take seconds.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use xtask::dialogue::Dialogue;

use super::super::installation::{PATIENCE, copy_image, directory};
use super::super::subject::Ending;
use super::image::Image;
use super::work::{self, Times};
use crate::apt::Apt;
use crate::steps::{heading, output};

/// It depends on the current kernel, of this release.
const SUITE: &str = "bookworm";
const KERNEL: &str = "linux-image-cloud-amd64";

/// Below `kernel/drivers`, in the order in which they need each other.
const MODULES: [&str; 6] = [
    "virtio/virtio_ring.ko",
    "virtio/virtio.ko",
    "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci_legacy_dev.ko",
    "virtio/virtio_pci.ko",
    "block/virtio_blk.ko",
];

/// The init of the initramfs.
const FIRST_INIT: &str = "#!/bin/busybox sh\n\
    for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do\n\
        /bin/busybox insmod /$name.ko\n\
    done\n\
    /bin/busybox mount -t devtmpfs none /dev\n\
    /bin/busybox mount -t ext4 /dev/vda /root\n\
    /bin/busybox umount /dev\n\
    exec /bin/busybox switch_root -c /dev/console /root /bench/init\n";

pub(super) struct Qemu {
    directory: PathBuf,
}

impl Qemu {
    /// Fetches its kernel into this directory, unless it is there.
    pub(super) fn in_directory(directory: &Path) -> anyhow::Result<Qemu> {
        let qemu = Qemu {
            directory: directory.to_owned(),
        };
        if qemu.initramfs().exists() {
            return Ok(qemu);
        }
        heading("A kernel for QEMU");
        let scratch = tempfile::tempdir().context("cannot make a directory")?;
        let apt = Apt::new(scratch.path().join("apt"), &[SUITE])?;
        let tree = scratch.path().join("tree");
        apt.unpack(&apt.dependency(KERNEL)?, SUITE, &tree)?;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let kernel = the_one_in(&tree.join("boot"), "vmlinuz-")?;
        fs::copy(kernel, qemu.kernel())?;
        let modules = the_one_in(&tree.join("lib/modules"), "")?.join("kernel/drivers");
        qemu.make_initramfs(&modules, &scratch.path().join("initramfs"))?;
        Ok(qemu)
    }

    fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    fn initramfs(&self) -> PathBuf {
        self.directory.join("initramfs")
    }

    fn make_initramfs(&self, modules: &Path, tree: &Path) -> anyhow::Result<()> {
        for name in ["bin", "dev", "root"] {
            fs::create_dir_all(tree.join(name))?;
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox"))
            .context("cannot copy /bin/busybox (Debian: apt-get install busybox-static)")?;
        symlink("busybox", tree.join("bin/sh"))?;
        for module in MODULES {
            let path = modules.join(module);
            let name = path.file_name().unwrap_or_default();
            fs::copy(&path, tree.join(name))
                .with_context(|| format!("Debian's kernel has no {module}"))?;
        }
        let init = tree.join("init");
        fs::write(&init, FIRST_INIT)?;
        fs::set_permissions(&init, Permissions::from_mode(0o755))?;
        let pack = "find . | busybox cpio -o -H newc > \"$0\"";
        let mut sh = Command::new("sh");
        sh.args(["-c", pack])
            .arg(self.initramfs())
            .current_dir(tree);
        output(&mut sh).map(drop)
    }

    /// Runs a copy of the guest, with as many processors.
    pub(super) fn run(&self, cpus: u32, image: &Image) -> anyhow::Result<Times> {
        let home = directory()?;
        let disk = home.path().join("root.dsk");
        copy_image(&image.disk(), &disk)?;
        let begun = Instant::now();
        let mut machine = self.start(cpus, &disk)?;
        let ends = machine.0.stdout.take().zip(machine.0.stdin.take());
        let (stdout, stdin) = ends.context("QEMU has no pipes")?;
        let mut console = Dialogue::new(stdout, stdin);
        let mut expect = |text: &str| console.expect(text, PATIENCE).map(drop);
        let mut times = work::of_boot(begun, &mut expect)?;
        times.extend(work::of_work(&mut expect)?);
        Ok(times)
    }

    fn start(&self, cpus: u32, disk: &Path) -> anyhow::Result<Ending> {
        let mut drive = std::ffi::OsString::from("format=raw,if=virtio,file=");
        drive.push(disk);
        Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "512", "-smp"])
            .arg(cpus.to_string())
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel())
            .arg("-initrd")
            .arg(self.initramfs())
            .args(["-append", "console=ttyS0 quiet"])
            .arg("-drive")
            .arg(drive)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map(Ending)
            .context("cannot run qemu-system-x86_64")
    }
}

/// The only entry of a directory whose name begins so.
fn the_one_in(directory: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("Debian's kernel has no {}", directory.display()))?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let found = paths.find(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(prefix)
    });
    found.with_context(|| format!("{} has no {prefix}*", directory.display()))
}
