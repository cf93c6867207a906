//! Tier root: a VM outlives its monitor, however that ends, and the next monitor takes it over.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use e2e::{
    Vm, World, adoptions, exchange_monitor, kill_monitor, kills, outlives,
    processes_that_stay as processes, wait_for,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The record of the running VM.
fn record(vm: &Vm<'_>) -> Value {
    serde_json::from_slice(&fs::read(vm.file("run")).unwrap()).unwrap()
}

#[test]
fn a_vm_outlives_its_monitor() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).disk(1, vec![0; 512]).monitor();
    vm.start();
    outlives(&vm);
    let mode = fs::metadata(vm.file("run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = processes(&vm);
    for _ in 0..3 {
        exchange_monitor(&vm);
        assert_eq!(vm.state(), "running");
        assert_eq!(processes(&vm), before);
        assert_ne!(adoptions(&vm), 0);
    }
    listener_hears_of_it(&vm);
    // Everything works as before.
    let mut console = vm.connect("con1");
    console.send("are you there");
    console.expect("are you there");
    console.leave();
    let refused = vm.umlwatch(&["-disk-delete", "/disks/1.dsk"]).fails(1);
    assert!(refused.contains("in use by this VM"), "{refused}");
    vm.umlwatch(&["-ctrlaltdel"]).ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
    assert!(!vm.file("run").exists());
    assert!(!vm.file("jail/shared/locks/vm1+run.held").exists());
    vm.start();
    vm.kill();
}

/// Who listens to the events learns that the monitor is another one.
fn listener_hears_of_it(vm: &Vm<'_>) {
    let mut command = vm.command(&["-json", "-events"]);
    let mut listener = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines();
    let mut kind = |wanted: &str| {
        let mut kinds = lines.by_ref().map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let kind = event.get("kind").and_then(Value::as_str);
            kind.unwrap().to_owned()
        });
        assert!(kinds.any(|kind| kind == wanted), "{wanted}");
    };
    kind("state");
    exchange_monitor(vm);
    kind("adopted");
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[test]
fn an_end_without_a_monitor_is_told_by_the_next() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    for (signal, how) in [(Signal::KILL, "crashed"), (Signal::TERM, "crashed")] {
        vm.start();
        outlives(&vm);
        let (child, kernel) = processes(&vm);
        kill_monitor(&vm);
        kill(kernel, signal);
        wait_for("the end of the kernel", || {
            let children = fs::read_to_string(format!("/proc/{child}/task/{child}/children"));
            children.unwrap().trim().is_empty().then_some(())
        });
        vm.start_monitor().ok();
        vm.wait_inactive();
        assert_eq!(vm.last_end().0, how);
        assert!(!vm.file("run").exists());
    }
}

#[test]
fn a_reboot_without_a_monitor_is_carried_out_by_the_next() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    outlives(&vm);
    let (child, kernel) = processes(&vm);
    let mut console = vm.on_con1();
    // It does not see the end of the kernel before the monitor is gone.
    kill(child, Signal::STOP);
    console.send("reboot\n");
    wait_for("the end of the kernel", || {
        let stat = fs::read_to_string(format!("/proc/{kernel}/stat")).unwrap();
        stat.contains(") Z ").then_some(())
    });
    kill_monitor(&vm);
    drop(console);
    kill(child, Signal::CONT);
    vm.start_monitor().ok();
    vm.wait_con0("GUEST-READY", 2);
    wait_for("the VM runs", || (vm.state() == "running").then_some(()));
    assert_ne!(vm.pid("child_pid"), child);
    vm.kill();
}

#[test]
fn a_suspended_vm_stays_suspended() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    vm.umlwatch(&["-suspend"]).ok();
    wait_for("it is recorded", || {
        (record(&vm)["state"]["phase"] == "Suspended").then_some(())
    });
    let before = processes(&vm);
    exchange_monitor(&vm);
    assert_eq!(vm.state(), "suspended");
    assert_eq!(processes(&vm), before);
    vm.umlwatch(&["-continue"]).ok();
    assert_eq!(vm.state(), "running");
    vm.kill();
}

