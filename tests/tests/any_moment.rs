//! Tier root: the monitor is killed at each of its system calls while a VM starts, reboots, ends, gets a disk, or is
//! taken over. The next monitor finds a VM that runs, or one that is inactive, and nothing between the two.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::network::{enter_host, everything, of_each_kind};
use e2e::{
    Fate, Injector, Vm, VmBuilder, World, adoptions, flood, free_port, kill_monitor, outlives,
    processes_that_stay, put, silent, wait_for,
};
use nix::libc;
use rustix::process::{Pid, Signal, kill_process};

/// At every how many calls the monitor is killed, usually.
const STEP: usize = 149;

/// How long a monitor makes no call when it has nothing to do.
const QUIET: Duration = Duration::from_millis(300);
/// How much a guest writes while its monitors change.
const FLOOD: usize = 100_000;
/// What the kernel says when the guest reboots, and when it is halted.
const ENDS: [&str; 2] = ["reboot: Restarting system\r\n", "reboot: System halted\r\n"];

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// A VM whose monitor is killed.
struct Victim<'w> {
    vm: Vm<'w>,
    world: &'w World,
    /// What a start writes on con0.
    boot: String,
    /// The files that there are without a run.
    files: BTreeSet<String>,
    /// What the host has of networks without a run, if it is a host for that.
    networks: Option<(String, String)>,
}

/// What an attempt to kill a monitor has come to.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Killed,
    /// It made fewer calls.
    Spared,
}

impl<'w> Victim<'w> {
    fn new(world: &'w World) -> Victim<'w> {
        Victim::of(world.vm("vm1"), world, None)
    }

    /// One with a network of each kind.
    fn with_networks(world: &'w World) -> Victim<'w> {
        enter_host();
        let lines = of_each_kind(free_port());
        let vm = lines.iter().fold(world.vm("vm1"), |vm, line| vm.line(line));
        Victim::of(vm, world, Some(everything()))
    }

    fn of(vm: VmBuilder<'w>, world: &'w World, networks: Option<(String, String)>) -> Victim<'w> {
        let vm = vm.line("con1 = pty:con1");
        let vm = vm.disk(0, vec![1; 4096]).monitor();
        vm.start();
        outlives(&vm);
        vm.kill();
        let boot = vm.con0();
        let files = files(world);
        Victim {
            vm,
            world,
            boot,
            files,
            networks,
        }
    }

    /// Starts the VM; it would outlive its monitor.
    #[track_caller]
    fn start(&self) {
        self.vm.start();
        outlives(&self.vm);
    }

    /// Kills the monitor at its call of this number from now on, while it does what `act` asks for; the calls end when
    /// `is_done`, and then no more come.
    fn kill_at(&self, call: u64, act: impl FnOnce(), is_done: impl FnMut() -> bool) -> Attempt {
        let injector = kills(self.vm.monitor_pid(), call, true);
        act();
        outcome(&injector, is_done)
    }

    /// The same, while the monitor does what a client asks for with these commands.
    fn kill_while(&self, call: u64, commands: &[&str]) -> Attempt {
        let injector = kills(self.vm.monitor_pid(), call, true);
        let mut client = silent(&mut self.vm.command(commands));
        let attempt = outcome(&injector, || client.try_wait().unwrap().is_some());
        wait_for("the client ends", || client.try_wait().unwrap());
        attempt
    }

    /// What follows the death of a monitor: the next one has a VM that runs, or an inactive one, of which nothing is
    /// left; in both cases all is as always. `was` is how much was on con0 before. The VM is inactive then.
    #[track_caller]
    fn goes_on(&self, what: &str, was: usize) {
        let vm = &self.vm;
        vm.start_monitor().ok();
        let state = lasting_state(vm);
        let runs = state == "running";
        assert!(runs || state == "inactive", "{what}: {state}");
        if runs {
            let refused = vm.umlwatch(&["-disk-delete", "/disks/0.dsk"]).fails(1);
            assert!(refused.contains("in use by this VM"), "{what}: {refused}");
            answers(vm);
            vm.kill();
        }
        self.is_clean(what);
        let con0 = vm.con0();
        let cut = after_boots(con0.get(was..).unwrap(), &self.boot);
        let whole = cut.is_empty() || (!runs && self.boot.starts_with(cut));
        assert!(whole, "{what}, {state}: {:?}", con0.get(was..));
        if !runs {
            self.start();
            vm.kill();
        }
    }

    /// Nothing is left of a run.
    #[track_caller]
    fn is_clean(&self, what: &str) {
        self.vm.wait_inactive();
        let now = files(self.world);
        let more: Vec<_> = now.symmetric_difference(&self.files).collect();
        assert_eq!(more, [""; 0], "{what}");
        if let Some(networks) = &self.networks {
            assert_eq!(everything(), *networks, "{what}");
        }
    }
}

/// Tries the calls one after the other, until there are no more.
fn at_each_call(mut attempt: impl FnMut(u64) -> Attempt) {
    let set = std::env::var("UMLMON_TEST_STEP").ok();
    let step = set.and_then(|set| set.parse().ok()).unwrap_or(STEP);
    let mut calls = (1..).step_by(step);
    let killed = calls
        .by_ref()
        .take_while(|call| attempt(*call) == Attempt::Killed);
    let killed = killed.count();
    eprintln!("killed at {killed} calls");
    assert!(killed > 1);
}

/// Kills a process at its call of this number: from now on, or from when it executes another program.
fn kills(pid: i32, call: u64, mut counts: bool) -> Injector {
    let mut left = call;
    Injector::on(pid, move |call| {
        counts |= call.number == libc::SYS_execve;
        left = left.wrapping_sub(u64::from(counts));
        match left {
            0 if counts => Fate::Kill,
            _ => Fate::Pass,
        }
    })
}

fn outcome(injector: &Injector, mut is_done: impl FnMut() -> bool) -> Attempt {
    wait_for("the monitor has done its work, or is dead", || {
        if injector.has_ended() {
            return Some(Attempt::Killed);
        }
        let before = injector.calls();
        if !is_done() {
            return None;
        }
        std::thread::sleep(QUIET);
        let quiet = !injector.has_ended() && injector.calls() == before;
        quiet.then_some(Attempt::Spared)
    })
}

/// The state that the VM has and keeps.
#[track_caller]
fn lasting_state(vm: &Vm<'_>) -> String {
    wait_for("a state that lasts", || {
        let state = vm.state();
        let record = fs::read_to_string(vm.file("run")).unwrap_or_default();
        let turns = ["starting", "stopping"].contains(&&*state);
        if turns || record.contains("wanted") || record.contains("disk_change") {
            return None;
        }
        std::thread::sleep(Duration::from_millis(30));
        (vm.state() == state).then_some(state)
    })
}

/// The guest answers on its console.
#[track_caller]
fn answers(vm: &Vm<'_>) {
    let mut console = vm.connect("con1");
    console.send("are you there\n");
    console.expect("are you there\n");
    console.leave();
}

/// What is left of the text of con0 after boots that are whole, and ends of the kernel.
fn after_boots<'t>(mut text: &'t str, boot: &str) -> &'t str {
    while let Some(rest) = [boot]
        .iter()
        .chain(&ENDS)
        .find_map(|part| text.strip_prefix(part))
    {
        text = rest;
    }
    text
}

