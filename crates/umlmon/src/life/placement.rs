//! On which processor of the host a VM runs (umlmon, the monitor process).
//!
//! The kernel of a VM and the programs of its guest take turns: each system call of a guest wakes up the kernel, and
//! its answer wakes up the program. On one processor that is a switch; on two, one sleeps and is woken up each time,
//! which takes longer than most system calls. So all processes of a VM run on the same processor (`affinity = auto`).
//!
//! The host's scheduler no longer spreads them then, so this file does: while the VM is busy, it measures how busy the
//! processors are and how long the VM waits for its own, and moves it as a whole to another one where that would be
//! less. Monitors do not talk to each other about it. That not all of them move at the same time is left to chance.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use config::{Affinity, Vm, processor_list};
use jail::{ControlGroup, Place, Processors};
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;

/// How long is measured while the VM is busy: some fifty ticks of the host's clock.
const PERIOD: Duration = Duration::from_millis(500);
/// How long an idle VM is left alone at most. The time doubles up to this, so that a thousand of them cost nothing.
const LONGEST: Duration = Duration::from_secs(16);
/// A VM that takes less of a processor than this is idle.
const IDLE: f64 = 0.02;
/// How much less others must do on a processor to go there, in processors: more than the measurement is wrong by.
const GAIN: f64 = 0.25;
/// How likely a VM goes to a better place: of two that see it, one often stays.
const GO: f64 = 0.5;
/// A processor without idle time.
const FULL: f64 = 0.9;
/// How many more than elsewhere must want a full processor to leave it. It is less than a half: one of three VMs on two
/// processors must not have one for itself for ever.
const EXCESS: f64 = 0.4;

/// How a time was.
#[derive(Clone, Debug)]
struct Load {
    /// How much of a processor the VM had.
    own: f64,
    /// How many of its threads waited for one, on average.
    waiting: f64,
    /// How busy the processors were that it may use, each from 0 to 1.
    busy: BTreeMap<u16, f64>,
    /// How many threads of the host ran or waited for a processor.
    runnable: f64,
}

impl Load {
    /// Where the VM is to go from `here`; None if it stays. `chance` and `order` are random, the first one from 0 to 1.
    fn better(&self, here: u16, chance: f64, order: usize) -> Option<u16> {
        let elsewhere: Vec<(u16, f64)> = self
            .busy
            .iter()
            .filter(|(processor, _)| **processor != here)
            .map(|(processor, busy)| (*processor, *busy))
            .collect();
        // From anywhere in the order, so that not all VMs go to the first of equal ones.
        let from = order.checked_rem(elsewhere.len())?;
        let in_turn = || elsewhere.iter().cycle().skip(from).take(elsewhere.len());
        let (best, its) = in_turn().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let Some(busy) = self.busy.get(&here) else {
            // It may not be used any more.
            return Some(*best);
        };
        if busy - self.own - its >= GAIN {
            return (chance < GO).then_some(*best);
        }
        // Where nobody is idle, those are to go who are too many, and anywhere.
        let goes = *busy >= FULL && chance < self.excess();
        goes.then(|| in_turn().next().map(|(processor, _)| *processor))
            .flatten()
    }

    /// Which part of those on the VM's processor has to go until there are as many as elsewhere; 0 if there are not
    /// more.
    #[allow(clippy::cast_precision_loss)] // a host has few processors
    fn excess(&self) -> f64 {
        // Those who share a processor get equal parts: with a third of what it wants, it is one of three.
        let here = (self.own + self.waiting) / self.own.max(IDLE);
        let fair = self.runnable / self.busy.len().max(1) as f64;
        match here - fair.max(1.0) {
            excess if excess >= EXCESS => excess / here,
            _ => 0.0,
        }
    }
}

/// What was measured at one time. All but `own` is empty while the VM is idle.
#[derive(Default)]
struct Sample {
    /// Processor time of the VM so far.
    own: Duration,
    /// How long each processor of the host was not idle so far.
    busy: BTreeMap<u16, Duration>,
    /// How many threads of the host are running or waiting for a processor.
    runnable: f64,
    /// How long each thread of the VM has waited for one so far.
    waited: BTreeMap<u32, Duration>,
}

impl Sample {
    fn take(group: &ControlGroup, own: Duration) -> Sample {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let waited = |thread| Some((thread, waited(thread)?));
        Sample {
            own,
            busy: busy_times(&stat),
            runnable: runnable(&stat).unwrap_or(0.0),
            waited: group.threads().into_iter().filter_map(waited).collect(),
        }
    }

