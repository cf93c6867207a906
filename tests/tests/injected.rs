//! Tier root: system calls of the daemons that fail, or do less than they were asked to; the ids are those of docs/TESTING.md.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions beside the tests, too

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use e2e::host::Cage;
use e2e::{Fate, Injector, Vm, World, run};
use nix::libc;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Calls that take something of the host which can be exhausted.
const TAKES: [i64; 11] = [
    libc::SYS_clone3,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_pipe2,
    libc::SYS_mount,
    libc::SYS_mkdirat,
    libc::SYS_mkdir,
    libc::SYS_epoll_ctl,
    libc::SYS_fcntl,
];

/// What a start, work on disks and the site command say, and that nothing is left of them.
#[track_caller]
fn all_are_refused(vm: &Vm<'_>, why: &[&str]) {
    for command in [
        &["-start"][..],
        &["-disk-create", "/disks/new.dsk:1"],
        &["-disk-list"],
        &["-site", "hello"],
    ] {
        let complaint = vm.umlwatch(command).fails(1);
        for word in why {
            assert!(complaint.contains(word), "{command:?}: {complaint}");
        }
        vm.wait_inactive();
    }
    assert!(!vm.file("jail/disks/new.dsk").exists());
}

/// All of them work.
#[track_caller]
fn all_work(vm: &Vm<'_>) {
    vm.umlwatch(&["-disk-create", "/disks/new.dsk:1"]).ok();
    vm.umlwatch(&["-disk-delete", "/disks/new.dsk"]).ok();
    assert_eq!(vm.umlwatch(&["-site", "hello"]).ok(), "hello\n");
    vm.start();
    end(vm);
}

#[track_caller]
fn end(vm: &Vm<'_>) {
    vm.umlwatch(&["-kill"]).ok();
    vm.wait_inactive();
}

/// F23
#[test]
fn without_processes_nothing_begins_and_what_runs_goes_on() {
    let Some(world) = World::new() else { return };
    let Some(cage) = Cage::new() else { return };
    world.global("sitecmd = /bin/echo");
    let vm = world.vm("vm1").con(1).configure();
    let umlmon = world.command("umlmon", &["vm1"]);
    for allowed in [1, 2] {
        cage.allow(Some(allowed));
        let complaint = run(&mut cage.command(&umlmon)).fails(1);
        assert!(
            complaint.contains("Resource temporarily unavailable"),
            "{complaint}"
        );
        assert!(!vm.pid_file().exists());
    }
    cage.allow(None);
    vm.start_monitor().ok();
    vm.put_files();
    cage.take(vm.monitor_pid());
    cage.allow(Some(1));
    all_are_refused(&vm, &["Resource temporarily unavailable", "pids.max"]);
    cage.allow(None);
    // A guest that reboots is started anew, which does not succeed; its session goes on when somebody starts it.
    vm.start();
    let mut console = vm.on_con1();
    cage.allow(Some(1));
    vm.umlwatch(&["-disk-list"]).fails(1);
    console.send("still here");
    console.expect("still here");
    console.send("\nreboot\n");
    vm.wait_inactive();
    let (how, text) = vm.last_end();
    assert_eq!(how, "not started");
    assert!(text.contains("pids.max"), "{text}");
    cage.allow(None);
    vm.start();
    console.expect("fake login on con1");
    console.leave();
    end(&vm);
    all_work(&vm);
}

/// F23
#[test]
fn without_a_process_for_the_kernel_the_start_says_so() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let monitor = Pid::from_raw(vm.monitor_pid());
    let limit = |current| {
        let maximum = getrlimit(Resource::Nproc).maximum;
        prlimit(monitor, Resource::Nproc, Rlimit { current, maximum }).unwrap()
    };
    // The monitor is root's, whom it does not bound; the second process becomes the user of the VM.
    let before = limit(Some(0));
    let complaint = vm.umlwatch(&["-start"]).fails(1);
    for word in ["Resource temporarily unavailable", "pids_limit"] {
        assert!(complaint.contains(word), "{complaint}");
    }
    vm.wait_inactive();
    limit(before.current);
    vm.start();
    end(&vm);
}

/// F23
#[test]
fn without_memory_for_a_process_nothing_begins() {
    let Some(world) = World::new() else { return };
    world.global("sitecmd = /bin/echo");
    let vm = world.vm("vm1").con(1).monitor();
    let injector = Injector::on(vm.monitor_pid(), |call| match call.number {
        libc::SYS_clone3 => Fate::Fail(Errno::NOMEM),
        _ => Fate::Pass,
    });
    all_are_refused(&vm, &["Cannot allocate memory", "the host has no memory"]);
    drop(injector);
    all_work(&vm);
}

/// F23
#[test]
fn without_memory_a_start_fails_at_any_step_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).disk(0, vec![1; 4096]).monitor();
    let countdown = Arc::new(AtomicI64::new(0));
    let left = Arc::clone(&countdown);
    let injector = Injector::on(vm.monitor_pid(), move |call| {
        let takes = match call.number {
            libc::SYS_fcntl => call.args[1] == u64::from(libc::F_DUPFD_CLOEXEC.unsigned_abs()),
            number => TAKES.contains(&number),
        };
        match takes && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            true => Fate::Fail(Errno::NOMEM),
            false => Fate::Pass,
        }
    });
    let (mut refused, mut lost) = (0, 0);
    for step in 1.. {
        countdown.store(step, Ordering::SeqCst);
        let start = vm.umlwatch(&["-start"]);
        let spared = countdown.swap(0, Ordering::SeqCst) > 0;
        match start.status {
            // It can go on without some of it, as a control group.
            Some(0) => vm.umlwatch(&["-kill"]).ok().truncate(0),
            Some(3) => lost += 1,
            _ => {
                let complaint = start.fails(1);
                assert!(
                    complaint.contains("Cannot allocate memory"),
                    "{step}: {complaint}"
                );
                refused += 1;
            }
        }
        vm.wait_inactive();
        if spared {
            break;
        }
    }
    // The connection itself could not be had once.
    assert_eq!(lost, 1);
    assert!(refused > 20 && injector.faults() > refused, "{refused}");
    drop(injector);
    vm.start();
    end(&vm);
}
