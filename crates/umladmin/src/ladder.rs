//! How a VM is brought down, as data: a ladder of rungs, each with its steps and its time limit (umladmin).
//!
//! [`climb`] only decides what comes next. It neither waits nor calls a monitor: the [`Stoppable`] does that, so the
//! tests run the whole ladder with a clock of their own.

use std::time::Duration;

/// One thing done to a kernel, through its monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelStep {
    /// Has the guest's helper power it off.
    PowerOff,
    /// Asks the guest's init for a shutdown.
    CtrlAltDel,
    /// A system request to the guest's kernel.
    Sysrq(char),
    /// Halts the kernel without a shutdown of the guest.
    Halt,
    /// Kills the kernel's processes.
    Kill,
}

/// One thing done to a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MonitorStep {
    /// SIGTERM.
    Terminate,
    /// SIGKILL; its kernel is killed afterwards.
    Kill,
}

/// How long a rung may take, its steps included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// So many seconds, but not more than half of `-timeout`.
    Part(u64),
    /// What is left of `-timeout`, which begins with the first rung.
    Timeout,
    /// A fixed number of seconds.
    Seconds(u64),
}

/// One measure, and its time limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rung<Step: 'static> {
    /// What it is called in messages and in the table of results.
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step],
    pub(crate) limit: Limit,
}

/// The name of the rung that a guest without a helper does not have.
const POWER_OFF: &str = "power off";

/// From a running kernel to an inactive VM.
pub(crate) const KERNEL: &[Rung<KernelStep>] = &[
    // A guest that takes longer to shut down goes on with that.
    Rung {
        name: POWER_OFF,
        steps: &[KernelStep::PowerOff],
        limit: Limit::Part(60),
    },
    Rung {
        name: "CTRL-ALT-DEL",
        steps: &[KernelStep::CtrlAltDel],
        limit: Limit::Timeout,
    },
    // Neither ends the kernel; the time is for the disks, because a kernel does not report when it has written
    // everything.
    Rung {
        name: "sync and umount",
        steps: &[KernelStep::Sysrq('s'), KernelStep::Sysrq('u')],
        limit: Limit::Seconds(10),
    },
    Rung {
        name: "halt",
        steps: &[KernelStep::Halt],
        limit: Limit::Seconds(10),
    },
    Rung {
        name: "kill",
        steps: &[KernelStep::Kill],
        limit: Limit::Seconds(5),
    },
];

/// From a monitor to none.
pub(crate) const MONITOR: &[Rung<MonitorStep>] = &[
    Rung {
        name: "SIGTERM",
        steps: &[MonitorStep::Terminate],
        limit: Limit::Seconds(10),
    },
    Rung {
        name: "SIGKILL",
        steps: &[MonitorStep::Kill],
        limit: Limit::Seconds(5),
    },
];

/// The result of a step, or of waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The step was carried out.
    Done,
    /// The aim of the ladder has been reached.
    Ended,
    /// The time was over first.
    TimeOver,
    /// The administrator does not want to wait any longer.
    Escalated,
    /// There is nothing that could do it, as is usual.
    Lacking,
    /// It cannot be done, for this reason.
    Failed(String),
}