    /// How it was from an earlier one to this one.
    fn since(&self, earlier: &Sample, elapsed: Duration) -> Load {
        let rate = |time: Duration| rate(time, elapsed);
        let busy = self.busy.iter().filter_map(|(processor, busy)| {
            let busy = busy.saturating_sub(*earlier.busy.get(processor)?);
            Some((*processor, rate(busy)))
        });
        let waited = self.waited.iter().map(|(thread, waited)| {
            let before = earlier.waited.get(thread).copied();
            waited.saturating_sub(before.unwrap_or_default())
        });
        Load {
            own: rate(self.own.saturating_sub(earlier.own)),
            waiting: rate(waited.sum()),
            busy: busy.collect(),
            runnable: f64::midpoint(self.runnable, earlier.runnable),
        }
    }
}

/// Keeps a VM on the processor that suits it best.
pub struct Placement {
    last: Sample,
    taken: Instant,
    due: Instant,
    pause: Duration,
}

/// What a start does about `affinity`: where the VM begins to run. None: anywhere.
///
/// # Errors
/// [`Failure::Failed`] if the monitor may not use a processor of the list.
pub fn place(vm: &Vm, group: Option<&ControlGroup>) -> Result<Option<Place>, Failure> {
    match &vm.affinity {
        Affinity::None => Ok(None),
        // Several processors need several of the host.
        Affinity::Auto if vm.cpus > 1 => Ok(None),
        // What cannot be measured cannot be moved, and would be stuck.
        Affinity::Auto => Ok(group
            .and_then(ControlGroup::processor_time)
            .map(|_| Place::One)),
        Affinity::On(processors) => {
            usable(processors).map(|()| Some(Place::On(processors.clone())))
        }
    }
}

/// Checks that the monitor may use these processors of the host.
fn usable(processors: &Processors) -> Result<(), Failure> {
    let allowed = jail::allowed()
        .map_err(|error| Failure::Failed(format!("cannot tell the host's processors: {error}")))?;
    let missing: BTreeSet<u16> = processors.difference(&allowed).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "affinity = {}: the host has no processor {}, or the monitor may not use it; there are {}",
        processor_list(processors),
        processor_list(&missing),
        processor_list(&allowed),
    )))
}

impl Placement {
    /// For a VM that was just started with [`Place::One`].
    pub fn new() -> Placement {
        let now = Instant::now();
        Placement {
            last: Sample::default(),
            taken: now,
            due: now + PERIOD,
            pause: PERIOD,
        }
    }

    /// Waits until it is time for [`Placement::look`]. Cancel safe.
    pub async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// Measures, and moves the VM if another processor is better. `thread` is any that moves with it.
    pub fn look(&mut self, group: &ControlGroup, thread: u32) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.taken);
        let own = group.processor_time().unwrap_or(self.last.own);
        let is_idle = rate(own.saturating_sub(self.last.own), elapsed) < IDLE;
        let sample = match is_idle {
            true => Sample {
                own,
                ..Sample::default()
            },
            false => Sample::take(group, own),
        };
        let load = sample.since(&self.last, elapsed);
        self.last = sample;
        self.taken = now;
        if is_idle && self.pause == PERIOD {
            sys::release_free_memory();
        }
        self.pause = if is_idle {
            (self.pause * 2).min(LONGEST)
        } else {
            PERIOD
        };
        self.due = now + self.pause;
        if let Some(to) = destination(thread, load)
            && let Err(error) = group.move_to(&Processors::from([to]))
        {
            tracing::debug!("cannot run on processor {to}: {error}");
        }
    }
}

/// Where the VM of this thread is to go.
fn destination(thread: u32, mut load: Load) -> Option<u16> {
    let allowed = jail::allowed().ok()?;
    load.busy.retain(|processor, _| allowed.contains(processor));
    let here = jail::processors_of(thread)?.pop_first()?;
    // Each instance has a random key.
    let [a, b, c, d, ..] = RandomState::new().hash_one(here).to_ne_bytes();
    let chance = f64::from(u16::from_ne_bytes([a, b])) / f64::from(u16::MAX);
    let order = u16::from_ne_bytes([c, d]);
    load.better(here, chance, order.into())
}

fn rate(time: Duration, elapsed: Duration) -> f64 {
    time.as_secs_f64() / elapsed.as_secs_f64().max(f64::EPSILON)
}

/// How long a thread has waited for a processor: the second number of `schedstat` (proc(5)).
fn waited(thread: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/schedstat")).ok()?;
    let nanoseconds = text.split_ascii_whitespace().nth(1)?;
    nanoseconds.parse().map(Duration::from_nanos).ok()
}

/// The line `procs_running` of proc_stat(5).
fn runnable(stat: &str) -> Option<f64> {
    let count = stat
        .lines()
        .find_map(|line| line.strip_prefix("procs_running "));
    count?.parse().ok()
}

