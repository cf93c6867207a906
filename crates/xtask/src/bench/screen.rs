//! How fast the screen of a console follows what the guest writes, and how much memory it takes, against two terminal
//! emulators that are libraries, too (cargo xtask bench).
//!
//! All are in one program, `crates/pty/examples/throughput.rs`, which measures one of them each time it is run.

use std::process::Command;

use anyhow::Context as _;

use super::report::Figure;
use super::stats;
use super::subject::{Subject, program};
use crate::steps::{self, cargo, output};

pub(super) const SUBJECT: Subject = Subject {
    name: "screen",
    metrics: &[
        "screen-alacritty",
        "screen-vt100",
        "screen-memory-alacritty",
        "screen-memory-vt100",
    ],
    packages: &[],
    measure,
};

const ROUNDS: usize = 9;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let example = ["--example", "throughput", "--features", "peers"];
    steps::run(cargo(&["build", "--release", "-p", "pty"]).args(example))?;
    let time = |metric, peer| {
        let pairs = stats::alternate(ROUNDS, || run("time", "ours"), || run("time", peer))?;
        Figure::of_pairs(metric, "ms", &pairs)
    };
    let memory = |metric, peer| -> anyhow::Result<Figure> {
        let (ours, peer) = (run("memory", "ours")?, run("memory", peer)?);
        Ok(Figure::of_two(metric, "KB", ours, peer))
    };
    Ok(vec![
        time("screen-alacritty", "alacritty")?,
        time("screen-vt100", "vt100")?,
        memory("screen-memory-alacritty", "alacritty")?,
        memory("screen-memory-vt100", "vt100")?,
    ])
}

fn run(what: &str, which: &str) -> anyhow::Result<f64> {
    let figure = output(Command::new(program("examples/throughput")).args([what, which]))?;
    let number = figure.trim().parse();
    number.with_context(|| format!("throughput said {figure:?}"))
}
