//! On which processor of the host a VM runs (umlmon, the monitor process).
//!
//! The kernel of a VM and the programs of its guest take turns: each system call of a guest wakes up the kernel, and
//! its answer wakes up the program. On one processor that is a switch; on two, one sleeps and is woken up each time,
//! which takes longer than most system calls. So all processes of a VM run on the same processor (`affinity = auto`).
//!
//! The host's scheduler no longer spreads them then, so this file does: while the VM is busy, it measures how busy the
//! processors are, and moves it as a whole to one that others use less. Monitors do not talk to each other about it.
//! That not all of them move at the same time is left to chance. Where others leave no processor to it, the scheduler
//! shares them out better than that: the VM runs on any of them until one is free.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use config::{Affinity, Vm, processor_list};
use jail::{ControlGroup, Place, Processors};
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;

/// How long is measured while the VM is busy: some 25 ticks of the host's clock.
const PERIOD: Duration = Duration::from_millis(250);
/// How long an idle VM is left alone at most. The time doubles up to this, so that a thousand of them cost nothing.
const LONGEST: Duration = Duration::from_secs(16);
/// A VM that takes less of a processor than this is idle.
const IDLE: f64 = 0.02;
/// How much less others must do on a processor to go there, in processors: more than the measurement is wrong by.
const GAIN: f64 = 0.25;
/// How likely a VM goes to a better place: of two that see it, one often stays.
const GO: f64 = 0.5;
/// How much others must leave to the VM, in processors, for it to keep to one: more than they leave to one VM too many.
const ENOUGH: f64 = 0.75;

/// How a time was.
#[derive(Clone, Debug)]
struct Load {
    /// How much of a processor the VM had.
    own: f64,
    /// How busy the processors were that it may use, each from 0 to 1.
    busy: BTreeMap<u16, f64>,
}

/// What a VM that runs on one processor, or on any, is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Stay,
    To(u16),
    /// It keeps to no processor any more.
    Anywhere,
}

impl Load {
    /// What the VM is to do that is on these processors. `chance` and `order` are random, the first one from 0 to 1.
    fn step(&self, here: &Processors, chance: f64, order: usize) -> Step {
        let processors = f64::from(u32::try_from(self.busy.len()).unwrap_or(u32::MAX));
        let others = self.busy.values().sum::<f64>() - self.own;
        let is_kept = here.len() == 1;
        if processors - others < ENOUGH {
            return match is_kept {
                true => Step::Anywhere,
                false => Step::Stay,
            };
        }
        // From anywhere in the order, so that not all VMs go to the first of equal ones.
        let from = order % self.busy.len().max(1);
        let in_turn = self.busy.iter().cycle().skip(from).take(self.busy.len());
        let Some((best, its)) = in_turn.min_by(|(_, a), (_, b)| a.total_cmp(b)) else {
            return Step::Stay;
        };
        match here.first().and_then(|here| self.busy.get(here)) {
            Some(busy) if is_kept && busy - self.own - its < GAIN => Step::Stay,
            Some(_) if is_kept && chance >= GO => Step::Stay,
            // Or it is where it may not be any more.
            _ => Step::To(*best),
        }
    }
}

/// What was measured at one time. `busy` is empty while the VM is idle.
#[derive(Default)]
struct Sample {
    /// Processor time of the VM so far.
    own: Duration,
    /// How long each processor of the host was not idle so far.
    busy: BTreeMap<u16, Duration>,
}

impl Sample {
    /// How it was from an earlier one to this one.
    fn since(&self, earlier: &Sample, elapsed: Duration) -> Load {
        let rate = |time: Duration| rate(time, elapsed);
        let busy = self.busy.iter().filter_map(|(processor, busy)| {
            let busy = busy.saturating_sub(*earlier.busy.get(processor)?);
            Some((*processor, rate(busy)))
        });
        Load {
            own: rate(self.own.saturating_sub(earlier.own)),
            busy: busy.collect(),
        }
    }
}

