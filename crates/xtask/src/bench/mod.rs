//! `cargo xtask bench`: measures ours and its peers from Debian alternately, in one run, and compares with the limits
//! of SPECIFICATION.md.
//!
//! A subject is a file beside this one, an entry of [`SUBJECTS`] or [`LONG`], and its rows in SPECIFICATION.md. It
//! measures with [`stats::alternate`], in an [`installation`] of its own that ends with it.

mod adopt;
mod boot;
mod boots;
mod cli;
mod conmon;
mod conserver;
mod console;
mod containers;
mod death;
mod disks;
mod dtach;
mod guest;
mod installation;
mod line;
mod many;
mod memory;
mod network;
mod redirector;
mod redirectors;
mod report;
mod rpc;
mod run;
mod screen;
mod size;
mod spec;
mod start;
mod stats;
mod subject;
mod thousand;
mod traffic;
mod web;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::steps::{self, cargo, heading};
use crate::{programs, setup};
use report::Figure;
use subject::Subject;

/// In the order of SPECIFICATION.md, each measured on one processor.
const SUBJECTS: &[Subject] = &[
    start::SUBJECT,
    boot::SUBJECT,
    run::SUBJECT,
    memory::SUBJECT,
    cli::SUBJECT,
    death::SUBJECT,
    adopt::SUBJECT,
    rpc::SUBJECT,
    redirector::SUBJECT,
    disks::SUBJECT,
    network::SUBJECT,
    screen::SUBJECT,
    console::SUBJECT,
    many::SUBJECT,
    size::SUBJECT,
];

/// Those that take long, in the same order after them: they are measured only when they are named, on all processors.
const LONG: &[Subject] = &[
    guest::SUBJECT,
    boots::SUBJECT,
    containers::SUBJECT,
    thousand::SUBJECT,
    web::SUBJECT,
];

pub(crate) fn run(names: &[&str]) -> anyhow::Result<()> {
    let subjects = chosen(names)?;
    let chore = ["bench", &names.join(" ")].join(" ");
    let why = "the monitors that are measured mount file systems and change users";
    setup::require_root(chore.trim(), why)?;
    heading("What is measured");
    let packages: BTreeSet<&str> = subjects
        .iter()
        .flat_map(|subject| subject.packages)
        .copied()
        .collect();
    setup::install(&packages.into_iter().collect::<Vec<_>>())?;
    programs::build_release()?;
    // Before we stay on one processor.
    let (long, others): (Vec<&Subject>, Vec<&Subject>) = subjects
        .into_iter()
        .partition(|subject| LONG.iter().any(|long| long.name == subject.name));
    let mut figures = measure(long)?;
    if !others.is_empty() {
        // Apart from the programs, as cargo would else give them what only the tests ask of a dependency.
        steps::run(&mut cargo(&["build", "--release", "-p", "e2e", "--bins"]))?;
        stand_still()?;
        figures.extend(measure(others)?);
    }
    heading("Medians, and their limits from SPECIFICATION.md");
    let broken = report::print(&figures, &spec::rows()?)?;
    ensure!(broken.is_empty(), "beyond the limit: {}", broken.join(", "));
    Ok(())
}

fn measure(subjects: Vec<&Subject>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for subject in subjects {
        heading(&format!("Measuring: {}", subject.name));
        let begun = Instant::now();
        let measured =
            (subject.measure)().with_context(|| format!("measuring {}", subject.name))?;
        println!("{} s", begun.elapsed().as_secs());
        let names: Vec<&str> = measured.iter().map(|figure| figure.metric).collect();
        ensure!(
            names == subject.metrics,
            "{} says it measures {:?}, and measured {names:?}",
            subject.name,
            subject.metrics
        );
        figures.extend(measured);
    }
    Ok(figures)
}

fn chosen(names: &[&str]) -> anyhow::Result<Vec<&'static Subject>> {
    let all = || SUBJECTS.iter().chain(LONG);
    for name in names {
        let known: Vec<&str> = all().map(|subject| subject.name).collect();
        ensure!(
            known.contains(name),
            "bench knows no {name:?}: {}",
            known.join(", ")
        );
    }
    if names.is_empty() {
        return Ok(SUBJECTS.iter().collect());
    }
    Ok(all()
        .filter(|subject| names.contains(&subject.name))
        .collect())
}

/// Binds us and all that we start to one processor: what wanders between two is measured twice as often as what does
/// not, and a peer of one process must not be at an advantage over ours of several, nor the other way round.
fn stand_still() -> anyhow::Result<()> {
    let allowed = sched_getaffinity(None).context("cannot ask for the processors")?;
    // The first one tends to have the interrupts.
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(last.context("there is no processor")?);
    sched_setaffinity(None, &one).context("cannot stay on one processor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_chosen_by_name() {
        let names = |words: &[&str]| -> Vec<&str> {
            chosen(words)
                .unwrap()
                .iter()
                .map(|subject| subject.name)
                .collect()
        };
        assert_eq!(names(&["death", "start"]), ["start", "death"]);
        assert_eq!(names(&["guest", "size"]), ["size", "guest"]);
        assert_eq!(names(&[]).len(), SUBJECTS.len());
        assert!(chosen(&["speed"]).is_err());
    }
}
