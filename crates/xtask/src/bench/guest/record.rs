//! The times of all runs, in a file: a measurement that is interrupted, or done in pieces, goes on where it was
//! (cargo xtask bench guest).
//!
//! Each line is `ROUND MACHINE PART SECONDS`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::super::stats::median;
use super::work::Times;

/// The seconds of each part of a run.
type Run = BTreeMap<String, f64>;

pub(super) struct Record {
    path: PathBuf,
    /// By machine, then by round.
    runs: BTreeMap<String, BTreeMap<usize, Run>>,
}

impl Record {
    /// What the file has, if there is one.
    pub(super) fn open(path: &Path) -> anyhow::Result<Record> {
        let mut record = Record {
            path: path.to_owned(),
            runs: BTreeMap::new(),
        };
        if path.exists() {
            let text = fs::read_to_string(path)?;
            for line in text.lines() {
                let entry = record.note(line);
                entry.with_context(|| format!("{}: {line:?}; remove the file", path.display()))?;
            }
        }
        Ok(record)
    }

    fn note(&mut self, line: &str) -> anyhow::Result<()> {
        let mut words = line.split(' ');
        let mut word = || words.next().context("a word is missing");
        let (round, machine, part, seconds) = (word()?, word()?, word()?, word()?);
        let runs = self.runs.entry(machine.to_owned()).or_default();
        let run = runs.entry(round.parse()?).or_default();
        run.insert(part.to_owned(), seconds.parse()?);
        Ok(())
    }

    pub(super) fn has(&self, round: usize, machine: &str) -> bool {
        self.runs
            .get(machine)
            .is_some_and(|runs| runs.contains_key(&round))
    }

    /// Adds a run, also to the file.
    pub(super) fn add(&mut self, round: usize, machine: &str, times: &Times) -> anyhow::Result<()> {
        let mut lines = String::new();
        for (part, seconds) in times {
            writeln!(lines, "{round} {machine} {part} {seconds:.4}")?;
        }
        let opened = File::options().append(true).create(true).open(&self.path);
        opened
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        lines.lines().try_for_each(|line| self.note(line))
    }

    /// How many rounds a machine has.
    pub(super) fn rounds(&self, machine: &str) -> usize {
        self.runs.get(machine).map_or(0, BTreeMap::len)
    }

    /// The median of a part, in seconds; None if it was not measured.
    pub(super) fn median(&self, machine: &str, part: &str) -> Option<f64> {
        let runs = self.runs.get(machine)?.values();
        let seconds: Vec<f64> = runs.filter_map(|run| run.get(part)).copied().collect();
        median(&seconds).ok()
    }

    /// The median of what a machine took as a multiple of what another one took in the same round.
    pub(super) fn ratio(&self, machine: &str, peer: &str, part: &str) -> Option<f64> {
        let (ours, peers) = (self.runs.get(machine)?, self.runs.get(peer)?);
        let ratios: Vec<f64> = ours
            .iter()
            .filter_map(|(round, run)| Some(run.get(part)? / peers.get(round)?.get(part)?))
            .collect();
        median(&ratios).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_goes_on_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("times");
        let mut record = Record::open(&path).unwrap();
        record
            .add(0, "ours", &vec![("gcc", 1.0), ("init", 0.2)])
            .unwrap();
        record.add(0, "qemu", &vec![("gcc", 10.0)]).unwrap();
        let mut record = Record::open(&path).unwrap();
        assert!(record.has(0, "ours") && !record.has(1, "ours"));
        // A machine that gets slower is slower for both.
        record.add(1, "ours", &vec![("gcc", 3.0)]).unwrap();
        record.add(1, "qemu", &vec![("gcc", 30.0)]).unwrap();
        assert_eq!(record.rounds("ours"), 2);
        assert_eq!(record.median("ours", "gcc"), Some(2.0));
        assert_eq!(record.ratio("ours", "qemu", "gcc"), Some(0.1));
        assert_eq!(record.ratio("ours", "qemu", "init"), None);
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("times");
        fs::write(&path, "0 ours gcc\n").unwrap();
        assert!(Record::open(&path).is_err());
    }
}
