//! The parts of what is measured, and how their times are taken: the guest says on its console when each begins and
//! ends, and the host has the clock, as guests of emulators have none to be trusted (cargo xtask bench guest).

use std::time::Instant;

/// A part of the measurement.
pub(super) struct Part {
    /// As in `crates/xtask/bench-guest/work`.
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: &'static str,
}

/// From the command that starts it, until its init runs, and until systemd has started all else.
pub(super) const BOOT: [Part; 2] = [
    part("init", "kernel to init"),
    part("systemd", "systemd ready"),
];

/// What it does then, in this order.
pub(super) const WORK: [Part; 7] = [
    part("fork", "500 fork+exec"),
    part("gcc", "gcc, 4 files"),
    part("make", "make -j2"),
    part("python", "20 python starts"),
    part("faults", "20,000 page faults"),
    part("getpid", "50,000 getpid"),
    part("write", "write 64 MB + fsync"),
];

/// How long each part took, in seconds.
pub(super) type Times = Vec<(&'static str, f64)>;

/// Waits until the other side has said a text.
pub(super) type Expect<'a> = &'a mut dyn FnMut(&str) -> anyhow::Result<()>;

const fn part(name: &'static str, title: &'static str) -> Part {
    Part { name, title }
}

/// All parts, in their order.
pub(super) fn parts() -> impl Iterator<Item = &'static Part> {
    BOOT.iter().chain(&WORK)
}

/// Takes the times of a guest that was started at `begun`.
pub(super) fn of_boot(begun: Instant, expect: Expect<'_>) -> anyhow::Result<Times> {
    let mut times = Times::new();
    for (part, mark) in BOOT.iter().zip(["BENCH-INIT", "BENCH-READY"]) {
        expect(mark)?;
        times.push((part.name, begun.elapsed().as_secs_f64()));
    }
    Ok(times)
}

/// Takes the times of its work.
pub(super) fn of_work(expect: Expect<'_>) -> anyhow::Result<Times> {
    let mut times = Times::new();
    for Part { name, .. } in &WORK {
        expect(&format!("BENCH-BEGIN {name}"))?;
        let begun = Instant::now();
        expect(&format!("BENCH-END {name}"))?;
        times.push((*name, begun.elapsed().as_secs_f64()));
    }
    expect("BENCH-DONE")?;
    Ok(times)
}