/// What is brought down: a kernel or a monitor, and how to act on it and wait for it.
pub(crate) trait Stoppable {
    /// What its ladder is made of.
    type Step: Copy;
    /// A clock that only goes forward.
    fn now(&self) -> Duration;
    /// Notes that the rung with this name begins; `until` is its deadline, `why` says how the one before ended.
    fn enter(&mut self, rung: &'static str, until: Duration, why: Option<&Outcome>);
    /// Carries out one step, at most until then.
    fn step(&mut self, step: Self::Step, until: Duration) -> Outcome;
    /// Waits for the end, at most until then.
    fn wait(&mut self, until: Duration) -> Outcome;
}

/// Goes up the ladder until the end is reached; returns the name of the rung, or None if even the last one had no
/// effect.
pub(crate) fn climb<T: Stoppable>(
    ladder: &'static [Rung<T::Step>],
    timeout: Duration,
    target: &mut T,
) -> Option<&'static str> {
    let mut before = None;
    let begin = target.now();
    for rung in ladder {
        let now = target.now();
        let until = match rung.limit {
            Limit::Part(n) => now.saturating_add(Duration::from_secs(n).min(timeout / 2)),
            Limit::Timeout => begin.saturating_add(timeout),
            Limit::Seconds(n) => now.saturating_add(Duration::from_secs(n)),
        };
        target.enter(rung.name, until, before.as_ref());
        match stand_on(rung, until, target) {
            Outcome::Ended => return Some(rung.name),
            Outcome::Lacking => {}
            other => before = Some(other),
        }
    }
    None
}

