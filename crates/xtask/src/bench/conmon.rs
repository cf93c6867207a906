//! conmon as a peer: the process that keeps the console of a container, with a container that is only `sleep`
//! (cargo xtask bench).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::installation::directory;

/// Stands in for runc: `create ... --pid-file FILE ID` makes a process, and writes its number into FILE.
const RUNTIME: &str = "\
#!/bin/sh
while [ $# -gt 0 ]; do
    if [ \"$1\" = --pid-file ]; then
        sleep 1000 &
        echo $! > \"$2\"
    fi
    shift
done
";

/// A conmon, and what it keeps.
pub(super) struct Conmon {
    child: Child,
    container: Pid,
    _directory: TempDir,
}

impl Conmon {
    /// Starts both, and waits until conmon has taken the container over.
    pub(super) fn start() -> anyhow::Result<Conmon> {
        let directory = directory()?;
        let path = |name: &str| directory.path().join(name);
        fs::write(path("runtime"), RUNTIME)?;
        fs::set_permissions(path("runtime"), Permissions::from_mode(0o755))?;
        fs::write(path("config.json"), "{}")?;
        let log = format!("k8s-file:{}", path("log").display());
        let mut child = Command::new("conmon")
            .args([
                "--sync",
                "--full-attach",
                "-c",
                "bench",
                "-u",
                "bench",
                "-l",
                &log,
            ])
            .arg("-r")
            .arg(path("runtime"))
            .arg("-b")
            .arg(directory.path())
            .arg("-p")
            .arg(path("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run conmon")?;
        match adopted(&path("pid"), child.id()) {
            Ok(container) => Ok(Conmon {
                child,
                container,
                _directory: directory,
            }),
            Err(error) => {
                // Ours and not reaped.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the container; returns how many milliseconds later conmon has ended, too.
    pub(super) fn kill(mut self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        kill_process(self.container, Signal::KILL).context("cannot kill the container")?;
        let status = self.child.wait()?;
        let taken = begun.elapsed();
        ensure!(status.code().is_some(), "conmon: {status}");
        Ok(taken.as_secs_f64() * 1e3)
    }
}

/// Waits until conmon, which reaps orphans, is the parent of the container; returns the number of the container.
fn adopted(file: &Path, conmon: u32) -> anyhow::Result<Pid> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let children = format!("/proc/{conmon}/task/{conmon}/children");
    while Instant::now() < deadline {
        let number = fs::read_to_string(file).unwrap_or_default();
        let number = number.trim();
        let children = fs::read_to_string(&children).context("conmon has ended")?;
        if !number.is_empty() && children.trim() == number {
            return Pid::from_raw(number.parse()?).context("the container has no number");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("conmon does not take the container over")
}