#[test]
fn a_stop_that_was_asked_for_stays_asked_for() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).fake("hang-cad").monitor();
    vm.start();
    let mut stop = world.command("umladmin", &["stop", "vm1"]).spawn().unwrap();
    wait_for("the stop is recorded", || {
        let text = fs::read(vm.file("run")).ok()?;
        let record: Value = serde_json::from_slice(&text).ok()?;
        (record["state"]["stop_pending"] == true).then_some(())
    });
    // It would go on with the next monitor, and end the VM.
    stop.kill().unwrap();
    stop.wait().unwrap();
    exchange_monitor(&vm);
    assert_eq!(record(&vm)["state"]["stop_pending"], true);
    vm.kill();
    // Whether the guest was asked before the monitor died cannot be known: it is asked again.
    let vm = world.vm("vm2").monitor();
    vm.start();
    outlives(&vm);
    kill_monitor(&vm);
    let mut asked = record(&vm);
    asked["state"]["stop_pending"] = true.into();
    fs::write(vm.file("run"), asked.to_string()).unwrap();
    vm.start_monitor().ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
}

#[test]
fn a_monitor_that_ends_regularly_ends_the_vm() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    outlives(&vm);
    exchange_monitor(&vm);
    vm.end_monitor();
    // It removes its file a moment before it has ended.
    wait_for("the end of all processes", || {
        let left = xtask::leftovers::processes(world.path());
        left.is_empty().then_some(())
    });
    assert!(!vm.file("run").exists());
    vm.start_monitor().ok();
    assert_eq!(vm.state(), "inactive");
}

/// Puts another record in the place of that of the VM.
fn forge(vm: &Vm<'_>, change: impl FnOnce(&mut Value)) {
    let mut forged = record(vm);
    change(&mut forged);
    fs::write(vm.file("run"), forged.to_string()).unwrap();
}

/// What a refusal must say, and the change of the record that it refuses.
type Change = (&'static str, fn(&mut Value));

#[test]
fn what_is_not_what_was_recorded_is_refused() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    outlives(&vm);
    let before = processes(&vm);
    let good = fs::read(vm.file("run")).unwrap();
    kill_monitor(&vm);
    let changes: [Change; 6] = [
        ("written by another release", |record| {
            record["format"] = 2.into()
        }),
        ("is another one now", |record| {
            let number = record["held"][0]["number"].clone();
            record["held"][1]["number"] = number;
        }),
        ("cannot be had", |record| {
            record["held"][1]["number"] = 999.into()
        }),
        ("is damaged", |record| record["more"] = true.into()),
        ("configuration cannot be read", |record| {
            record["configuration"]["text"] = "[vm1]\nmem = many\n".into();
        }),
        ("is missing", |record| {
            let held = record["held"].as_array_mut().unwrap();
            held.pop();
        }),
    ];
    for (why, change) in changes {
        forge(&vm, change);
        let complaint = vm.start_monitor().fails(1);
        assert!(complaint.contains(why), "{why}: {complaint}");
        let advice = format!("kill -KILL {}", before.0);
        assert!(
            complaint.contains(&advice) || why == "is missing",
            "{complaint}"
        );
        fs::write(vm.file("run"), &good).unwrap();
    }
    // The record of all users is nobody's.
    fs::set_permissions(vm.file("run"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(vm.start_monitor().fails(1).contains("only root"));
    fs::set_permissions(vm.file("run"), fs::Permissions::from_mode(0o600)).unwrap();
    // None of that has harmed it.
    vm.start_monitor().ok();
    assert_eq!((vm.state().as_str(), processes(&vm)), ("running", before));
    let mut console = vm.connect("con1");
    console.send("still there?");
    console.expect("still there?");
    console.leave();
    vm.kill();
}

#[test]
fn a_record_of_a_process_that_has_ended_is_worth_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    outlives(&vm);
    let (child, _) = processes(&vm);
    kill_monitor(&vm);
    // Another process with the number of the one that is recorded, or of another boot.
    let mut bystander = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let good = fs::read(vm.file("run")).unwrap();
    forge(&vm, |record| record["child"]["pid"] = bystander.id().into());
    kill(child, Signal::KILL);
    wait_for("the VM is gone", || {
        (!Path::new(&format!("/proc/{child}")).exists()).then_some(())
    });
    vm.start_monitor().ok();
    assert_eq!(vm.state(), "inactive");
    assert!(!vm.file("run").exists());
    vm.start();
    vm.kill();
    vm.end_monitor();
    fs::write(vm.file("run"), good).unwrap();
    fs::set_permissions(vm.file("run"), fs::Permissions::from_mode(0o600)).unwrap();
    vm.start_monitor().ok();
    assert_eq!(vm.state(), "inactive");
    assert_eq!(bystander.try_wait().unwrap(), None);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn another_program_goes_on_in_the_process_of_the_monitor() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    outlives(&vm);
    let (monitor, before) = (vm.monitor_pid(), processes(&vm));
    for times in 1..4 {
        kill(monitor, Signal::USR2);
        wait_for("the next monitor", || {
            (adoptions(&vm) == times).then_some(())
        });
        wait_for("it answers", || {
            (vm.umlwatch(&["-info"]).status == Some(0)).then_some(())
        });
        assert_eq!(vm.monitor_pid(), monitor);
        assert_eq!((vm.state().as_str(), processes(&vm)), ("running", before));
    }
    vm.umlwatch(&["-ctrlaltdel"]).ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
    // Without a VM it is the same.
    kill(monitor, Signal::USR2);
    wait_for("it answers", || {
        (vm.umlwatch(&["-info"]).status == Some(0)).then_some(())
    });
    assert_eq!(vm.monitor_pid(), monitor);
    vm.start();
    vm.kill();
}

#[test]
fn a_program_that_cannot_adopt_is_not_executed() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    let own = world.path().join("umlmon-of-test");
    fs::copy(e2e::program("umlmon"), &own).unwrap();
    let keeper = own.with_file_name("umlkeep");
    fs::copy(e2e::program("umlkeep"), &keeper).unwrap();
    let mut command = std::process::Command::new(&own);
    e2e::run(command.arg("-config").arg(world.configuration()).arg("vm1")).ok();
    vm.put_files();
    vm.start();
    outlives(&vm);
    let before = processes(&vm);
    fs::remove_file(&own).unwrap();
    for (program, why) in [
        ("#!/bin/sh\nexit 1\n", "cannot take over"),
        ("", "cannot be executed"),
    ] {
        fs::write(&own, program).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        kill(vm.monitor_pid(), Signal::USR2);
        wait_for("it says so", || {
            let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
            (log.contains("this monitor goes on") && log.contains(why)).then_some(())
        });
        assert_eq!((vm.state().as_str(), processes(&vm)), ("running", before));
    }
    vm.kill();
    for file in [own, keeper] {
        fs::remove_file(file).unwrap();
    }
}

