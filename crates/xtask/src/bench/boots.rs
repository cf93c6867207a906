//! Whether Debian guests always boot and shut down on our kernel, and how long that takes (cargo xtask bench boots).
//!
//! Each guest has systemd and ssh, and one disk for all its boots. What is wrong with one of them ends the measurement.
//! See `guest/settings.rs` for the variables of the environment.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::guest::image::{Contents, INIT, Image};
use super::guest::settings;
use super::installation::{self, Console, Installation};
use super::report::Figure;
use super::stats::median;
use super::subject::Subject;
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "boots",
    metrics: &["boots-bookworm", "boots-trixie"],
    packages: &["e2fsprogs", "mmdebstrap", "util-linux"],
    measure,
};

const BOOKWORM: Contents = Contents {
    name: "boots-bookworm",
    suite: "bookworm",
    package: Some("openssh-server"),
};

const TRIXIE: Contents = Contents {
    name: "boots-trixie",
    suite: "trixie",
    ..BOOKWORM
};

/// Of each guest, with each way to run its programs.
const ROUNDS: usize = 50;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let (kernel, rounds) = (settings::our_kernel()?, settings::rounds(ROUNDS)?);
    let mut figures = Vec::new();
    for (metric, contents) in SUBJECT.metrics.iter().zip([BOOKWORM, TRIXIE]) {
        let image = Image::in_directory(&settings::directory()?, contents)?;
        let mut seconds = Vec::new();
        for userspace in ["ptrace", "seccomp"] {
            let taken = boots(&kernel, userspace, rounds, &image)
                .with_context(|| format!("{} with userspace = {userspace}", contents.suite))?;
            println!(
                "{} with userspace = {userspace}: {rounds} boots and shutdowns, {:.2} s each, no failure",
                contents.suite,
                median(&taken)?
            );
            seconds.extend(taken);
        }
        figures.push(Figure::alone(metric, "s", median(&seconds)?));
    }
    Ok(figures)
}

/// Boots and shuts down a guest as often; returns the seconds of each time.
fn boots(kernel: &Path, userspace: &str, rounds: usize, image: &Image) -> anyhow::Result<Vec<f64>> {
    let lines = format!(
        "ubd0 = /disks/root.dsk\nuserspace = {userspace}\nkernelarg = quiet\nkernelarg = rw\nkernelarg = {INIT}\n\
         kernelarg = bench=boot\n"
    );
    installation::with_memory(kernel, 256, &lines, |installation| {
        installation.put_disk(&image.disk(), "root.dsk")?;
        let mut console = installation.console()?;
        let seconds: anyhow::Result<Vec<f64>> = (1..=rounds)
            .map(|n| once(installation, &mut console).with_context(|| format!("boot {n}")))
            .collect();
        let mut check = Command::new("/sbin/e2fsck");
        let disk = installation.jail().join("disks/root.dsk");
        output(check.arg("-fn").arg(disk)).context("the disk is damaged")?;
        seconds
    })
}

fn once(installation: &Installation, console: &mut Console) -> anyhow::Result<f64> {
    let begun = Instant::now();
    output(&mut installation.umlwatch(&["-start"]))?;
    console.expect("BENCH-READY")?;
    output(&mut installation.umlwatch(&["-ctrlaltdel", "-wait", "120"]))?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = console.expect("reboot: Power down")?;
    ensure!(!said.contains("Failed"), "the guest says {said:?}");
    Ok(seconds)
}
