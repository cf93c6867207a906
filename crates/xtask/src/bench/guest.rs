//! A Debian guest, how long it takes to boot and to work: natively, under QEMU without KVM, and by each kernel of User
//! Mode Linux (cargo xtask bench guest).
//!
//! It is measured only when it is named, as a round takes ten minutes, and on all processors of the host. The
//! variables of the environment in `guest/settings.rs` choose; and in this one, `UMLMON_BENCH_MACHINES` names some of
//! the machines, as in `native,qemu,ours`. The others can follow in another call.
//!
//! When all is measured, the table in docs/KERNELS.md and the picture in docs/guest.svg are written.

pub(super) mod image;
mod machine;
mod picture;
mod qemu;
mod record;
pub(super) mod run;
pub(super) mod settings;
mod table;
mod work;

use std::env::var;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::report::Figure;
use super::subject::Subject;
use crate::kernels;
use crate::steps::{heading, repository};
use image::{Contents, Image};
use machine::{DEBIAN, DEBIAN_NEWEST, Kernel, Kind, MACHINES, Machine, OURS, QEMU};
use qemu::Qemu;
use record::Record;

pub(super) const SUBJECT: Subject = Subject {
    name: "guest",
    metrics: &[
        "guest-init",
        "guest-init-debian",
        "guest-systemd",
        "guest-fork",
        "guest-gcc",
        "guest-make",
        "guest-python",
        "guest-faults",
        "guest-getpid",
        "guest-write",
    ],
    packages: &[
        "busybox-static",
        "e2fsprogs",
        "mmdebstrap",
        "qemu-system-x86",
        "user-mode-linux",
        "util-linux",
    ],
    measure,
};

/// Of each metric, in their order: what is measured, and the peer.
const COMPARED: [(&str, &str); 10] = [
    ("init", QEMU),
    ("init", DEBIAN),
    ("systemd", QEMU),
    ("fork", QEMU),
    ("gcc", QEMU),
    ("make", QEMU),
    ("python", QEMU),
    ("faults", DEBIAN_NEWEST),
    ("getpid", DEBIAN_NEWEST),
    ("write", QEMU),
];

const CONTENTS: Contents = Contents {
    name: "work",
    suite: "bookworm",
    package: None,
};

const KERNEL: &str = "/usr/bin/linux.uml";

fn measure() -> anyhow::Result<Vec<Figure>> {
    let rounds = settings::rounds(3)?;
    let bench = Bench::prepare()?;
    let mut record = Record::open(&bench.image.times())?;
    let machines = chosen()?;
    for round in 0..rounds {
        // What has run before may have left files in the host's memory.
        let forth = round % 2 == 0;
        for n in 0..machines.len() {
            let n = if forth { n } else { machines.len() - 1 - n };
            let machine = machines.get(n).context("a machine")?;
            bench.round(round, machine, &mut record)?;
        }
    }
    heading("Medians, in seconds");
    let table = table::of(&record);
    print!("{table}");
    let missing: Vec<&str> = MACHINES
        .iter()
        .filter(|machine| bench.kernel_of(machine).is_ok() && record.rounds(machine.name) < rounds)
        .map(|machine| machine.name)
        .collect();
    ensure!(
        missing.is_empty(),
        "only a part was measured; set UMLMON_BENCH_MACHINES={} for the rest",
        missing.join(",")
    );
    let documents = repository().join("docs");
    table::put(&documents.join("KERNELS.md"), &table)?;
    fs::write(documents.join("guest.svg"), picture::of(&record)?)?;
    let figures = figures(&record);
    // The next call measures anew.
    fs::rename(bench.image.times(), bench.directory.join("times"))?;
    figures
}

/// The machines that are to be measured.
fn chosen() -> anyhow::Result<Vec<&'static Machine>> {
    let Ok(names) = var("UMLMON_BENCH_MACHINES") else {
        return Ok(MACHINES.iter().collect());
    };
    let names = names.split(',').map(|name| {
        let found = MACHINES.iter().find(|machine| machine.name == name);
        found.with_context(|| {
            let known: Vec<&str> = MACHINES.iter().map(|machine| machine.name).collect();
            format!(
                "UMLMON_BENCH_MACHINES knows no {name:?}: {}",
                known.join(", ")
            )
        })
    });
    names.collect()
}

/// What every run needs.
struct Bench {
    directory: PathBuf,
    image: Image,
    qemu: Qemu,
    newer: Vec<PathBuf>,
    ours: Vec<PathBuf>,
}

impl Bench {
    fn prepare() -> anyhow::Result<Bench> {
        let directory = settings::directory()?;
        Ok(Bench {
            image: Image::in_directory(&directory, CONTENTS)?,
            qemu: Qemu::in_directory(&directory.join("qemu"))?,
            newer: kernels::fetch(&directory.join("kernels"))?,
            ours: settings::our_kernels()?,
            directory,
        })
    }

    /// The kernel of User Mode Linux that a machine has; of the others, none.
    fn kernel_of(&self, machine: &Machine) -> anyhow::Result<&Path> {
        let Kind::Uml(kernel, _) = machine.kind else {
            return Ok(Path::new(""));
        };
        let name = |path: &&PathBuf| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let found = match kernel {
            Kernel::Installed => return Ok(Path::new(KERNEL)),
            Kernel::Newer(version) => self
                .newer
                .iter()
                .find(|path| name(path).starts_with(&format!("linux-{version}"))),
            Kernel::Ours => self.ours.iter().find(|path| !settings::is_smp(path)),
            Kernel::OursSmp => self.ours.iter().find(|path| settings::is_smp(path)),
        };
        let found = found.with_context(|| format!("the kernel of {} is missing", machine.name))?;
        Ok(found)
    }

    /// Runs a machine, unless that was done before.
    fn round(&self, round: usize, machine: &Machine, record: &mut Record) -> anyhow::Result<()> {
        if record.has(round, machine.name) {
            return Ok(());
        }
        let kernel = match self.kernel_of(machine) {
            Ok(kernel) => kernel,
            Err(why) => {
                println!("{}: left out: {why}", machine.name);
                return Ok(());
            }
        };
        let times = match machine.kind {
            Kind::Native => run::native(&self.image),
            Kind::Qemu { cpus } => self.qemu.run(cpus, &self.image),
            Kind::Uml(_, lines) => run::uml(kernel, lines, &self.image),
        };
        let times = times.with_context(|| format!("{} in round {round}", machine.name))?;
        let words: Vec<String> = times
            .iter()
            .map(|(part, seconds)| format!("{part} {seconds:.2}"))
            .collect();
        println!("{}: {}", machine.name, words.join(", "));
        record.add(round, machine.name, &times)
    }
}

fn figures(record: &Record) -> anyhow::Result<Vec<Figure>> {
    let compared = SUBJECT.metrics.iter().zip(COMPARED);
    compared
        .map(|(metric, (part, peer))| {
            let median = |machine| {
                let median = record.median(machine, part);
                median.with_context(|| format!("{part} of {machine} was not measured"))
            };
            Ok(Figure {
                ratio: record.ratio(OURS, peer, part),
                ..Figure::of_two(metric, "s", median(OURS)?, median(peer)?)
            })
        })
        .collect()
}
