//! `umladmin stop`: all VMs down at the same time, each by the ladder, then their monitors (umladmin).

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use client::{Client, Monitor, Stream, guest};
use config::{Config, VmName};
use daemon::Home;
use monitors::{
    process::{self, Process},
    start, survivor, wait,
};
use rpc_xdr::client::{ClientError, Ticket};
use rpc_xdr::umlmonctrl::{
    CtlCode, CtlResult, VmCtrlaltdelArgs, VmState, VmSysrqArgs, VmWaitArgs, VmWaitResult,
};
use rustix::process::Signal;

use crate::interrupt::Interrupts;
use crate::ladder::{self, KernelStep, MonitorStep, Outcome, Stoppable};
use crate::report::{Report, Row};
use crate::{parallel, selection};

/// How long a monitor may take to tell the state of its VM, before it counts as hanging.
const STATE: Duration = Duration::from_secs(5);

/// How long a monitor may take to accept a connection and a request, and to send an answer that has begun to come.
const ACCEPT: Duration = Duration::from_secs(5);

/// A first measure that works sooner than this is not reported.
const QUIET: Duration = Duration::from_secs(2);

pub(crate) fn run(config: &Config, names: &[&str], timeout: Duration) -> Result<Exit, Failure> {
    let vms = selection::named_or_all(config, names)?;
    let report = Report::new();
    // A running VM can be brought down nevertheless: otherwise, a host that is shut down would kill the guests.
    selection::tell_nameless(config, names, &report, Exit::Done);
    for vm in vms.iter().filter(|vm| selection::is_configured(config, vm)) {
        if let Err(fault) = config.vm(vm) {
            report.warn(&fault.to_string());
        }
    }
    let rows = stop_all(config, &vms, timeout, &report)?;
    report.results(&rows)
}

/// Brings these VMs down and ends their monitors; one row for each.
pub(crate) fn stop_all(
    config: &Config,
    vms: &[VmName],
    timeout: Duration,
    report: &Report,
) -> Result<Vec<Row>, Failure> {
    if vms.is_empty() {
        return Ok(Vec::new());
    }
    let interrupts = Interrupts::watch(|| {
        Report::new().warn(
            "press Ctrl-C again to take the next step at once, for all VMs that still run (power off, CTRL-ALT-DEL, sync and umount, halt, kill, end of the monitor)",
        );
    })
    .map_err(|e| Failure::from(e).about("cannot watch for Ctrl-C"))?;
    let rows = parallel::each(vms, parallel::CALLS, |vm| {
        stop_one(config, vm, timeout, report, &interrupts)
    });
    Ok(rows)
}

fn stop_one(
    config: &Config,
    vm: &VmName,
    timeout: Duration,
    report: &Report,
    interrupts: &Interrupts,
) -> Row {
    let name = vm.to_string();
    let pace = Pace::new(&name, report, interrupts);
    let (result, detail, good) = match bring_down(config, vm, timeout, &pace) {
        Ok(None) => {
            report.line(&name, "is off already");
            ("off", "already".into(), true)
        }
        Ok(Some(by)) => {
            let seconds = pace.begin.elapsed().as_secs_f64();
            report.line(&name, &format!("down after {seconds:.1} s{by}"));
            ("down", format!("{seconds:.1} s{by}"), true)
        }
        Err(error) => {
            report.error(&name, &error);
            ("failed", error, false)
        }
    };
    Row {
        vm: name,
        result,
        detail,
        good,
    }
}

/// The whole sequence: the kernel, then the monitor. Returns what was necessary, in parentheses; None if there was no
/// monitor.
fn bring_down(
    config: &Config,
    vm: &VmName,
    timeout: Duration,
    pace: &Pace<'_>,
) -> Result<Option<String>, String> {
    let home = Home::of_monitor(&config.global, vm);
    let pid = match home.holder() {
        Ok(Some(pid)) => pid,
        // Only a monitor can shut its guest down.
        Ok(None) if start::adopt(config, vm)? => home
            .holder()
            .ok()
            .flatten()
            .ok_or("the monitor that has taken it over has ended; its log may say why")?,
        Ok(None) if selection::is_configured(config, vm) => return Ok(None),
        // No such VM: the configuration has the best message.
        Ok(None) => return config.vm(vm).map(|_| None).map_err(|e| e.to_string()),
        Err(e) => return Err(format!("cannot end its monitor: {e}")),
    };
    // A user who may not end the monitor must not shut the guest down first.
    let process =
        Process::open(&home, pid).map_err(|e| format!("cannot end its monitor, pid {pid}: {e}"))?;
    let kernel = Kernel {
        vm,
        ctrl: process::ctrl(config, vm, pid),
        home: &home,
        pace,
    };
    let kernel = stop_kernel(kernel, timeout).unwrap_or_else(|error| {
        let text = format!("{error}; its monitor is ended without a shutdown");
        pace.report.error(pace.vm, &text);
        None
    });
    let mut monitor = MonitorProcess { process, pace };
    let rung = ladder::climb(ladder::MONITOR, Duration::ZERO, &mut monitor)
        .ok_or_else(|| format!("its monitor, pid {pid}, does not end"))?;
    // It outlives a monitor that is killed.
    survivor::end(config, vm).map_err(|error| format!("its processes do not end: {error}"))?;
    let by = [kernel, forced(rung)];
    let by: Vec<&str> = by.into_iter().flatten().collect();
    Ok(Some(match by.is_empty() {
        true => String::new(),
        false => format!(" ({})", by.join(", ")),
    }))
}

