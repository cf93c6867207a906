//! How long it takes until users know that a kernel was killed, against conmon (cargo xtask bench).

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::conmon::Conmon;
use super::installation::{self, Console, Installation};
use super::report::Figure;
use super::stats;
use super::subject::{Subject, program};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "death",
    metrics: &["death"],
    packages: &["conmon"],
    measure,
};

const ROUNDS: usize = 50;

/// Ample for a call to reach the monitor. Nothing tells that it has; if it had not, the figure would be too large.
const UNDER_WAY: Duration = Duration::from_millis(20);

fn measure() -> anyhow::Result<Vec<Figure>> {
    let lines = "con1 = pty\n";
    let pairs = installation::with(&program("fake_linux"), lines, |installation| {
        let mut console = installation.console()?;
        let peer = || {
            let conmon = Conmon::start()?;
            std::thread::sleep(UNDER_WAY);
            conmon.kill()
        };
        stats::alternate(ROUNDS, || ours(installation, &mut console), peer)
    })?;
    Ok(vec![Figure::of_pairs("death", "ms", &pairs)?])
}

fn ours(installation: &Installation, console: &mut Console) -> anyhow::Result<f64> {
    output(&mut installation.umlwatch(&["-start"]))?;
    console.expect("GUEST-READY")?;
    let kernel = installation.pid("kernel_pid")?;
    let kernel = Pid::from_raw(kernel.try_into()?).context("there is no kernel")?;
    let mut umlwatch = installation
        .umlwatch(&["-tail", "con0,1", "-wait", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run umlwatch")?;
    let mut tail = BufReader::new(umlwatch.stdout.take().context("umlwatch has no output")?);
    tail.read_line(&mut String::new())?;
    std::thread::sleep(UNDER_WAY);
    let begun = Instant::now();
    kill_process(kernel, Signal::KILL).context("cannot kill the kernel")?;
    let status = umlwatch.wait()?;
    let taken = begun.elapsed();
    ensure!(status.success(), "umlwatch -wait: {status}");
    Ok(taken.as_secs_f64() * 1e3)
}