/// Waits until the flood is in the log after so many bytes; asserts that it is whole there.
fn expect_flood(vm: &Vm<'_>, console: &str, after: u64, flood: &[u8]) {
    let path = vm.file("log").join(console);
    let after = usize::try_from(after).unwrap();
    let whole = wait_for(&format!("the flood on {console}"), || {
        let log = fs::read(&path).unwrap();
        let begin = flood.get(..64)?;
        let at = log
            .get(after..)?
            .windows(64)
            .position(|part| part == begin)?;
        Some(log.get(after + at..after + at + flood.len())?.to_vec())
    });
    let wrong = whole
        .iter()
        .zip(flood)
        .position(|(came, sent)| came != sent);
    assert_eq!(
        wrong, None,
        "the first wrong byte of the flood on {console}"
    );
}

#[test]
fn no_byte_is_lost_however_often_the_monitor_is_killed() {
    let Some(world) = World::new() else { return };
    let lines = ["con1 = pty:con1", "con2 = pty:con2"];
    let vm = lines.iter().fold(world.vm("vm1"), |vm, line| vm.line(line));
    let vm = vm.monitor();
    vm.start();
    outlives(&vm);
    let before = processes(&vm);
    let size = |log: &str| fs::metadata(vm.file("log").join(log)).map_or(0, |log| log.len());
    for round in 0..kills(4).div_ceil(2) {
        let flood = e2e::flood(3_000_000 + round % 7);
        let was = ["con1", "con2"].map(size);
        let mut session = vm.connect("con1");
        let length = flood.len();
        session.send(&format!("flood:con1:{length}\nflood:con2:{length}\n"));
        // While the one console is written, and while the other one is.
        for (console, was) in ["con1", "con2"].into_iter().zip(was) {
            wait_for("a flood", || (size(console) > was + 1000).then_some(()));
            exchange_monitor(&vm);
        }
        drop(session);
        for (console, was) in ["con1", "con2"].into_iter().zip(was) {
            expect_flood(&vm, console, was, &flood);
        }
    }
    assert_eq!(processes(&vm), before);
    vm.kill();
}