/// All files below `vardir`, but for logs.
fn files(world: &World) -> BTreeSet<String> {
    fn walk(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            found.insert(entry.path().display().to_string());
            if entry.file_type().unwrap().is_dir() && entry.file_name() != "log" {
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&world.path().join("var"), &mut found);
    found
}

fn while_it_starts(victim: &Victim<'_>) {
    at_each_call(|call| {
        let was = victim.vm.con0().len();
        let attempt = victim.kill_while(call, &["-start"]);
        match attempt {
            Attempt::Killed => victim.goes_on(&format!("start, call {call}"), was),
            Attempt::Spared => victim.vm.kill(),
        }
        attempt
    });
}

#[test]
fn while_a_vm_starts() {
    let Some(world) = World::new() else { return };
    while_it_starts(&Victim::new(&world));
}

#[test]
fn while_a_vm_with_networks_starts() {
    let Some(world) = World::new() else { return };
    while_it_starts(&Victim::with_networks(&world));
}

#[test]
fn while_a_guest_reboots() {
    let Some(world) = World::new() else { return };
    let victim = Victim::new(&world);
    let vm = &victim.vm;
    at_each_call(|call| {
        let was = vm.con0().len();
        let boots = || vm.con0().matches("GUEST-READY").count();
        let before = boots();
        victim.start();
        let mut console = vm.on_con1();
        let attempt = victim.kill_at(
            call,
            || console.send("reboot\n"),
            || boots() == before + 2 && vm.file("run").exists(),
        );
        drop(console);
        match attempt {
            Attempt::Killed => victim.goes_on(&format!("reboot, call {call}"), was),
            Attempt::Spared => vm.kill(),
        }
        attempt
    });
}

#[test]
fn while_a_vm_ends() {
    let Some(world) = World::new() else { return };
    let victim = Victim::new(&world);
    for command in ["-halt", "-ctrlaltdel", "-kill"] {
        at_each_call(|call| {
            let was = victim.vm.con0().len();
            victim.start();
            let attempt = victim.kill_while(call, &[command]);
            match attempt {
                Attempt::Killed => victim.goes_on(&format!("{command}, call {call}"), was),
                Attempt::Spared => victim.vm.wait_inactive(),
            }
            attempt
        });
    }
}

#[test]
fn while_a_monitor_ends() {
    let Some(world) = World::new() else { return };
    let victim = Victim::new(&world);
    at_each_call(|call| {
        let was = victim.vm.con0().len();
        victim.start();
        let monitor = victim.vm.monitor_pid();
        let injector = kills(monitor, call, true);
        send(monitor, Signal::TERM);
        wait_for("the monitor ends", || injector.has_ended().then_some(()));
        let attempt = match injector.faults() {
            0 => Attempt::Spared,
            _ => Attempt::Killed,
        };
        victim.goes_on(&format!("SIGTERM, call {call}"), was);
        attempt
    });
}

#[test]
fn while_a_vm_is_suspended_and_resumed() {
    let Some(world) = World::new() else { return };
    let victim = Victim::new(&world);
    let vm = &victim.vm;
    victim.start();
    let processes = processes_that_stay(vm);
    for command in ["-suspend", "-continue"] {
        at_each_call(|call| {
            if command == "-continue" {
                vm.umlwatch(&["-suspend"]).ok();
            }
            let attempt = victim.kill_while(call, &[command]);
            if attempt == Attempt::Killed {
                vm.start_monitor().ok();
            }
            // What it says is so.
            if lasting_state(vm) == "suspended" {
                vm.umlwatch(&["-continue"]).ok();
            }
            answers(vm);
            assert_eq!(processes_that_stay(vm), processes, "{command}, call {call}");
            attempt
        });
    }
    vm.kill();
    victim.is_clean("at last");
}

/// Whether the VM has its second disk, as the monitor says; that is what it claims.
#[track_caller]
fn has_second_disk(vm: &Vm<'_>, what: &str) -> bool {
    assert_eq!(lasting_state(vm), "running", "{what}");
    let claims = fs::read_to_string(vm.file("jail/shared/locks/vm1+run.held")).unwrap();
    let has = vm.info()["disks"].as_array().unwrap().len() == 2;
    assert_eq!(claims.contains("/disks/1.dsk"), has, "{what}: {claims}");
    has
}

#[test]
fn while_a_disk_is_attached_and_detached() {
    let Some(world) = World::new() else { return };
    let victim = Victim::new(&world);
    let vm = &victim.vm;
    let file = vm.file("jail/disks/1.dsk");
    put(&file, &[1; 4096]);
    victim.start();
    let processes = processes_that_stay(vm);
    let attach = ["-disk-attach", "ubd1:/disks/1.dsk"];
    let detach = ["-disk-detach", "ubd1"];
    for command in [attach, detach] {
        at_each_call(|call| {
            let what = format!("{}, call {call}", command[0]);
            if command == detach {
                vm.umlwatch(&attach).ok();
            }
            let attempt = victim.kill_while(call, &command);
            if attempt == Attempt::Killed {
                vm.start_monitor().ok();
            }
            // The kernel refuses a disk that it has.
            if !has_second_disk(vm, &what) {
                vm.umlwatch(&attach).ok();
            }
            vm.umlwatch(&detach).ok();
            assert!(!has_second_disk(vm, &what));
            assert_eq!(processes_that_stay(vm), processes, "{what}");
            attempt
        });
    }
    vm.kill();
    fs::remove_file(file).unwrap();
    victim.is_clean("at last");
}

/// Has the guest write more than its console takes, kills the monitor meanwhile, and returns how long the log was.
fn leave_flood(victim: &Victim<'_>) -> usize {
    let vm = &victim.vm;
    let was = fs::read(vm.file("log/con1")).unwrap().len();
    let mut console = vm.connect("con1");
    console.send(&format!("flood:con1:{FLOOD}\n"));
    wait_for("the flood begins", || {
        (logged(vm) > (was + 100) as u64).then_some(())
    });
    drop(console);
    was
}

/// The VM is the one that it was, and what it has written is whole.
#[track_caller]
fn goes_on_as_it_was(victim: &Victim<'_>, was: usize, processes: (i32, i32), what: &str) {
    let vm = &victim.vm;
    assert_eq!(vm.state(), "running", "{what}");
    assert_eq!(processes_that_stay(vm), processes, "{what}");
    let log = vm.file("log/con1");
    let command = format!("flood:con1:{FLOOD}\n");
    let whole = wait_for("the flood is logged", || {
        let log = fs::read(&log).unwrap();
        let text = log.get(was..)?;
        (text.len() >= command.len() + FLOOD).then(|| text.to_vec())
    });
    let sent = [command.as_bytes(), &flood(FLOOD)].concat();
    let wrong = whole
        .iter()
        .zip(&sent)
        .position(|(came, sent)| came != sent);
    assert_eq!((wrong, whole.len()), (None, sent.len()), "{what}");
}

/// Exchanges the monitor under a flood, and kills at each call. `attempt` gets the number of the call, and how long the
/// log is when the flood is in it; a monitor is there when it returns.
fn at_each_call_in_a_flood(what: &str, attempt: impl Fn(&Victim<'_>, u64, u64) -> Attempt) {
    let Some(world) = World::new() else { return };
    let victim = Victim::new(&world);
    victim.start();
    let processes = processes_that_stay(&victim.vm);
    at_each_call(|call| {
        let was = leave_flood(&victim);
        let attempt = attempt(&victim, call, (was + FLOOD) as u64);
        goes_on_as_it_was(&victim, was, processes, &format!("{what}, call {call}"));
        attempt
    });
    victim.vm.kill();
    victim.is_clean("at last");
}

/// How long the log of con1 is.
fn logged(vm: &Vm<'_>) -> u64 {
    fs::metadata(vm.file("log/con1")).unwrap().len()
}

#[test]
fn while_a_monitor_takes_a_vm_over() {
    at_each_call_in_a_flood("adoption", |victim, call, end| {
        let vm = &victim.vm;
        kill_monitor(vm);
        // It becomes the next monitor when it is traced.
        let umlmon = victim.world.command("umlmon", &["-fg", vm.name()]);
        let mut command = Command::new("sh");
        command.args(["-c", "read go; exec \"$@\"", "sh"]);
        command.arg(umlmon.get_program()).args(umlmon.get_args());
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut next = pipes.stderr(Stdio::null()).spawn().unwrap();
        let injector = kills(i32::try_from(next.id()).unwrap(), call, false);
        next.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let attempt = outcome(&injector, || logged(vm) > end);
        drop(injector);
        if attempt == Attempt::Spared {
            // It is a child of this process, and the next one of nobody.
            next.kill().unwrap();
        }
        let _ = next.wait();
        vm.start_monitor().ok();
        attempt
    });
}

#[test]
fn while_another_program_takes_its_place() {
    at_each_call_in_a_flood("exchange", |victim, call, end| {
        let vm = &victim.vm;
        let (monitor, before) = (vm.monitor_pid(), adoptions(vm));
        let is_done = || adoptions(vm) > before && logged(vm) > end;
        let attempt = victim.kill_at(call, || send(monitor, Signal::USR2), is_done);
        if attempt == Attempt::Killed {
            vm.start_monitor().ok();
        }
        attempt
    });
}

#[test]
fn a_signal_to_end_that_comes_while_another_program_takes_its_place() {
    let Some(world) = World::new() else { return };
    let victim = Victim::new(&world);
    let vm = &victim.vm;
    at_each_call(|call| {
        let was = vm.con0().len();
        victim.start();
        let monitor = vm.monitor_pid();
        let (mut left, sent) = (call, Arc::new(AtomicBool::new(false)));
        let sends = Arc::clone(&sent);
        let injector = Injector::on(monitor, move |_| {
            left = left.wrapping_sub(1);
            if left == 0 {
                sends.store(true, Ordering::SeqCst);
                send(monitor, Signal::TERM);
            }
            Fate::Pass
        });
        let before = adoptions(vm);
        send(monitor, Signal::USR2);
        let attempt = outcome(&injector, || {
            adoptions(vm) > before && !sent.load(Ordering::SeqCst)
        });
        drop(injector);
        // The VM as well.
        let what = format!("SIGTERM in an exchange, call {call}");
        if attempt == Attempt::Killed {
            assert!(!vm.file("run").exists(), "{what}");
            vm.start_monitor().ok();
            assert_eq!(vm.state(), "inactive", "{what}");
            victim.is_clean(&what);
            assert_eq!(after_boots(&vm.con0()[was..], &victim.boot), "", "{what}");
        } else {
            vm.kill();
        }
        attempt
    });
}