/// How long each processor of the host was not idle since it was booted.
fn busy_times(stat: &str) -> BTreeMap<u16, Duration> {
    let hertz = rustix::param::clock_ticks_per_second();
    let lines = stat.lines().map_while(|line| line.strip_prefix("cpu"));
    lines.filter_map(|line| busy_time(line, hertz)).collect()
}

/// From a line of proc_stat(5), without `cpu`: user, nice, system, idle, iowait, irq, softirq, steal, and two that are
/// part of the first ones. The first line is for all processors, and has no number.
fn busy_time(line: &str, hertz: u64) -> Option<(u16, Duration)> {
    let (number, times) = line.split_once(' ')?;
    let times = times.split_ascii_whitespace().take(8);
    let ticks: u64 = times
        .enumerate()
        .filter(|(n, _)| ![3, 4].contains(n))
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    let milliseconds = ticks.saturating_mul(1000).checked_div(hertz)?;
    Some((number.parse().ok()?, Duration::from_millis(milliseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: f64 = 0.0;
    const OFTEN: f64 = 0.2;
    const SELDOM: f64 = 0.9;

    /// Where nobody waits.
    fn load(own: f64, busy: &[f64]) -> Load {
        Load {
            own,
            waiting: 0.0,
            busy: (0..).zip(busy.iter().copied()).collect(),
            runnable: busy.iter().sum(),
        }
    }

    /// On full processors, with so many VMs on each that never sleep.
    fn full(here: usize, vms: &[u8]) -> Load {
        let own = 1.0 / f64::from(vms[here]);
        Load {
            waiting: 1.0 - own,
            runnable: vms.iter().copied().map(f64::from).sum(),
            ..load(own, &vec![1.0; vms.len()])
        }
    }

    #[test]
    fn a_vm_leaves_what_others_use() {
        // Something else has half of its processor.
        assert_eq!(load(0.5, &[1.0, 0.1]).better(0, OFTEN, 0), Some(1));
        // Not all of those that see that go at once.
        assert_eq!(load(0.5, &[1.0, 0.1]).better(0, SELDOM, 0), None);
        // The least loaded one is best.
        let four = load(0.3, &[0.6, 1.0, 0.2, 0.4]);
        assert_eq!(four.better(1, OFTEN, 0), Some(2));
    }

    #[test]
    fn a_vm_alone_stays() {
        assert_eq!(load(1.0, &[1.0, 0.0]).better(0, ALWAYS, 0), None);
        assert_eq!(load(0.3, &[0.4, 0.0]).better(0, ALWAYS, 0), None);
        // It is the only processor.
        assert_eq!(load(0.5, &[1.0]).better(0, ALWAYS, 0), None);
    }

    #[test]
    fn those_who_are_too_many_on_a_full_processor_go() {
        for vms in [[1, 1], [2, 2], [20, 20], [20, 19]] {
            assert_eq!(full(1, &vms).better(1, 0.02, 0), None, "{vms:?}");
        }
        // One of three goes.
        assert_eq!(full(0, &[3, 1]).better(0, 0.3, 0), Some(1));
        assert_eq!(full(0, &[3, 1]).better(0, 0.4, 0), None);
        assert_eq!(full(1, &[3, 1]).better(1, ALWAYS, 0), None);
        // The one that is alone changes with the two that are not.
        assert_eq!(full(0, &[2, 1]).better(0, OFTEN, 0), Some(1));
        // One that wants little waits little, and stays.
        let little = Load {
            waiting: 0.02,
            runnable: 2.1,
            ..load(0.1, &[1.0, 1.0])
        };
        assert_eq!(little.better(0, ALWAYS, 0), None);
        // Threads that the host's scheduler spreads are on both.
        let many = Load {
            runnable: 100.0,
            ..full(0, &[3, 1])
        };
        assert_eq!(many.better(0, ALWAYS, 0), None);
    }

    #[test]
    fn equal_processors_are_taken_in_any_order() {
        let equal = load(0.2, &[1.0, 0.0, 0.0, 0.0]);
        let taken = (0..6).filter_map(|order| equal.better(0, ALWAYS, order));
        assert_eq!(taken.collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn a_processor_that_may_not_be_used_any_more_is_left() {
        assert_eq!(load(1.0, &[1.0, 0.9]).better(7, SELDOM, 0), Some(1));
    }

    #[test]
    fn idle_time_and_waiting_for_disks_are_not_busy() {
        let line = "12 100 20 30 4000 500 6 7 8 90 9";
        let busy = Some((12, Duration::from_millis(1710)));
        assert_eq!(busy_time(line, 100), busy);
        assert_eq!(busy_time("  100 20 30 4000", 100), None);
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        assert!(!busy_times(&stat).is_empty() && runnable(&stat) >= Some(1.0));
        assert!(waited(std::process::id()).is_some());
    }
}
