//! What 1000 running VMs take on one host: until all are up, their memory, and how soon they answer (cargo xtask bench
//! thousand).
//!
//! Guests are as small as can be. The kernel is ours, with `userspace = seccomp`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::boot::{Image, MARK};
use super::guest::settings;
use super::installation::{self, Installation, copy_image};
use super::many::{name, others};
use super::report::Figure;
use super::stats::median;
use super::subject::{Subject, run_time};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "thousand",
    metrics: &[
        "thousand-start",
        "thousand-memory",
        "thousand-list",
        "thousand-echo",
        "thousand-stop",
    ],
    packages: &["busybox-static", "e2fsprogs"],
    measure,
};

/// How many.
const VMS: usize = 1000;
/// Of these one console each is used.
const ASKED: usize = 20;
/// How long all of them may take to come up.
const ALL_UP: Duration = Duration::from_mins(20);
/// How many seconds a guest may take to shut down while all others do.
const PATIENCE: &str = "600";
/// Every section. The disk is one for all; what a guest writes is its own.
const LINES: &str = "vmuser = nobody\nlogfile = monitor\nkernel = /shared/kernels/KERNEL\nmem = 32\nuserspace = seccomp\n\
    con0 = pty:con0\nubd0 = /disks/root.cow\n";

fn measure() -> anyhow::Result<Vec<Figure>> {
    let (kernel, image) = (settings::our_kernel()?, Image::build()?);
    let file = kernel.file_name().context("the kernel has no name")?;
    let lines = LINES.replace("KERNEL", &file.to_string_lossy());
    let sections = format!(
        "userspace = seccomp\nubd0 = /disks/root.cow\n{}",
        others(VMS, &lines)
    );
    installation::with_memory(&kernel, 32, &sections, |installation| {
        let free = free_memory()?;
        output(&mut installation.command("umladmin", &["start"]))?;
        give_disks(installation, &image)?;
        let begun = Instant::now();
        output(&mut installation.command("umladmin", &["boot", "vm*"]))?;
        wait_until_up(installation)?;
        let start = begun.elapsed().as_secs_f64();
        let memory = free - free_memory()?;
        let list = run_time(&mut installation.command("umladmin", &["list"]))?;
        let echo = echoes(installation)?;
        let begun = Instant::now();
        output(&mut installation.command("umladmin", &["-timeout", PATIENCE, "stop"]))?;
        let stop = begun.elapsed().as_secs_f64();
        Ok(vec![
            Figure::alone("thousand-start", "s", start),
            Figure::alone("thousand-memory", "MB", memory),
            Figure::alone("thousand-list", "ms", list),
            Figure::alone("thousand-echo", "ms", echo),
            Figure::alone("thousand-stop", "s", stop),
        ])
    })
}

/// One image for all, and what is written of it for each.
fn give_disks(installation: &Installation, image: &Image) -> anyhow::Result<()> {
    let shared = installation.jail().join("shared/disks/root.dsk");
    copy_image(&image.path(), &shared)?;
    fs::set_permissions(&shared, Permissions::from_mode(0o444)).context("cannot share the disk")?;
    let words = "/disks/root.cow:/shared/disks/root.dsk";
    for n in 1..=VMS {
        let name = name(n);
        let mut umlwatch = installation.command("umlwatch", &[&name, "-disk-create-cow", words]);
        output(&mut umlwatch)?;
    }
    Ok(())
}

/// Waits until each guest has said so on its console.
fn wait_until_up(installation: &Installation) -> anyhow::Result<()> {
    let until = Instant::now() + ALL_UP;
    let mut missing: Vec<usize> = (1..=VMS).collect();
    while !missing.is_empty() {
        ensure!(Instant::now() < until, "{} VMs are not up", missing.len());
        std::thread::sleep(Duration::from_millis(200));
        missing.retain(|n| {
            let log = fs::read_to_string(installation.log_of(&name(*n), "con0"));
            !log.is_ok_and(|log| log.contains(MARK))
        });
    }
    Ok(())
}

/// From a line that is typed on a console until the guest's answer, while all others run; the median, in milliseconds.
fn echoes(installation: &Installation) -> anyhow::Result<f64> {
    let mut taken = Vec::new();
    for n in (1..=ASKED).map(|n| n * VMS / ASKED) {
        let mut console = installation.console_of(&name(n))?;
        console.log_in()?;
        let begun = Instant::now();
        console.send("echo $((6 * 7))\n")?;
        console.expect("42")?;
        taken.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    median(&taken)
}

/// Of the host, what could be used without swapping, in MB (proc_meminfo(5)).
fn free_memory() -> anyhow::Result<f64> {
    let table = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kilobytes.context("/proc/meminfo is not understood")? / 1024.0)
}
