//! Tier real: the host loses power while a guest writes. All that it has flushed must be there afterwards, and no
//! sector may have what was never written to it. `UMLMON_TEST_CUTS` says how often the power is cut (default 3).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use e2e::{Login, SECTOR, Vm, World, WriteCache, put, wait_for};
use fastrand::Rng;

const CUTS: u64 = 3;

/// The size of each disk, so small that a guest writes to most of it, and its sectors.
const SIZE: usize = 512 << 10;
const SECTORS: u64 = (SIZE / SECTOR) as u64;
/// How often a guest flushes a disk, what it writes to it before each time, and how many sectors at once.
const FLUSHES: u64 = 16;
const WRITES: u64 = 3;
const LONGEST: u64 = 24;
/// With fewer writes and flushes than this, the host has seen them all.
const STEPS: u64 = 400;

/// The disks, as the guest and as the configuration call them.
const FLAT: (char, &str) = ('b', "/disks/flat.dsk");
const IMAGE: (char, &str) = ('c', "/disks/image.cow");
const BACKING: &str = "/disks/backing.dsk";
/// What the image and its backing file are merged to, to be looked at.
const MERGED: &str = "/disks/merged.dsk";

/// The guest writes to these sectors of a disk their new number, which each of them has as its text.
struct Write {
    disk: char,
    begin: u64,
    end: u64,
    flushes: bool,
}

/// All writes, by that number, in their order. A new disk has 0 everywhere.
type Plan = BTreeMap<u64, Write>;

fn plan(rng: &mut Rng) -> Plan {
    let mut plan = Plan::new();
    for _ in 0..FLUSHES {
        for (disk, _) in [FLAT, IMAGE] {
            for n in 1..=WRITES {
                let begin = rng.u64(..SECTORS);
                let write = Write {
                    disk,
                    begin,
                    end: SECTORS.min(begin + rng.u64(1..=LONGEST)),
                    flushes: n == WRITES,
                };
                plan.insert(plan.len() as u64 + 1, write);
            }
        }
    }
    plan
}

/// Carries out a write, and reports it if it has flushed the disk.
const WRITE: &str = "w() {\n\
    all=; left=$4; while [ $left -gt 0 ]; do all=\"$all $1\"; left=$((left - 1)); done\n\
    printf %0512d $all | dd of=/dev/ubd$2 bs=512 seek=$3 conv=notrunc$5 2> /dev/null || exit\n\
    [ -z \"$5\" ] || echo \"safe: $1.\"\n\
    }\n";

/// What the guest does.
fn script(plan: &Plan) -> String {
    let mut script = WRITE.to_owned();
    for (number, write) in plan {
        let how = if write.flushes { ",fsync" } else { "" };
        let (disk, begin, length) = (write.disk, write.begin, write.end - write.begin);
        writeln!(script, "w {number} {disk} {begin} {length} {how}").unwrap();
    }
    script + "echo all is written"
}

/// What is wrong with a disk after a power cut.
fn faults(plan: &Plan, safe: &[u64], disk: char, content: &[u8]) -> Vec<String> {
    assert_eq!(content.len(), SIZE);
    let of_disk = |number: &&u64| plan[number].disk == disk;
    let last = safe.iter().rfind(of_disk).copied().unwrap_or(0);
    let fault = |(sector, content): (u64, &[u8])| {
        let covering = plan
            .iter()
            .filter(|(_, write)| write.disk == disk && (write.begin..write.end).contains(&sector));
        let numbers = covering.map(|(number, _)| *number);
        let (before, after): (Vec<u64>, Vec<u64>) = numbers.partition(|number| *number <= last);
        let flushed = before.last().copied().unwrap_or(0);
        let text = String::from_utf8_lossy(content);
        match text.parse() {
            Ok(number) if number == flushed || after.contains(&number) => None,
            Ok(number) => Some(format!("{number} in place of {flushed} or {after:?}")),
            Err(_) => Some(format!(
                "{:?} in place of {flushed} or {after:?}",
                &text[..8]
            )),
        }
        .map(|what| format!("sector {sector} of ubd{disk} has {what}"))
    };
    let sectors = (0..).zip(content.chunks(SECTOR));
    sectors.filter_map(fault).collect()
}

/// The numbers of the writes that the guest has reported as flushed.
fn reported(vm: &Vm<'_>) -> Vec<u64> {
    let said = vm.con0();
    let numbers = said.split("safe: ").filter_map(|rest| rest.split_once('.'));
    let numbers = numbers.filter_map(|(number, _)| number.parse().ok());
    numbers.collect()
}

/// Cuts the power while a guest writes to new disks; what is wrong with them then.
fn cut(seed: u64, cache: impl Fn(&Path, u64) -> WriteCache) -> Option<Vec<String>> {
    let world = World::with_real_kernel()?;
    let mut rng = Rng::with_seed(seed);
    let plan = plan(&mut rng);
    let lines = [(1, FLAT.1), (2, IMAGE.1)].map(|(n, disk)| format!("ubd{n} = {disk}"));
    let vm = world
        .vm("vm1")
        .guest(Login::Password)
        .at_boot(&script(&plan))
        .line(&lines.join("\n"))
        .monitor();
    let jail = vm.file("jail");
    let file = |disk: &str| jail.join(disk.trim_start_matches('/'));
    for disk in [FLAT.1, BACKING] {
        put(&file(disk), &b"0".repeat(SIZE));
    }
    let create = format!("{}:{BACKING}", IMAGE.1);
    vm.umlwatch(&["-disk-create-cow", &create]).ok();
    vm.end_monitor();

    let cache = cache(&file("/disks"), rng.u64(1..STEPS));
    vm.start_monitor().ok();
    vm.umlwatch(&["-start"]).ok();
    wait_for("the power cut", || {
        (cache.has_failed() || vm.con0().contains("all is written")).then_some(())
    });
    vm.umlwatch(&["-kill", "-wait", "60"]).ok();
    vm.end_monitor();
    cache.lose_power(&mut rng);

    vm.start_monitor().ok();
    let commit = format!("{}:{MERGED}", IMAGE.1);
    vm.umlwatch(&["-disk-commit", &commit]).ok();
    let safe = reported(&vm);
    let disks = [(FLAT.0, FLAT.1), (IMAGE.0, MERGED)];
    let faults = disks.map(|(disk, name)| {
        let content = fs::read(file(name)).unwrap();
        faults(&plan, &safe, disk, &content)
    });
    Some(faults.concat())
}

/// F20. Flat disks and copy-on-write images.
#[test]
fn what_a_guest_has_flushed_outlasts_a_power_cut() {
    let cuts = std::env::var("UMLMON_TEST_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    for seed in 0..cuts {
        let Some(faults) = cut(seed, WriteCache::over) else {
            return;
        };
        assert!(faults.is_empty(), "cut {seed}: {faults:#?}");
    }
    println!("nothing was lost in {cuts} power cuts");
}

/// So the test above finds what is lost.
#[test]
fn a_disk_that_does_not_flush_is_found_out() {
    let mut losses = 0;
    for seed in 0..CUTS {
        let Some(faults) = cut(seed, WriteCache::that_does_not_flush) else {
            return;
        };
        losses += faults.len();
    }
    assert_ne!(losses, 0);
}
