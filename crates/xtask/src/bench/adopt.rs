//! How long it takes until another monitor has adopted a VM that runs, and how long those who watch a console see
//! nothing meanwhile (cargo xtask bench). No manager of virtual machines that is in Debian does that with User Mode
//! Linux.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use super::conserver::signal;
use super::installation::{self, Installation, PATIENCE, VM};
use super::line::Line;
use super::report::Figure;
use super::stats::quantile;
use super::subject::{Subject, program, run_time};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "adopt",
    metrics: &["adopt-start", "adopt-upgrade", "adopt-console"],
    packages: &[],
    measure,
};

const ROUNDS: usize = 100;
/// What the monitor says in its log.
const ADOPTED: &str = "adopted the running VM";
/// How often that is looked for.
const AGAIN: Duration = Duration::from_micros(200);
/// When a console has been shown for so long after that, its clients are connected again.
const CALM: Duration = Duration::from_millis(200);

fn measure() -> anyhow::Result<Vec<Figure>> {
    let lines = "con1 = pty:con1\nkernelarg = fake=tick:con1\n";
    installation::with(&program("fake_linux"), lines, |installation| {
        output(&mut installation.umlwatch(&["-start"]))?;
        let record = installation.path().join("var").join(VM).join("run");
        await_that("the VM is recorded", || Ok(record.exists()))?;
        let mut line = Line::with_pipes(&mut installation.umlwatch(&["-watch", "con1"]))?;
        line.expect("tick\n")?;
        let console = rounds(|| pause(installation, &mut line))?;
        drop(line);
        let upgrades = rounds(|| upgrade(installation))?;
        let starts = rounds(|| start(installation))?;
        installation.kill()?;
        Ok(vec![
            Figure::alone("adopt-start", "ms", starts),
            Figure::alone("adopt-upgrade", "ms", upgrades),
            Figure::alone("adopt-console", "ms", console),
        ])
    })
}

/// The 99th percentile.
fn rounds(mut round: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let taken: Vec<f64> = (0..ROUNDS)
        .map(|_| round())
        .collect::<anyhow::Result<_>>()?;
    quantile(&taken, 0.99)
}

fn await_that(what: &str, is_so: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "it does not come: {what}");
        std::thread::sleep(AGAIN);
    }
    Ok(())
}

/// How often the VM was adopted.
fn adoptions(installation: &Installation) -> anyhow::Result<usize> {
    let log = installation.log_of(VM, "monitor");
    let text = fs::read_to_string(&log).with_context(|| format!("no {}", log.display()))?;
    Ok(text.matches(ADOPTED).count())
}

/// From the fork of the next monitor until that says that it is ready. The former one was killed.
fn start(installation: &Installation) -> anyhow::Result<f64> {
    let (monitor, before) = (installation.monitor()?, adoptions(installation)?);
    signal(monitor, Signal::KILL)?;
    let process = format!("/proc/{monitor}/exe");
    await_that("the end of the monitor", || {
        Ok(fs::read_link(&process).is_err())
    })?;
    let taken = run_time(&mut installation.command("umlmon", &[VM]))?;
    ensure!(adoptions(installation)? == before + 1, "it adopts nothing");
    Ok(taken)
}

/// From SIGUSR2 until the next program has adopted the VM.
fn upgrade(installation: &Installation) -> anyhow::Result<f64> {
    let (monitor, before) = (installation.monitor()?, adoptions(installation)?);
    let begun = Instant::now();
    signal(monitor, Signal::USR2)?;
    await_that("the next program", || Ok(adoptions(installation)? > before))?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// The longest pause in what a client is shown of a console, from SIGUSR2 until it is shown it again.
fn pause(installation: &Installation, line: &mut Line) -> anyhow::Result<f64> {
    let (monitor, before) = (installation.monitor()?, adoptions(installation)?);
    let (mut longest, mut end) = (Duration::ZERO, None);
    line.skip()?;
    let mut last = Instant::now();
    signal(monitor, Signal::USR2)?;
    let deadline = last + PATIENCE;
    while end.is_none_or(|end| last < end) {
        ensure!(last < deadline, "the next program does not come");
        line.skip()?;
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if end.is_none() && adoptions(installation)? > before {
            end = Some(last + CALM);
        }
    }
    Ok(longest.as_secs_f64() * 1e3)
}
