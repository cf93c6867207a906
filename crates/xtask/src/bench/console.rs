//! What a console costs: a flood until it has been read, the echo of a key, and many who look on, against dtach and
//! conserver (cargo xtask bench).
//!
//! On both sides the flood is written by the same program, and the reader compares every byte.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::conserver::Conserver;
use super::dtach::Dtach;
use super::installation::{self, Installation, directory};
use super::line::Line;
use super::report::Figure;
use super::stats;
use super::subject::{Subject, program};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "console",
    metrics: &["console-throughput", "console-echo", "console-fanout"],
    packages: &["dtach", "conserver-server", "conserver-client"],
    measure,
};

/// A console for each metric, so that none begins with what another one has left; all have a log, as is usual. The
/// history is larger than any flood: a slow reader misses nothing.
const LINES: &str = "con1 = pty:con1\ncon2 = pty:con2\ncon3 = pty:con3\nhistory = 65536\n";

/// Bytes of the flood for one.
const THROUGHPUT: usize = 60_000_000;
const THROUGHPUT_ROUNDS: usize = 9;

const KEYS: usize = 300;
const ECHO_ROUNDS: usize = 11;

/// Bytes of the flood for many: the rounds are shorter than those for one, as each byte is read so often.
const FANOUT: usize = 20_000_000;
const FANOUT_ROUNDS: usize = 7;
const WATCHERS: usize = 10;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let directory = directory()?;
    let path = directory.path().canonicalize()?;
    let figures = installation::with(&program("fake_linux"), LINES, |installation| {
        output(&mut installation.umlwatch(&["-start"]))?;
        let figures = vec![
            throughput(installation, &path)?,
            echo(installation, &path)?,
            fanout(installation, &path)?,
        ];
        installation.kill()?;
        Ok(figures)
    })?;
    installation::nothing_left(&path)?;
    Ok(figures)
}

/// A client of ours on a console, after the greeting of the kernel has shown that it is connected.
fn client(installation: &Installation, how: &str, console: &str) -> anyhow::Result<Line> {
    let mut line = Line::with_pipes(&mut installation.umlwatch(&[how, console]))?;
    line.expect(&format!("fake login on {console}\r\n"))?;
    Ok(line)
}

/// What a flood of so many bytes consists of.
fn flood(bytes: usize) -> anyhow::Result<Vec<u8>> {
    let mut fake = Command::new(program("fake_linux"));
    let said = fake.arg("flood").arg(bytes.to_string()).output();
    let flood = said.context("cannot run fake_linux")?.stdout;
    ensure!(flood.len() == bytes, "a flood has {} bytes", flood.len());
    Ok(flood)
}

/// A shell's program that does on a terminal what the fake kernel does: writes a flood for every line that is typed,
/// after the line. The file `ready` appears when it listens.
fn flooder(bytes: usize) -> String {
    let fake = program("fake_linux");
    format!(
        "stty raw -echo; : > ready; while read -r line; do echo \"$line\"; {} flood {bytes}; done",
        fake.display()
    )
}

fn throughput(installation: &Installation, path: &Path) -> anyhow::Result<Figure> {
    let flood = flood(THROUGHPUT)?;
    let mut ours = client(installation, "-connect", "con1")?;
    let dtach = Dtach::start(path, &flooder(THROUGHPUT))?;
    let mut peer = dtach.attach()?;
    let word = format!("flood:con1:{THROUGHPUT}\n");
    let pairs = stats::alternate(
        THROUGHPUT_ROUNDS,
        || time_flood(&mut ours, &word, &flood),
        || time_flood(&mut peer, &word, &flood),
    )?;
    Figure::of_pairs("console-throughput", "ms", &pairs)
}

/// From the first byte of the flood to the last one, in milliseconds: not the time in which it is made up.
fn time_flood(line: &mut Line, word: &str, flood: &[u8]) -> anyhow::Result<f64> {
    line.type_in(word.as_bytes())?;
    line.expect(word)?;
    line.wait()?;
    let begun = Instant::now();
    line.read_all(flood)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn echo(installation: &Installation, path: &Path) -> anyhow::Result<Figure> {
    let mut ours = client(installation, "-connect", "con2")?;
    let conserver = Conserver::start(path, "stty raw -echo; : > ready; exec cat")?;
    let mut peer = conserver.client("-a")?;
    let pairs = stats::alternate(
        ECHO_ROUNDS,
        || time_keys(&mut ours),
        || time_keys(&mut peer),
    )?;
    Figure::of_pairs("console-echo", "us", &pairs)
}

/// The median of one round, in microseconds.
fn time_keys(line: &mut Line) -> anyhow::Result<f64> {
    let mut times = Vec::with_capacity(KEYS);
    for _ in 0..KEYS {
        let begun = Instant::now();
        line.type_in(b"k")?;
        line.read_all(b"k")?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    // The fake kernel remembers a line until it ends.
    line.type_in(b"\n")?;
    line.read_all(b"\n")?;
    stats::median(&times)
}

fn fanout(installation: &Installation, path: &Path) -> anyhow::Result<Figure> {
    let flood = flood(FANOUT)?;
    let word = format!("flood:con3:{FANOUT}\n");
    let mut ours = vec![client(installation, "-connect", "con3")?];
    let monitor = [installation.monitor()?];
    let conserver = Conserver::start(path, &flooder(FANOUT))?;
    let mut peer = vec![conserver.client("-a")?];
    let servers = conserver.processes()?;
    for _ in 0..WATCHERS {
        ours.push(client(installation, "-watch", "con3")?);
        peer.push(conserver.client("-s")?);
    }
    let pairs = stats::alternate(
        FANOUT_ROUNDS,
        || cost(&monitor, &mut ours, &word, &flood),
        || cost(&servers, &mut peer, &word, &flood),
    )?;
    Figure::of_pairs("console-fanout", "ms", &pairs)
}

/// What a flood costs these processes, in milliseconds of processor time for a megabyte. The first line types, and all
/// of them read.
fn cost(processes: &[u32], lines: &mut [Line], word: &str, flood: &[u8]) -> anyhow::Result<f64> {
    let before = processor_time(processes)?;
    let typing = lines.first_mut().context("nobody is connected")?;
    typing.type_in(word.as_bytes())?;
    std::thread::scope(|scope| {
        let readers: Vec<_> = lines
            .iter_mut()
            .map(|line| {
                scope.spawn(|| {
                    line.expect(word)?;
                    line.read_all(flood)
                })
            })
            .collect();
        let mut results = readers.into_iter().map(std::thread::ScopedJoinHandle::join);
        results.try_for_each(|read| read.unwrap_or_else(|_| bail!("a reader has panicked")))
    })?;
    let taken = processor_time(processes)? - before;
    #[allow(clippy::cast_precision_loss)] // some millions
    let megabytes = flood.len() as f64 / 1e6;
    Ok(taken / megabytes)
}

/// What these processes have used so far, in milliseconds.
pub(super) fn processor_time(processes: &[u32]) -> anyhow::Result<f64> {
    let of_one = |pid: &u32| -> anyhow::Result<f64> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let ticks = ticks(&text).with_context(|| format!("{path} says {text:?}"))?;
        Ok(f64::from(ticks) * 10.0)
    };
    processes.iter().map(of_one).sum()
}

/// proc_pid_stat(5): fields 14 and 15, utime and stime, in hundredths of a second; the second field is a name in
/// brackets that may have anything in it.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let mut next = || times.next()?.parse::<u32>().ok();
    next()?.checked_add(next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14\n";
        assert_eq!(ticks(stat), Some(23));
        assert_eq!(ticks("1 (a) S 1 2"), None);
    }
}