/// The steps of one rung, and the wait after them. If a step is not carried out, the rest is skipped.
fn stand_on<T: Stoppable>(rung: &Rung<T::Step>, until: Duration, target: &mut T) -> Outcome {
    for step in rung.steps {
        match target.step(*step, until) {
            Outcome::Done => {}
            other => return other,
        }
    }
    target.wait(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VM with a clock of its own, which moves only while it is waited for.
    struct Fake {
        now: Duration,
        /// The step after which it ends, and how much later.
        obeys: Option<(KernelStep, u64)>,
        /// It ends at this time, whatever is done.
        dies_at: Option<u64>,
        /// It has a helper.
        helper: bool,
        /// Steps that are answered with an error.
        refuses: Vec<KernelStep>,
        /// Second Ctrl-C at these times.
        escalates: Vec<u64>,
        ends_at: Option<Duration>,
        seen: Vec<String>,
    }

    impl Fake {
        fn new() -> Fake {
            Fake {
                now: Duration::ZERO,
                obeys: None,
                dies_at: None,
                helper: false,
                refuses: vec![],
                escalates: vec![],
                ends_at: None,
                seen: vec![],
            }
        }

        fn stop(&mut self) -> Option<&'static str> {
            self.ends_at = self.dies_at.map(Duration::from_secs);
            climb(KERNEL, Duration::from_secs(300), self)
        }
    }

    impl Stoppable for Fake {
        type Step = KernelStep;

        fn now(&self) -> Duration {
            self.now
        }

        fn enter(&mut self, rung: &'static str, until: Duration, _why: Option<&Outcome>) {
            if rung == POWER_OFF && !self.helper {
                return;
            }
            let (now, until) = (self.now.as_secs(), until.as_secs());
            self.seen.push(format!("{now}-{until} {rung}"));
        }

        fn step(&mut self, step: KernelStep, until: Duration) -> Outcome {
            assert!(self.now <= until);
            if self.ends_at.is_some_and(|end| end <= self.now) {
                return Outcome::Ended;
            }
            if step == KernelStep::PowerOff && !self.helper {
                return Outcome::Lacking;
            }
            if self.refuses.contains(&step) {
                return Outcome::Failed("no answer".into());
            }
            if let Some((_, after)) = self.obeys.filter(|(obeyed, _)| *obeyed == step) {
                self.ends_at = Some(self.now + Duration::from_secs(after));
            }
            Outcome::Done
        }

        fn wait(&mut self, until: Duration) -> Outcome {
            let escalated = self.escalates.first().map(|at| Duration::from_secs(*at));
            let first = [Some(until), escalated, self.ends_at];
            self.now = first.into_iter().flatten().min().unwrap().max(self.now);
            if self.ends_at == Some(self.now) {
                Outcome::Ended
            } else if escalated == Some(self.now) {
                self.escalates.remove(0);
                Outcome::Escalated
            } else {
                Outcome::TimeOver
            }
        }
    }

    #[test]
    fn a_kernel_that_obeys_sees_only_the_first_rung() {
        let mut vm = Fake::new();
        vm.obeys = Some((KernelStep::CtrlAltDel, 4));
        assert_eq!(vm.stop(), Some("CTRL-ALT-DEL"));
        assert_eq!(vm.seen, ["0-300 CTRL-ALT-DEL"]);
        assert_eq!(vm.now.as_secs(), 4);
    }

    #[test]
    fn a_helper_is_asked_first_and_has_a_part_of_the_time() {
        let mut vm = Fake::new();
        vm.helper = true;
        vm.obeys = Some((KernelStep::PowerOff, 4));
        assert_eq!(vm.stop(), Some("power off"));
        assert_eq!(vm.now.as_secs(), 4);

        let mut vm = Fake::new();
        vm.helper = true;
        vm.obeys = Some((KernelStep::CtrlAltDel, 4));
        assert_eq!(vm.stop(), Some("CTRL-ALT-DEL"));
        assert_eq!(vm.seen, ["0-60 power off", "60-300 CTRL-ALT-DEL"]);

        let mut vm = Fake::new();
        vm.helper = true;
        climb(KERNEL, Duration::from_secs(10), &mut vm);
        assert_eq!(vm.seen[..2], ["0-5 power off", "5-10 CTRL-ALT-DEL"]);
    }

    #[test]
    fn a_hanging_guest_is_synced_and_halted() {
        let mut vm = Fake::new();
        vm.obeys = Some((KernelStep::Halt, 1));
        assert_eq!(vm.stop(), Some("halt"));
        let rungs = [
            "0-300 CTRL-ALT-DEL",
            "300-310 sync and umount",
            "310-320 halt",
        ];
        assert_eq!(vm.seen, rungs);
        assert_eq!(vm.now.as_secs(), 311);
    }

    #[test]
    fn a_frozen_kernel_is_killed_without_the_waits() {
        let mut vm = Fake::new();
        vm.refuses = vec![
            KernelStep::CtrlAltDel,
            KernelStep::Sysrq('s'),
            KernelStep::Halt,
        ];
        vm.obeys = Some((KernelStep::Kill, 0));
        assert_eq!(vm.stop(), Some("kill"));
        assert_eq!(vm.now.as_secs(), 0);
        assert_eq!(vm.seen.last().unwrap(), "0-5 kill");
    }

    #[test]
    fn nothing_helps() {
        let mut vm = Fake::new();
        assert_eq!(vm.stop(), None);
        assert_eq!(vm.now.as_secs(), 300 + 10 + 10 + 5);
    }

    #[test]
    fn it_may_die_on_any_rung() {
        for (dies_at, rung) in [
            (0, "power off"),
            (299, "CTRL-ALT-DEL"),
            (305, "sync and umount"),
            (320, "halt"),
            (321, "kill"),
        ] {
            let mut vm = Fake::new();
            vm.dies_at = Some(dies_at);
            assert_eq!(vm.stop(), Some(rung), "dies at {dies_at} s");
            assert_eq!(vm.now.as_secs(), dies_at);
        }
    }

    #[test]
    fn impatience_goes_one_rung_at_a_time() {
        let mut vm = Fake::new();
        vm.escalates = vec![7, 9];
        vm.obeys = Some((KernelStep::Halt, 0));
        assert_eq!(vm.stop(), Some("halt"));
        let rungs = ["0-300 CTRL-ALT-DEL", "7-17 sync and umount", "9-19 halt"];
        assert_eq!(vm.seen, rungs);
    }

    #[test]
    fn the_ladders_are_those_of_the_manual() {
        fn steps<S: Copy>(ladder: &[Rung<S>]) -> Vec<S> {
            ladder.iter().flat_map(|r| r.steps).copied().collect()
        }
        use KernelStep::*;
        assert_eq!(
            steps(KERNEL),
            [PowerOff, CtrlAltDel, Sysrq('s'), Sysrq('u'), Halt, Kill]
        );
        assert_eq!(steps(MONITOR), [MonitorStep::Terminate, MonitorStep::Kill]);
    }
}