/// Keeps a VM on the processor that suits it best.
pub struct Placement {
    last: Sample,
    taken: Instant,
    due: Instant,
    pause: Duration,
    /// How long the VM runs anywhere when it does so next. The time doubles while the host remains as busy as that.
    apart: Duration,
    /// Until then, it runs anywhere.
    until: Instant,
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
            apart: PERIOD,
            until: now,
        }
    }

    /// Waits until it is time for [`Placement::look`]. Cancel safe.
    pub async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// Measures, and moves the VM if another place is better. `thread` is any that moves with it.
    pub fn look(&mut self, group: &ControlGroup, thread: u32) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.taken);
        let own = group.processor_time().unwrap_or(self.last.own);
        let is_idle = rate(own.saturating_sub(self.last.own), elapsed) < IDLE;
        let stat = match is_idle {
            true => String::new(),
            false => std::fs::read_to_string("/proc/stat").unwrap_or_default(),
        };
        let busy = busy_times(&stat);
        let sample = Sample { own, busy };
        let load = sample.since(&self.last, elapsed);
        self.last = sample;
        self.taken = now;
        if !is_idle {
            self.pause = PERIOD;
            self.place(group, thread, load);
        } else if self.pause == PERIOD {
            sys::release_free_memory();
            self.rest(group, thread);
        }
        if is_idle {
            self.pause = (self.pause * 2).min(LONGEST);
        }
        self.due = now + self.pause;
    }

    /// Puts a VM that has become idle on one processor: what it does next may have ended before it is measured.
    fn rest(&mut self, group: &ControlGroup, thread: u32) {
        self.apart = PERIOD;
        self.until = self.taken;
        let here = jail::processors_of(thread).unwrap_or_default();
        if here.len() > 1 {
            let any = usize::from(random().1) % here.len();
            move_to(group, &here.into_iter().skip(any).take(1).collect());
        }
    }

    /// Moves a busy VM if another place is better.
    fn place(&mut self, group: &ControlGroup, thread: u32, mut load: Load) {
        let (Ok(allowed), Some(here)) = (jail::allowed(), jail::processors_of(thread)) else {
            return;
        };
        load.busy.retain(|processor, _| allowed.contains(processor));
        let (chance, order) = random();
        let to = match load.step(&here, chance, order.into()) {
            Step::Stay => return,
            Step::To(_) if self.taken < self.until => return,
            Step::To(processor) => Processors::from([processor]),
            Step::Anywhere => {
                self.until = self.taken + self.apart;
                self.apart = (self.apart * 2).min(LONGEST);
                allowed
            }
        };
        move_to(group, &to);
    }
}

/// Moves a VM as a whole.
fn move_to(group: &ControlGroup, processors: &Processors) {
    if let Err(error) = group.move_to(processors) {
        let processors = processor_list(processors);
        tracing::debug!("cannot run on {processors}: {error}");
    }
}

/// A number from 0 to 1, and any number.
fn random() -> (f64, u16) {
    // Each instance has a random key.
    let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    let chance = f64::from(u16::from_ne_bytes([a, b])) / f64::from(u16::MAX);
    (chance, u16::from_ne_bytes([c, d]))
}

fn rate(time: Duration, elapsed: Duration) -> f64 {
    time.as_secs_f64() / elapsed.as_secs_f64().max(f64::EPSILON)
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

    fn load(own: f64, busy: &[f64]) -> Load {
        Load {
            own,
            busy: (0..).zip(busy.iter().copied()).collect(),
        }
    }

    fn kept(to: u16) -> Processors {
        Processors::from([to])
    }

    #[test]
    fn a_vm_leaves_what_others_use() {
        // Something else has half of its processor.
        let half = load(0.5, &[1.0, 0.1]);
        assert_eq!(half.step(&kept(0), OFTEN, 0), Step::To(1));
        // Not all of those that see that go at once.
        assert_eq!(half.step(&kept(0), SELDOM, 0), Step::Stay);
        // The least loaded one is best.
        let four = load(0.3, &[0.6, 1.0, 0.2, 0.4]);
        assert_eq!(four.step(&kept(1), OFTEN, 0), Step::To(2));
    }

    #[test]
    fn a_vm_that_has_its_processor_stays() {
        for (own, busy) in [(1.0, [1.0, 0.0]), (0.3, [0.4, 0.0]), (1.0, [1.0, 1.0])] {
            assert_eq!(load(own, &busy).step(&kept(0), ALWAYS, 0), Step::Stay);
        }
        // It is the only one.
        assert_eq!(load(0.9, &[1.0]).step(&kept(0), ALWAYS, 0), Step::Stay);
    }

    #[test]
    fn where_all_processors_are_taken_it_runs_on_any() {
        let any = Processors::from([0, 1]);
        // Three VMs on two processors, where they share one, and spread by the scheduler.
        for own in [0.5, 0.67] {
            let three = load(own, &[1.0, 1.0]);
            assert_eq!(three.step(&kept(0), ALWAYS, 0), Step::Anywhere);
            assert_eq!(three.step(&any, ALWAYS, 0), Step::Stay);
        }
        // The other one has ended; it goes where less is done.
        let two = load(0.9, &[1.0, 0.8]);
        assert_eq!(two.step(&any, SELDOM, 0), Step::To(1));
    }

    #[test]
    fn equal_processors_are_taken_in_any_order() {
        let equal = load(0.2, &[1.0, 0.0, 0.0]);
        let taken = (0..4).map(|order| equal.step(&kept(0), ALWAYS, order));
        let taken: Vec<_> = taken.collect();
        assert_eq!(taken, [1, 1, 2, 1].map(Step::To));
    }

    #[test]
    fn a_processor_that_may_not_be_used_any_more_is_left() {
        let step = load(1.0, &[0.1, 0.9]).step(&kept(7), SELDOM, 0);
        assert_eq!(step, Step::To(0));
    }

    #[test]
    fn idle_time_and_waiting_for_disks_are_not_busy() {
        let line = "12 100 20 30 4000 500 6 7 8 90 9";
        let busy = Some((12, Duration::from_millis(1710)));
        assert_eq!(busy_time(line, 100), busy);
        assert_eq!(busy_time("  100 20 30 4000", 100), None);
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        assert!(!busy_times(&stat).is_empty());
    }
}
