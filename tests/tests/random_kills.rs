//! Tier root: the monitor is killed at random while a VM with disks, copy-on-write images, networks and a shared
//! directory is started, stopped, rebooted and suspended, and while its disks are worked on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use e2e::network::{enter_host, everything, of_each_kind};
use e2e::{Chance, Console, Vm, World, flood, free_port, kills, put, silent, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// At most how long after the beginning of something it is killed.
const LATEST: u64 = 80;
/// How much the guest writes at once.
const FLOOD: usize = 50_000;

/// What is done while the monitor is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// By umlwatch.
    Ask(&'static str),
    /// By umladmin.
    Administer(&'static [&'static str]),
    /// On con1.
    Type(&'static str),
}

use Deed::{Administer, Ask, Type};

const DEEDS: [Deed; 20] = [
    Ask("-start"),
    Ask("-start"),
    Ask("-start"),
    Ask("-halt"),
    Ask("-ctrlaltdel"),
    Ask("-kill"),
    Ask("-suspend"),
    Ask("-suspend"),
    Ask("-continue"),
    Ask("-disk-create /disks/new.dsk:1"),
    Ask("-disk-delete /disks/new.dsk"),
    Ask("-disk-copy /disks/0.dsk:/disks/copy.dsk"),
    Ask("-disk-delete /disks/copy.dsk"),
    Ask("-disk-create-cow /disks/new.cow:/shared/disks/base.dsk"),
    Ask("-disk-delete /disks/new.cow"),
    Administer(&["snapshot", "vm1", "kept"]),
    Administer(&["-yes", "rollback", "vm1", "kept"]),
    Administer(&["stop", "vm1"]),
    Type("reboot\n"),
    Type("flood:con1:50000\n"),
];

/// Where the VM is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    state: String,
    /// Its processes, if it runs.
    processes: Option<(i32, i32)>,
}

impl Place {
    /// Waits for one that lasts.
    #[track_caller]
    fn of(vm: &Vm<'_>) -> Place {
        wait_for("a state that lasts", || {
            let before = Place::now(vm)?;
            std::thread::sleep(Duration::from_millis(30));
            (Place::now(vm)? == before).then_some(before)
        })
    }

    fn now(vm: &Vm<'_>) -> Option<Place> {
        let info = vm.info();
        let state = info["state"].as_str()?.to_owned();
        let is_whole = match state.as_str() {
            "inactive" => true,
            // It would outlive its monitor, and what was asked for is done.
            "running" | "suspended" => {
                fs::read_to_string(vm.file("run")).is_ok_and(|it| !it.contains("wanted"))
            }
            _ => false,
        };
        let number = |name: &str| i32::try_from(info[name].as_i64()?).ok();
        let processes = number("child_pid").zip(number("kernel_pid"));
        is_whole.then(|| Place {
            processes: processes.filter(|_| state != "inactive"),
            state,
        })
    }

    fn is_inactive(&self) -> bool {
        self.state == "inactive"
    }
}

/// Whether this can follow what was there before, if the monitor is killed meanwhile.
fn may_follow(before: &Place, deed: Deed, after: &Place) -> bool {
    let same_run = after.processes == before.processes;
    let unchanged = before == after;
    match deed {
        Ask("-start") if before.is_inactive() => ["inactive", "running"].contains(&&*after.state),
        Ask("-halt" | "-ctrlaltdel" | "-kill") => after.is_inactive() || same_run,
        Ask("-suspend" | "-continue") => same_run,
        // It is not killed for good.
        Administer(["stop", ..]) => after.is_inactive(),
        Type("reboot\n") => unchanged || ["inactive", "running"].contains(&&*after.state),
        _ => unchanged,
    }
}

/// Something that was begun.
enum Begun {
    Client(Child),
    Administrator(Child),
    Session(Console),
}

fn begin(world: &World, vm: &Vm<'_>, deed: Deed) -> Begun {
    match deed {
        Ask(words) => {
            let words: Vec<&str> = words.split(' ').collect();
            Begun::Client(silent(&mut vm.command(&words)))
        }
        Administer(words) => Begun::Administrator(silent(&mut world.command("umladmin", words))),
        Type(text) => {
            let mut session = vm.connect("con1");
            session.send(text);
            Begun::Session(session)
        }
    }
}

/// Kills the monitor, if it is there.
fn kill_monitor(vm: &Vm<'_>) {
    let number = fs::read_to_string(vm.pid_file()).unwrap_or_default();
    if let Ok(number) = number.trim().parse()
        && let Some(pid) = Pid::from_raw(number)
    {
        let _ = kill_process(pid, Signal::KILL);
        wait_for("the monitor is gone", || {
            (!Path::new(&format!("/proc/{number}")).exists()).then_some(())
        });
    }
}

/// Starts the next monitor, and waits for the end of what was begun.
#[track_caller]
fn next_monitor(vm: &Vm<'_>, begun: Begun, what: &str) {
    let client = match begun {
        Begun::Client(client) => Some(client),
        Begun::Administrator(mut umladmin) => {
            // It may start the next monitor itself.
            wait_for("umladmin ends", || umladmin.try_wait().unwrap());
            None
        }
        // It would type what the former monitor has not taken.
        Begun::Session(session) => {
            drop(session);
            None
        }
    };
    let next = vm.start_monitor();
    let runs = next.status == Some(0) || next.stderr.contains("already running");
    assert!(runs, "{what}: {next:#?}");
    if let Some(mut client) = client {
        wait_for("umlwatch ends", || client.try_wait().unwrap());
    }
}

