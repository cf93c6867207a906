//! How much memory a monitor takes, alone and with a VM, against conmon (cargo xtask bench).
//!
//! Own memory is what a process has written, and would be free without it. A page of a program's file is not: the host
//! keeps it in its cache. PSS counts such pages too, each in proportion to those who have it mapped. Both are in the
//! kernel's `smaps_rollup` (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::boot;
use super::conmon::Conmon;
use super::installation::{self, Installation};
use super::report::Figure;
use super::stats::Pairs;
use super::subject::Subject;

pub(super) const SUBJECT: Subject = Subject {
    name: "memory",
    metrics: &[
        "memory-idle-own",
        "memory-idle-pss",
        "memory-vm-own",
        "memory-vm-pss",
    ],
    packages: &["conmon", "user-mode-linux", "busybox-static", "e2fsprogs"],
    measure,
};

/// For what a process does after its start.
const SETTLED: Duration = Duration::from_millis(500);

/// In KB.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(super) struct Memory {
    own: f64,
    pub(super) pss: f64,
}

/// How much of a program is in memory depends on where it happens to lie; each round has it anew.
const ROUNDS: usize = 7;

/// What is asked is what one more takes on a host with some, so there are others of each, which have their shares in
/// programs and libraries. With few, what only one process happens to have mapped of them counts as its own.
const NEIGHBOURS: usize = 9;

/// What was measured in one round.
struct Round {
    conmon: Memory,
    /// The monitor, before any client has connected.
    idle: Memory,
    /// Both processes while the kernel runs; its own memory is the guest's.
    vm: Memory,
}

fn measure() -> anyhow::Result<Vec<Figure>> {
    let image = boot::Image::build()?;
    let rounds = among(NEIGHBOURS, &image)?;
    let figure = |metric, ours: fn(&Round) -> f64, peer: fn(&Round) -> f64| {
        let pairs = Pairs {
            ours: rounds.iter().map(ours).collect(),
            peer: rounds.iter().map(peer).collect(),
        };
        Figure::of_pairs(metric, "KB", &pairs)
    };
    Ok(vec![
        figure("memory-idle-own", |r| r.idle.own, |r| r.conmon.own)?,
        figure("memory-idle-pss", |r| r.idle.pss, |r| r.conmon.pss)?,
        figure("memory-vm-own", |r| r.vm.own, |r| r.conmon.own)?,
        figure("memory-vm-pss", |r| r.vm.pss, |r| r.conmon.pss)?,
    ])
}

/// The rounds, among so many others of each kind.
fn among(neighbours: usize, image: &boot::Image) -> anyhow::Result<Vec<Round>> {
    if neighbours == 0 {
        return (0..ROUNDS).map(|_| round(image)).collect();
    }
    let other = Conmon::start()?;
    let rounds = installation::with(Path::new(boot::KERNEL), boot::LINES, |neighbour| {
        boot_in(neighbour, image)?;
        let rounds = among(neighbours - 1, image);
        neighbour.kill()?;
        rounds
    });
    other.kill()?;
    rounds
}

fn round(image: &boot::Image) -> anyhow::Result<Round> {
    let peer = Conmon::start()?;
    let measured = installation::with(Path::new(boot::KERNEL), boot::LINES, |installation| {
        std::thread::sleep(SETTLED);
        let conmon = of(peer.pid())?;
        let monitor = installation.monitor()?;
        let idle = of(monitor)?;
        boot_in(installation, image)?;
        std::thread::sleep(SETTLED);
        let vm = of(monitor)?.and(of(child_of(monitor)?)?);
        installation.kill()?;
        Ok(Round { conmon, idle, vm })
    });
    peer.kill()?;
    measured
}

/// Boots the VM; no client is connected afterwards.
fn boot_in(installation: &Installation, image: &boot::Image) -> anyhow::Result<()> {
    let mut console = installation.console()?;
    boot::boot(installation, &mut console, image).map(drop)
}

/// The process that is PID 1 to the kernel.
fn child_of(monitor: u32) -> anyhow::Result<u32> {
    let path = format!("/proc/{monitor}/task/{monitor}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let child = children.trim().parse();
    child.with_context(|| format!("the monitor's children are {children:?}"))
}

impl Memory {
    fn and(self, other: Memory) -> Memory {
        Memory {
            own: self.own + other.own,
            pss: self.pss + other.pss,
        }
    }
}

/// That of a process.
pub(super) fn of(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&text).with_context(|| format!("{path} is not understood"))
}

fn parse(text: &str) -> Option<Memory> {
    let value = |key: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Memory {
        own: value("Private_Dirty:")?,
        pss: value("Pss:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read() {
        let text = "5581-7ffc ---p 00000000 00:00 0    [rollup]\nRss:    2116 kB\nPss:     1022 kB\n\
            Pss_Dirty:   300 kB\nPrivate_Clean:  600 kB\nPrivate_Dirty:   364 kB\n";
        let memory = Memory {
            own: 364.0,
            pss: 1022.0,
        };
        assert_eq!(parse(text), Some(memory));
        assert_eq!(parse("Pss: 1 kB\n"), None);
        assert!(of(std::process::id()).unwrap().own > 0.0);
    }
}
