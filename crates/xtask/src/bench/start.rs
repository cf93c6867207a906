//! How long it takes from the user's command until the kernel executes, against bubblewrap (cargo xtask bench).
//!
//! Both start the same program, the fake kernel of the end-to-end tests, which says what time it was when it began; so
//! its loading counts on both sides. Ours is the whole of `umlwatch -start`, whose process has to be made as well.

use std::process::Command;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

use super::installation::{self, Console, Installation};
use super::report::Figure;
use super::stats::{self, median, quantile};
use super::subject::{Subject, program};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "start",
    metrics: &["start-p50", "start-p99"],
    packages: &["bubblewrap"],
    measure,
};

const ROUNDS: usize = 200;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let lines = "con1 = pty\nkernelarg = fake=clock\n";
    let pairs = installation::with(&program("fake_linux"), lines, |installation| {
        let mut console = installation.console()?;
        stats::alternate(ROUNDS, || ours(installation, &mut console), bubblewrap)
    })?;
    let (slowest, peer) = (quantile(&pairs.ours, 0.99)?, quantile(&pairs.peer, 0.99)?);
    Ok(vec![
        Figure {
            ratio: Some(pairs.ratio()?),
            ..Figure::of_two(
                "start-p50",
                "ms",
                median(&pairs.ours)?,
                median(&pairs.peer)?,
            )
        },
        Figure::of_two("start-p99", "ms", slowest, peer),
    ])
}

fn ours(installation: &Installation, console: &mut Console) -> anyhow::Result<f64> {
    let before = now();
    output(&mut installation.umlwatch(&["-start"]))?;
    console.expect("clock: ")?;
    let began = nanoseconds(&console.expect("\n")?)?;
    installation.kill()?;
    Ok(began - before)
}

fn bubblewrap() -> anyhow::Result<f64> {
    let mut bwrap = Command::new("bwrap");
    bwrap.args(["--unshare-all", "--ro-bind", "/", "/", "--"]);
    bwrap.arg(program("fake_linux")).arg("clock");
    let before = now();
    let said = output(&mut bwrap)?;
    let began = said.strip_prefix("clock: ");
    let began = began.with_context(|| format!("the fake kernel says {said:?}"))?;
    Ok(nanoseconds(began)? - before)
}

/// The clock that the fake kernel reads, in milliseconds.
#[allow(clippy::cast_precision_loss)] // of an uptime of years, microseconds are left
fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// Nanoseconds in milliseconds.
fn nanoseconds(text: &str) -> anyhow::Result<f64> {
    let number: f64 = text
        .trim()
        .parse()
        .with_context(|| format!("{text:?} is no time"))?;
    Ok(number / 1e6)
}
