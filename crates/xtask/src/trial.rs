//! `cargo xtask dist --try`: the packages in a clean Debian that is made for it and goes with it. The host is not
//! touched, but for mmdebstrap, which makes such a system.
//!
//! There are two trials, of two copies of that system. In the first one there is no init system: apt installs the
//! package, the walk-through of umlmon(7) is typed, dpkg exchanges the package for a newer one and back while 20 VMs
//! run, and apt removes and purges it (`debian/trial`). In the second one systemd is PID 1 and runs the units
//! (`debian/trial-systemd`). Each has mount, PID, IPC and UTS namespaces of its own, the second one also networks and a
//! control group.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::steps::{self, heading, output, repository};
use crate::{apt, setup};

/// What makes the system, and what has `unshare` and its like.
const PACKAGES: [&str; 2] = ["mmdebstrap", "util-linux"];

/// The release that the package is for.
const SUITE: &str = "bookworm";

/// What a trial prints when it has succeeded.
const DONE: &str = "TRIAL-DONE";

/// Where the second trial writes what it says, as its systemd has no terminal.
const LOG: &str = "root/trial.log";

/// How long a trial may take, in seconds.
const PATIENCE: &str = "1200";

/// The control group of the second trial, which outlasts its processes.
const GROUP: &str = "umlmon-trial";

pub(crate) fn run(packages: &[PathBuf]) -> anyhow::Result<()> {
    heading("A clean Debian");
    setup::install(&PACKAGES)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    // Other users than root have files in it.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let system = directory.path().join("debian.tar");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", SUITE])
        .arg(&system)
        .arg(apt::source(SUITE)?);
    steps::run(&mut make)?;

    heading("The packages in it, without an init system");
    let root = Root::unpack(&system, directory.path().join("plain"), packages)?;
    let mut trial = root.enter(&[], &["/opt/trial", "/opt"]);
    // It is shown at once, so what it said before it failed is there, too.
    let mut trial = trial.stdout(Stdio::piped()).spawn()?;
    let shown = show_all(trial.stdout.take());
    let status = trial.wait()?;
    ensure!(shown? && status.success(), "the trial failed ({status})");

    heading("The packages in it, with systemd");
    let root = Root::unpack(&system, directory.path().join("systemd"), packages)?;
    output(&mut root.enter(&[], &["/opt/trial-systemd", "prepare", "/opt"]))?;
    let ended = root
        .enter(&["--net"], &["/sbin/init"])
        .env("container", "trial")
        .output();
    remove_group()?;
    ended.context("cannot run systemd")?;
    let said = fs::read_to_string(root.0.join(LOG)).context("systemd did not get to the trial")?;
    ensure!(show_all(Some(said.as_bytes()))?, "the trial failed");
    // What the end of its host does to a VM that runs.
    let console = fs::read_to_string(root.0.join("var/lib/umlmon/vm1/log/con0"))?;
    ensure!(
        console.contains("reboot: System halted"),
        "the end of the host did not shut the VM down:\n{console}"
    );
    println!("the VM that was left running was shut down with its host");
    Ok(())
}

/// Shows what a trial says; whether it came to its end.
fn show_all(said: Option<impl Read>) -> anyhow::Result<bool> {
    let mut is_done = false;
    for line in said
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
    {
        let line = line.context("cannot hear the trial")?;
        println!("{line}");
        is_done |= line == DONE;
    }
    Ok(is_done)
}

/// A copy of the system.
struct Root(PathBuf);

impl Root {
    /// With the packages in `/opt`, each as `NAME.deb`.
    fn unpack(system: &Path, path: PathBuf, packages: &[PathBuf]) -> anyhow::Result<Root> {
        fs::create_dir(&path)?;
        output(
            Command::new("tar")
                .arg("-xf")
                .arg(system)
                .arg("-C")
                .arg(&path),
        )?;
        let put = |from: &Path, to: &str| {
            let copied = fs::copy(from, path.join(to));
            copied.with_context(|| format!("cannot copy {}", from.display()))
        };
        for package in packages {
            let name = package.file_name().unwrap_or_default().to_string_lossy();
            let name = name.split('_').next().unwrap_or_default();
            put(package, &format!("opt/{name}.deb"))?;
        }
        for script in ["trial", "trial-systemd"] {
            put(&script_of(script), &format!("opt/{script}"))?;
        }
        put(Path::new("/etc/resolv.conf"), "etc/resolv.conf")?;
        Ok(Root(path))
    }

    /// A command as PID 1 of this root; with its end everything in it ends.
    fn enter(&self, namespaces: &[&str], command: &[&str]) -> Command {
        let mut unshare = Command::new("timeout");
        unshare.args([
            PATIENCE,
            "unshare",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
        ]);
        unshare
            .args(namespaces)
            .arg(script_of("enter"))
            .arg(&self.0)
            .args(command);
        unshare
    }
}

fn script_of(name: &str) -> PathBuf {
    repository().join("crates/xtask/debian").join(name)
}

/// Removes the control group, and those that systemd has made in it, by way of a mount that ends with the command.
fn remove_group() -> anyhow::Result<()> {
    let script = format!(
        "mount -t cgroup2 cgroup2 /mnt && ! [ -d /mnt/{GROUP} ] || find /mnt/{GROUP} -depth -type d -delete"
    );
    let mut command = Command::new("unshare");
    output(command.args(["--mount", "sh", "-c", &script])).map(drop)
}
