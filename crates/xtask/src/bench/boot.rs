//! How long a guest takes to boot under the monitor, against the same kernel without one (cargo xtask bench).
//!
//! The bare kernel gets the arguments that the monitor gave, a copy of the same disk, a fresh tmpfs for its memory, and
//! addresses that are not randomised. Both have booted when the guest's init has said its first line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use xtask::dialogue::Dialogue;
use xtask::guest::{self, Login};

use super::installation::{
    self, Console, Installation, PATIENCE, copy_image, directory, nothing_left,
};
use super::report::Figure;
use super::stats;
use super::subject::Subject;
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "boot",
    metrics: &["boot"],
    packages: &["user-mode-linux", "busybox-static", "e2fsprogs"],
    measure,
};

pub(super) const KERNEL: &str = "/usr/bin/linux.uml";
/// What the VM has beside con0.
pub(super) const LINES: &str = "ubd0 = /disks/root.dsk\n";
pub(super) const DISK: &str = "root.dsk";
/// The first line that the guest's init writes.
pub(super) const MARK: &str = "GUEST-READY";

const ROUNDS: usize = 15;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let image = Image::build()?;
    let pairs = installation::with(Path::new(KERNEL), LINES, |installation| {
        let mut console = installation.console()?;
        // The first boot warms the caches, and shows the arguments.
        boot(installation, &mut console, &image)?;
        let arguments = arguments_of(installation.pid("kernel_pid")?)?;
        installation.kill()?;
        let ours = || {
            let taken = boot(installation, &mut console, &image)?;
            installation.kill()?;
            Ok(taken)
        };
        stats::alternate(ROUNDS, ours, || bare(&arguments, &image))
    })?;
    Ok(vec![Figure::of_pairs("boot", "ms", &pairs)?])
}

/// The disk of the small guest, to be copied for every boot.
pub(super) struct Image {
    directory: TempDir,
}

impl Image {
    pub(super) fn build() -> anyhow::Result<Image> {
        let image = Image {
            directory: directory()?,
        };
        guest::build(&image.path(), guest::SIZE_MB, Login::Password)?;
        Ok(image)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join(DISK)
    }
}

/// Boots the VM, which goes on; returns how many milliseconds it took.
pub(super) fn boot(
    installation: &Installation,
    console: &mut Console,
    image: &Image,
) -> anyhow::Result<f64> {
    installation.put_disk(&image.path(), DISK)?;
    let begun = Instant::now();
    output(&mut installation.umlwatch(&["-start"]))?;
    console.expect(MARK)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// The arguments that the monitor gave the kernel.
fn arguments_of(kernel: u32) -> anyhow::Result<Vec<String>> {
    let path = format!("/proc/{kernel}/cmdline");
    let line = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let words = line.split_terminator('\0').skip(1);
    Ok(words.map(str::to_owned).collect())
}

/// The same arguments for a kernel outside of the jail: `home` has the disk, `home/tmp` is its `/tmp`, and con0 is a
/// pair of pipes. Nobody listens to its notices.
fn outside(arguments: &[String], home: &Path) -> Vec<String> {
    let home = home.display();
    let heard = arguments
        .iter()
        .filter(|word| !word.starts_with("mconsole="));
    heard
        .map(|word| {
            word.replace("=/tmp", &format!("={home}/tmp"))
                .replace("=/disks/", &format!("={home}/"))
                .replace("con0=fd:0", "con0=fd:0,fd:1")
        })
        .collect()
}

/// Boots a kernel without a monitor, and ends it; returns how many milliseconds the boot took.
fn bare(arguments: &[String], image: &Image) -> anyhow::Result<f64> {
    let home = directory()?;
    copy_image(&image.path(), &home.path().join(DISK))?;
    let tmp = home.path().join("tmp");
    fs::create_dir(&tmp).context("cannot make a directory")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &tmp, "tmpfs", flags, c"size=128m").context("cannot mount a tmpfs")?;
    let booted = boot_bare(&outside(arguments, home.path()), &tmp);
    // Detached, as a process of the guest may take a moment longer than its kernel.
    unmount(&tmp, UnmountFlags::DETACH).context("cannot unmount the tmpfs")?;
    nothing_left(home.path())?;
    booted
}

fn boot_bare(arguments: &[String], tmp: &Path) -> anyhow::Result<f64> {
    let begun = Instant::now();
    // Each executes the next, so they are one process. It has a session of its own as under the monitor: to the host's
    // scheduler, sessions are what shares the processor.
    let mut kernel = Command::new("/usr/bin/setsid")
        .args(["/usr/bin/setarch", "-R", KERNEL])
        .args(arguments)
        .env_clear()
        .env("TMPDIR", tmp)
        .env("HOME", tmp)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run setsid")?;
    let ends = kernel.stdout.take().zip(kernel.stdin.take());
    let (stdout, stdin) = ends.context("the kernel has no pipes")?;
    let mut console = Dialogue::new(stdout, stdin);
    let booted = console.expect(MARK, PATIENCE);
    let taken = begun.elapsed();
    // At SIGTERM it takes its children with it, and ends at once. Ours and not reaped, so the number is its own.
    let asked = kill_process(Pid::from_child(&kernel), Signal::TERM);
    kernel.wait().context("cannot wait for the kernel")?;
    booted.context("the bare kernel does not boot")?;
    asked.context("cannot end the bare kernel")?;
    Ok(taken.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_outside_of_the_jail_finds_its_files() {
        let inside = [
            "mem=64M",
            "uml_dir=/tmp",
            "mconsole=notify:/tmp/notify",
            "con0=fd:0",
            "ubd0d=/disks/root.dsk",
        ];
        assert_eq!(
            outside(&inside.map(str::to_owned), Path::new("/home")),
            [
                "mem=64M",
                "uml_dir=/home/tmp",
                "con0=fd:0,fd:1",
                "ubd0d=/home/root.dsk"
            ]
        );
    }
}
