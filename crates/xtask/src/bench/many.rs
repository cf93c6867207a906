//! A host with a thousand monitors whose VMs do not run: how long they take together, and how much memory
//! (cargo xtask bench).

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::installation::{self, Installation, VM};
use super::memory;
use super::report::Figure;
use super::stats;
use super::subject::{Subject, program, run_time};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "many",
    metrics: &[
        "many-start",
        "many-memory",
        "many-list",
        "many-list-hundred",
        "many-update",
        "many-stop",
    ],
    packages: &[],
    measure,
};

const MONITORS: usize = 1000;

/// How often what changes nothing is measured.
const ROUNDS: usize = 11;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let sections = others(
        MONITORS,
        "vmuser = nobody\nlogfile = monitor\nkernel = /shared/kernels/fake_linux\nmem = 64\ncon0 = pty:con0\n",
    );
    installation::with(&program("fake_linux"), &sections, |installation| {
        let start = seconds(installation, &["start"])?;
        let memory = all_memory(installation)?;
        let hundred: Vec<String> = (1..=100).map(name).collect();
        let mut list_hundred = vec!["list"];
        list_hundred.extend(hundred.iter().map(String::as_str));
        let list = repeated(installation, &["list"])?;
        let list_hundred = repeated(installation, &list_hundred)?;
        let update = repeated(installation, &["update"])?;
        let stop = seconds(installation, &["-timeout", "10", "stop"])?;
        Ok(vec![
            Figure::alone("many-start", "s", start),
            Figure::alone("many-memory", "MB", memory),
            Figure::alone("many-list", "ms", list),
            Figure::alone("many-list-hundred", "ms", list_hundred),
            Figure::alone("many-update", "ms", update),
            Figure::alone("many-stop", "s", stop),
        ])
    })
}

/// The sections of all VMs but the first, each with these lines.
pub(super) fn others(vms: usize, lines: &str) -> String {
    let section = |n| format!("\n[{}]\n{lines}", name(n));
    (2..=vms).map(section).collect()
}

/// The name of a VM, from 1 on; the first one is that of every installation.
pub(super) fn name(n: usize) -> String {
    match n {
        1 => VM.into(),
        n => format!("vm{n}"),
    }
}

/// How long a command of umladmin takes.
fn seconds(installation: &Installation, words: &[&str]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    output(&mut installation.command("umladmin", words))?;
    Ok(begun.elapsed().as_secs_f64())
}

/// How many milliseconds one that changes nothing takes.
fn repeated(installation: &Installation, words: &[&str]) -> anyhow::Result<f64> {
    let taken: anyhow::Result<Vec<f64>> = (0..ROUNDS)
        .map(|_| run_time(&mut installation.command("umladmin", words)))
        .collect();
    stats::median(&taken?)
}

/// The memory of all monitors, what they share counted once, in MB.
fn all_memory(installation: &Installation) -> anyhow::Result<f64> {
    let files = fs::read_dir(installation.run_directory()).context("there are no pid files")?;
    let (mut sum, mut found) = (0.0, 0);
    for file in files {
        let number = fs::read_to_string(file?.path()).context("a monitor has ended")?;
        sum += memory::of(number.trim().parse()?)?.pss;
        found += 1;
    }
    ensure!(found == MONITORS, "{found} monitors run, not {MONITORS}");
    Ok(sum / 1024.0)
}