/// What the host has of networks while the VM is inactive, and while it runs.
struct Networks([(String, String); 2]);

/// All is as the state of the VM says.
#[track_caller]
fn check(vm: &Vm<'_>, other: &Vm<'_>, networks: &Networks, place: &Place, what: &str) {
    let expected = &networks.0[usize::from(!place.is_inactive())];
    assert_eq!(everything(), *expected, "{what}");
    let delete = vm.umlwatch(&["-disk-delete", "/disks/0.dsk", "-disk-list"]);
    let start = other.umlwatch(&["-start"]);
    if place.is_inactive() {
        assert!(!vm.file("run").exists(), "{what}");
        assert_eq!(delete.status, Some(0), "{what}: {delete:#?}");
        put(&vm.file("jail/disks/0.dsk"), &[1; 4096]);
        assert_eq!(start.status, Some(0), "{what}: {start:#?}");
        other.kill();
    } else {
        let refused = delete.fails(1);
        assert!(refused.contains("in use by this VM"), "{what}: {refused}");
        let refused = start.fails(1);
        assert!(refused.contains("by vm1"), "{what}: {refused}");
    }
    let names = fs::read_dir(vm.file("jail/disks")).unwrap().flatten();
    let names = names.map(|name| name.file_name().into_string().unwrap());
    let known = |name: &str| {
        ["0.dsk", "1.cow", "new.dsk", "copy.dsk", "new.cow"].contains(&name)
            || name.starts_with(".kept~")
    };
    let odd: Vec<_> = names.filter(|name| !known(name)).collect();
    assert_eq!(odd, [""; 0], "{what}");
}

/// What was on con0 is whole but for the end of a run that has died with its monitor: boots, and ends.
#[track_caller]
fn is_whole(con0: &str, boot: &str, what: &str) {
    let parts = [
        boot,
        "reboot: Restarting system\r\n",
        "reboot: System halted\r\n",
    ];
    let mut rest = con0;
    while !rest.is_empty() {
        match parts.iter().find_map(|part| rest.strip_prefix(part)) {
            Some(after) => rest = after,
            // One that was cut off.
            None => {
                let common = rest.bytes().zip(boot.bytes());
                let common = common.take_while(|(came, sent)| came == sent).count();
                assert!(common > 0, "{what}: {rest:?}");
                rest = &rest[common..];
            }
        }
    }
}

/// The monitor of a VM with some of everything.
fn with_all(world: &World) -> Vm<'_> {
    let shared = world.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let vm = world
        .vm("vm1")
        .line("con1 = pty:con1")
        .disk(0, vec![1; 4096]);
    let vm = vm
        .line("ubd1 = /disks/1.cow")
        .line("ubd2 = /shared/disks/data.dsk");
    let lines = of_each_kind(free_port());
    let vm = lines.iter().fold(vm, |vm, line| vm.line(line));
    vm.line(&format!("share0 = {}", shared.display())).monitor()
}

#[test]
fn whatever_a_vm_does() {
    let Some(world) = World::new() else { return };
    enter_host();
    let vm = with_all(&world);
    let other = world
        .vm("vm2")
        .line("ubd0 = /shared/disks/data.dsk")
        .monitor();
    let disks = world.path().join("var/shared/disks");
    for disk in ["base.dsk", "data.dsk"] {
        put(&disks.join(disk), &[1; 1 << 16]);
    }
    vm.umlwatch(&["-disk-create-cow", "/disks/1.cow:/shared/disks/base.dsk"])
        .ok();
    let without = everything();
    vm.start();
    let networks = Networks([without, everything()]);
    let boot = vm.con0();
    let mut chance = Chance::new();
    let mut before = Place::of(&vm);
    for round in 0..kills(20) {
        let deed = match DEEDS[usize::try_from(chance.below(DEEDS.len() as u64)).unwrap()] {
            // What is typed while the guest does not read is obeyed later.
            Type(_) if before.state == "suspended" => Ask("-continue"),
            deed => deed,
        };
        let what = format!("round {round}, {deed:?} when {}", before.state);
        let log = vm.file("log/con1");
        let was = fs::read(&log).unwrap().len();
        let begun = begin(&world, &vm, deed);
        std::thread::sleep(Duration::from_millis(chance.below(LATEST)));
        kill_monitor(&vm);
        next_monitor(&vm, begun, &what);
        let after = Place::of(&vm);
        assert!(
            may_follow(&before, deed, &after),
            "{what}: {before:?}, {after:?}"
        );
        check(&vm, &other, &networks, &after, &what);
        if deed == Type("flood:con1:50000\n") && before.state == "running" {
            let sent = flood(FLOOD);
            wait_for("the flood", || {
                let log = fs::read(&log).unwrap();
                let came = &log[was..];
                let typed = came.is_empty() || came.ends_with(b"flood:con1:50000\n");
                (came.ends_with(&sent) || typed).then_some(())
            });
        }
        before = after;
    }
    is_whole(&vm.con0(), &boot, "at last");
    if !before.is_inactive() {
        vm.kill();
    }
}