/// The rung of the monitor's ladder, if it was not the usual one.
fn forced(rung: &'static str) -> Option<&'static str> {
    let ordinary = ladder::MONITOR.first().map(|first| first.name);
    (Some(rung) != ordinary).then_some(rung)
}

/// Brings the kernel down, if there is one; returns how.
fn stop_kernel(mut kernel: Kernel<'_>, timeout: Duration) -> Result<Option<&'static str>, String> {
    let mut client = kernel.client().with_limit(STATE);
    // If it does not know, for example because the VM has been removed from the configuration, it is enough that it
    // answers.
    let info = client.call(|monitor| Ok(Ok(monitor.vm_info()?.into_result())));
    match info.map_err(|failure| failure.message)? {
        Ok(info) if info.state == VmState::Inactive => return Ok(None),
        Ok(info) if info.state == VmState::Suspended => {
            // If it cannot be resumed, the ladder will notice.
            let _ = client.resume();
        }
        Ok(_) | Err(_) => {}
    }
    let rung = ladder::climb(ladder::KERNEL, timeout, &mut kernel);
    rung.map(Some)
        .ok_or_else(|| "the kernel cannot be stopped".into())
}

/// The clock of one VM that is brought down: announces what takes long, and notices when the administrator cancels a
/// wait.
struct Pace<'a> {
    vm: &'a str,
    report: &'a Report,
    interrupts: &'a Interrupts,
    begin: Instant,
    /// Presses of Ctrl-C that have had their effect.
    seen: Cell<u32>,
    /// Which message to print at what time.
    announcement: Cell<Option<(Instant, &'static str, Instant)>>,
}

impl<'a> Pace<'a> {
    fn new(vm: &'a str, report: &'a Report, interrupts: &'a Interrupts) -> Pace<'a> {
        Pace {
            vm,
            report,
            interrupts,
            begin: Instant::now(),
            seen: Cell::new(0),
            announcement: Cell::new(None),
        }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn at(&self, time: Duration) -> Instant {
        self.begin + time
    }

    /// A rung begins: later ones are announced at once, with the reason.
    fn enter(&self, rung: &'static str, until: Duration, why: Option<&Outcome>) {
        self.seen.set(self.interrupts.escalations());
        let limit = until.saturating_sub(self.now());
        let Some(why) = why else {
            let due = Instant::now() + QUIET;
            self.announcement.set(Some((due, rung, self.at(until))));
            return;
        };
        self.announcement.set(None);
        let why = match why {
            Outcome::Failed(text) => text.as_str(),
            Outcome::Escalated => "Ctrl-C",
            Outcome::TimeOver | Outcome::Done | Outcome::Ended | Outcome::Lacking => "still up",
        };
        let text = format!("{why}; next: {rung}, up to {} s", round(limit));
        self.report.line(self.vm, &text);
    }

    /// Called from time to time while waiting. False: go on to the next rung.
    fn go_on(&self) -> bool {
        if let Some((due, rung, until)) = self.announcement.get()
            && Instant::now() >= due
        {
            self.announcement.set(None);
            let left = round(until.saturating_duration_since(Instant::now()));
            let text = format!("waiting for {rung}, up to {left} s more");
            self.report.line(self.vm, &text);
        }
        !self.is_escalated()
    }

    fn is_escalated(&self) -> bool {
        self.interrupts.escalations() > self.seen.get()
    }

    /// Why a wait ended before the kernel or monitor did.
    fn reason(&self, until: Duration, error: Option<String>) -> Outcome {
        match error {
            _ if self.is_escalated() => Outcome::Escalated,
            _ if self.now() >= until => Outcome::TimeOver,
            Some(error) => Outcome::Failed(error),
            None => Outcome::TimeOver,
        }
    }
}

/// Whole seconds, rounded up as far as it matters.
fn round(time: Duration) -> u64 {
    time.saturating_add(Duration::from_millis(500)).as_secs()
}

/// The kernel of a VM, reached through its monitor.
struct Kernel<'a> {
    vm: &'a VmName,
    ctrl: PathBuf,
    home: &'a Home,
    pace: &'a Pace<'a>,
}

impl Kernel<'_> {
    fn client(&self) -> Client {
        Client::at(self.vm, self.ctrl.clone())
    }

    /// One whose connection does not take longer than this to accept or answer.
    fn client_until(&self, until: Duration) -> Client {
        let left = until.saturating_sub(self.pace.now());
        let limit = left.clamp(Duration::from_millis(1), ACCEPT);
        self.client().with_limit(limit)
    }

    /// Asks the helper; whatever prevents that, the next rung needs none.
    fn power_off(&self, until: Duration) -> Outcome {
        let connection = self.client_until(until).connect();
        match connection.and_then(|it| guest::power_off(it.monitor)) {
            Ok(()) => Outcome::Done,
            Err(_) => Outcome::Lacking,
        }
    }

    /// One call on a connection of its own: one that was cancelled must not disturb the next.
    fn call<R>(
        &self,
        until: Duration,
        send: impl FnOnce(&mut Monitor) -> Result<Ticket<R>, ClientError>,
    ) -> Result<R, Outcome> {
        let go_on = || self.pace.go_on();
        let wait = |stream: &Stream| {
            // If that fails, the read reports the reason.
            wait::readable(stream, self.pace.at(until), &go_on).unwrap_or(true)
        };
        let answer = self.client_until(until).call_while(send, wait);
        answer.map_err(|failure| match self.home.holder() {
            // The monitor has ended, and its VM with it.
            Ok(None) => Outcome::Ended,
            _ => self.pace.reason(until, Some(failure.message)),
        })
    }
}

impl Stoppable for Kernel<'_> {
    type Step = KernelStep;

    fn now(&self) -> Duration {
        self.pace.now()
    }

    fn enter(&mut self, rung: &'static str, until: Duration, why: Option<&Outcome>) {
        self.pace.enter(rung, until, why);
    }

    fn step(&mut self, step: KernelStep, until: Duration) -> Outcome {
        let result = match step {
            KernelStep::PowerOff => return self.power_off(until),
            KernelStep::CtrlAltDel => {
                let args = VmCtrlaltdelArgs { stop: true };
                self.call(until, |monitor| monitor.send_vm_ctrlaltdel(&args))
            }
            KernelStep::Sysrq(letter) => {
                let letter = letter.to_string();
                let args = VmSysrqArgs { letter };
                self.call(until, |monitor| monitor.send_vm_sysrq(&args))
            }
            KernelStep::Halt => self.call(until, |monitor| monitor.send_vm_halt()),
            KernelStep::Kill => self.call(until, |monitor| monitor.send_vm_kill()),
        };
        match result {
            Ok(CtlResult::Ok) => Outcome::Done,
            Ok(CtlResult::Error(error)) => match error.code {
                CtlCode::NotRunning => Outcome::Ended,
                // It is being brought down already, so this can wait for it.
                CtlCode::WrongState => Outcome::Done,
                _ => Outcome::Failed(error.text),
            },
            Err(outcome) => outcome,
        }
    }

    fn wait(&mut self, until: Duration) -> Outcome {
        loop {
            let left = until.saturating_sub(self.now());
            let seconds = u32::try_from(left.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
            let args = VmWaitArgs { seconds };
            match self.call(until, |monitor| monitor.send_vm_wait(&args)) {
                Ok(VmWaitResult::Ok(waited)) if waited.inactive => return Outcome::Ended,
                Ok(VmWaitResult::Ok(_)) if self.now() < until => {}
                Ok(VmWaitResult::Ok(_)) => return self.pace.reason(until, None),
                Ok(VmWaitResult::Error(error)) => return Outcome::Failed(error.text),
                Err(outcome) => return outcome,
            }
        }
    }
}

/// A monitor as a process.
struct MonitorProcess<'a> {
    process: Process<'a>,
    pace: &'a Pace<'a>,
}

impl Stoppable for MonitorProcess<'_> {
    type Step = MonitorStep;

    fn now(&self) -> Duration {
        self.pace.now()
    }

    fn enter(&mut self, rung: &'static str, until: Duration, why: Option<&Outcome>) {
        self.pace.enter(rung, until, why);
    }

    fn step(&mut self, step: MonitorStep, _until: Duration) -> Outcome {
        let signal = match step {
            MonitorStep::Terminate => Signal::TERM,
            MonitorStep::Kill => Signal::KILL,
        };
        match self.process.signal(signal) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn wait(&mut self, until: Duration) -> Outcome {
        let go_on = || self.pace.go_on();
        let waited = self.process.wait(self.pace.at(until), &go_on);
        match (waited, self.process.is_running()) {
            (Ok(()), Ok(false)) => Outcome::Ended,
            (Err(e), _) => Outcome::Failed(e.to_string()),
            (_, Err(e)) => Outcome::Failed(e.to_string()),
            (Ok(()), Ok(true)) => self.pace.reason(until, None),
        }
    }
}
