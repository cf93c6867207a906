//! How long a command in a temporary VM takes, against a bare kernel and a container (cargo xtask bench).
//!
//! The bare kernel has the host's root directory as its own, so it needs nothing to be made. Podman runs a container of
//! the same busybox, which was imported before.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use tempfile::TempDir;

use super::guest::settings;
use super::installation::{directory, nothing_left};
use super::report::Figure;
use super::stats;
use super::subject::{Subject, run_time};
use crate::programs;
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "run",
    metrics: &["run", "run-podman"],
    packages: &["user-mode-linux", "busybox-static", "podman", "runc"],
    measure,
};

const ROUNDS: usize = 15;
/// Debian's, which is used if there is none of ours.
const DEBIAN: &str = "/usr/bin/linux.uml";
/// The image of the container.
const IMAGE: &str = "localhost/umlmon-bench-busybox";

fn measure() -> anyhow::Result<Vec<Figure>> {
    let site = Site::new()?;
    println!("the kernel is {}", site.kernel.display());
    let bare = stats::alternate(ROUNDS, || site.ours(), || site.bare())?;
    let container = Container::import(&site)?;
    let podman = stats::alternate(ROUNDS, || site.ours(), || container.run())?;
    nothing_left(site.directory.path())?;
    Ok(vec![
        Figure::of_pairs("run", "ms", &bare)?,
        Figure::of_pairs("run-podman", "ms", &podman)?,
    ])
}

/// The programs as they are installed.
struct Site {
    directory: TempDir,
    kernel: PathBuf,
}

impl Site {
    fn new() -> anyhow::Result<Site> {
        let directory = directory()?;
        programs::copy_released(directory.path())?;
        Ok(Site {
            directory,
            kernel: settings::our_kernel().unwrap_or_else(|_| DEBIAN.into()),
        })
    }

    fn ours(&self) -> anyhow::Result<f64> {
        let mut command = Command::new(self.directory.path().join("sbin/umladmin"));
        command.env("TMPDIR", self.directory.path());
        command
            .arg("-kernel")
            .arg(&self.kernel)
            .args(["run", "true"]);
        run_time(&mut command)
    }

    /// As a script would do it: the guest's first process ends, at which its kernel panics.
    fn bare(&self) -> anyhow::Result<f64> {
        let mut command = Command::new("/usr/bin/setarch");
        command.arg("-R").arg(&self.kernel).args([
            "mem=512M",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "con=null",
            "con0=null,fd:1",
            "quiet",
            "init=/bin/true",
        ]);
        command
            .env("TMPDIR", "/dev/shm")
            .env("HOME", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let begun = Instant::now();
        let ended = command.status();
        let taken = begun.elapsed();
        // It ends by a signal of its own.
        ended.context("cannot run the bare kernel")?;
        Ok(taken.as_secs_f64() * 1e3)
    }
}

/// An image of podman, removed at the end.
struct Container;

impl Container {
    fn import(site: &Site) -> anyhow::Result<Container> {
        let root = site.directory.path().join("root");
        let bin = root.join("bin");
        fs::create_dir_all(&bin)?;
        fs::copy("/bin/busybox", bin.join("busybox")).context("cannot copy busybox")?;
        std::os::unix::fs::symlink("busybox", bin.join("true"))?;
        let tar = site.directory.path().join("root.tar");
        output(
            Command::new("tar")
                .arg("-C")
                .arg(&root)
                .arg("-cf")
                .arg(&tar)
                .arg("."),
        )?;
        output(Command::new("podman").arg("import").arg(&tar).arg(IMAGE))?;
        let container = Container;
        // The first one warms the caches.
        container.run()?;
        Ok(container)
    }

    fn run(&self) -> anyhow::Result<f64> {
        let mut podman = Command::new("podman");
        // crun takes no host with both versions of control groups, and may not raise limits in a container for builds.
        podman.args(["--runtime", "runc", "run", "--rm", "--network", "none"]);
        for limit in ["nofile=1024:1024", "nproc=1024:1024"] {
            podman.args(["--ulimit", limit]);
        }
        podman.args([IMAGE, "/bin/true"]);
        run_time(&mut podman)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What is left of it is in podman's own directory.
        let _ = output(Command::new("podman").args(["rmi", "--force", IMAGE]));
    }
}
