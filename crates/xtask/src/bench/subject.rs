//! What is measured, and what every measurement of programs needs (cargo xtask bench).

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::report::Figure;
use crate::steps::target_dir;

/// Something that is measured, under the name that the command line takes.
pub(super) struct Subject {
    pub(super) name: &'static str,
    /// What it yields, in the order of the rows in SPECIFICATION.md.
    pub(super) metrics: &'static [&'static str],
    /// What it needs from Debian.
    pub(super) packages: &'static [&'static str],
    pub(super) measure: fn() -> anyhow::Result<Vec<Figure>>,
}

/// A program of ours, as it is released.
pub(super) fn program(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
}

/// How many milliseconds a command takes from fork to exit; its output is dropped.
pub(super) fn run_time(command: &mut Command) -> anyhow::Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status();
    let taken = begun.elapsed();
    let name = command.get_program().to_string_lossy();
    let status = status.with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name}: {status}");
    Ok(taken.as_secs_f64() * 1e3)
}

/// A process that is ended with its value.
pub(super) struct Ending(pub(super) Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own; that it has ended by itself is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
