//! Tier root: whole lives of a VM with the fake kernel: every way to start, to end, and to go wrong.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use e2e::{Vm, World, run, sizes_are_recorded, wait_for};
use rustix::process::{Pid, Signal, kill_process};

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The VM is inactive and ended this way, and it can be started again.
#[track_caller]
fn ended(vm: &Vm<'_>, how: &str, text: &str) {
    vm.wait_inactive();
    let (said_how, said) = vm.last_end();
    assert_eq!(said_how, how, "{said}");
    assert!(said.contains(text), "{said}");
    vm.start();
    vm.kill();
    assert_eq!(vm.last_end().0, "killed");
}

#[test]
fn a_vm_lives_and_there_are_two_umlmon_processes() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    assert_eq!(vm.state(), "inactive");
    assert_eq!(vm.last_end().0, "none");

    vm.start();
    assert_eq!(vm.state(), "running");
    let (monitor, child, kernel) = (
        vm.pid("monitor_pid"),
        vm.pid("child_pid"),
        vm.pid("kernel_pid"),
    );
    assert_eq!(monitor, vm.monitor_pid());
    for (pid, name) in [
        (monitor, "umlmon"),
        (child, "umlmon"),
        (kernel, "fake_linux"),
    ] {
        assert_eq!(
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .unwrap()
                .trim(),
            name
        );
    }
    let children = |pid| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children(monitor).trim(), child.to_string());
    assert_eq!(children(child).trim(), kernel.to_string());

    vm.umlwatch(&["-ctrlaltdel"]).ok();
    ended(&vm, "halted", "");
}

#[test]
fn a_second_start_is_told_that_it_runs() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let outcomes = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| vm.umlwatch(&["-start"])))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (started, refused): (Vec<_>, Vec<_>) = outcomes
        .into_iter()
        .partition(|outcome| outcome.status == Some(0));
    assert_eq!(started.len(), 1, "{started:#?}");
    for outcome in refused {
        let complaint = outcome.fails(1);
        assert!(complaint.contains("already"), "{complaint}");
    }
    vm.umlwatch(&["-halt"]).ok();
    vm.wait_inactive();
}

#[test]
fn suspend_and_continue() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("fake login on con1");

    vm.umlwatch(&["-suspend"]).ok();
    assert_eq!(vm.state(), "suspended");
    console.send("asleep");
    assert!(vm.umlwatch(&["-suspend"]).fails(1).contains("suspended"));
    vm.umlwatch(&["-continue"]).ok();
    console.expect("asleep");
    assert_eq!(vm.state(), "running");
    console.leave();

    // A suspended guest could not shut down, so it is resumed first.
    vm.umlwatch(&["-suspend", "-ctrlaltdel"]).ok();
    ended(&vm, "halted", "");
}

#[test]
fn what_was_started_is_running() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    // The kernel's own word that it is up may come before the child's that it executes.
    vm.umlwatch(&["-start", "-suspend", "-kill"].repeat(50))
        .ok();
    vm.wait_inactive();
}

#[test]
fn every_way_a_kernel_can_end_is_told_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    for (typed, how, text) in [
        ("poweroff", "halted", ""),
        (
            "panic:Attempted to kill init!",
            "panicked",
            "Attempted to kill init!",
        ),
        ("crash", "crashed", "signal 6"),
        ("kill-yourself", "crashed", "signal 9"),
        ("exit:3", "crashed", "exit status 3"),
    ] {
        vm.start();
        let mut console = vm.connect("con1");
        console.expect("fake login on con1");
        console.send(&format!("{typed}\n"));
        console.expect_remark("[vm1 is down");
        ended(&vm, how, text);
        console.leave();
    }
}

#[test]
fn kernel_and_child_can_be_killed_from_outside() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    kill(vm.pid("kernel_pid"), Signal::KILL);
    ended(&vm, "crashed", "signal 9");
    vm.start();
    kill(vm.pid("kernel_pid"), Signal::TERM);
    ended(&vm, "crashed", "exit status 1");
    vm.start();
    kill(vm.pid("child_pid"), Signal::KILL);
    ended(&vm, "crashed", "");
}

/// The program with these bytes at this place.
fn patched(program: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut program = program.to_vec();
    program.splice(at..at + bytes.len(), bytes.iter().copied());
    program
}

#[test]
fn a_start_that_cannot_be_says_why_and_undoes_everything() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").disk(1, "x").monitor();
    let kernel = vm.file("jail/shared/kernels/fake_linux");
    let refused = |reason: &str| {
        let complaint = vm.umlwatch(&["-start"]).fails(1);
        assert!(
            complaint.starts_with("umlwatch: vm1: cannot start: ") && complaint.contains(reason),
            "{complaint}"
        );
        vm.wait_inactive();
        let (how, text) = vm.last_end();
        assert!(
            how == "not-started" && text.contains(reason),
            "{how}: {text}"
        );
    };
    fs::remove_file(vm.file("jail/disks/1.dsk")).unwrap();
    refused("/disks/1.dsk");
    vm.put_files();
    fs::set_permissions(&kernel, fs::Permissions::from_mode(0o644)).unwrap();
    refused("execut");
    fs::write(&kernel, b"\x7fELF\x01 of some other machine").unwrap();
    fs::set_permissions(&kernel, fs::Permissions::from_mode(0o755)).unwrap();
    refused("/shared/kernels/fake_linux");
    let good = fs::read(e2e::program("fake_linux")).unwrap();
    // The field e_machine of elf(5), and the value of AArch64.
    fs::write(&kernel, patched(&good, 18, &183_u16.to_le_bytes())).unwrap();
    refused("is a program for ARM 64-bit architecture");
    let libc = b"\0libc.so.6\0";
    let at = good.windows(libc.len()).position(|part| part == libc);
    fs::write(&kernel, patched(&good, at.unwrap(), b"\0libz.so.9\0")).unwrap();
    refused("needs the library libz.so.9");
    fs::remove_file(&kernel).unwrap();
    refused("/shared/kernels/fake_linux");
    vm.put_files();
    vm.start();
    vm.umlwatch(&["-halt"]).ok();
    ended(&vm, "halted", "");
}

#[test]
fn a_kernel_that_gives_up_at_once_is_quoted() {
    let Some(world) = World::new() else { return };
    let vm = world
        .vm("vm1")
        .fake("give-up:Too-few-physical-memory!")
        .monitor();
    let complaint = vm.umlwatch(&["-start"]).fails(1);
    assert!(
        complaint.contains("the kernel ended at once: ")
            && complaint.contains("Too-few-physical-memory!"),
        "{complaint}"
    );
    vm.wait_inactive();
}

#[test]
fn a_reboot_keeps_the_session() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("fake login on con1");
    console.send("reboot\n");
    console.expect("fake login on con1");
    // The kernel may say so before the monitor knows that it runs, and takes what is typed.
    wait_for("it runs again", || (vm.state() == "running").then_some(()));
    console.send("still here?");
    console.expect("still here?");
    assert_eq!(vm.info()["reboots"], 1);
    assert_eq!(vm.state(), "running");
    console.send("\npoweroff\n");
    ended(&vm, "halted", "");
    console.leave();
}

#[test]
fn stop_goes_up_the_ladder_until_the_vm_is_down() {
    let Some(world) = World::new() else { return };
    let vms = [
        world.vm("obeys").user("nobody").monitor(),
        world
            .vm("reboots")
            .user("games")
            .fake("reboot-on-cad")
            .monitor(),
        world.vm("hangs").user("news").fake("hang-cad").monitor(),
        world
            .vm("mute")
            .user("uucp")
            .fake("silent-mconsole")
            .monitor(),
    ];
    vms.iter().for_each(Vm::start);
    let said = world.umladmin(&["-timeout", "1", "stop"]);
    assert_eq!(said.status, Some(0), "{said:#?}");
    for vm in &vms {
        assert!(
            said.stdout.contains(&format!("{}: down", vm.name())),
            "{said:#?}"
        );
        assert!(!vm.pid_file().exists());
    }
    // The one that hung was made to save its disks before it was halted.
    assert!(vms[2].con0().contains("Emergency Sync complete"));
    assert!(vms[2].con0().contains("Emergency Remount complete"));
    // A reboot is not carried out while the VM is being stopped.
    assert_eq!(vms[1].con0().matches("GUEST-READY").count(), 1);
}

#[test]
fn a_frozen_kernel_holds_up_nobody() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").fake("silent-mconsole").monitor();
    vm.start();
    let asked = std::time::Instant::now();
    assert_eq!(vm.info()["responding"], false);
    assert!(
        asked.elapsed().as_secs() < 3,
        "-info took {:?}",
        asked.elapsed()
    );
    vm.umlwatch(&["-kill"]).ok();
    ended(&vm, "killed", "");
}

#[test]
fn a_vm_ends_with_its_monitor_and_what_is_left_is_no_obstacle() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    for signal in [Signal::TERM, Signal::KILL] {
        vm.start();
        let (monitor, child) = (vm.monitor_pid(), vm.pid("child_pid"));
        kill(monitor, signal);
        if signal == Signal::KILL {
            // It would go on without the monitor.
            kill(child, signal);
        }
        wait_for("the VM goes with its monitor", || {
            xtask::leftovers::processes(world.path())
                .is_empty()
                .then_some(())
        });
        // Stale files, sockets and mounts are no obstacle.
        vm.start_monitor().ok();
        assert_eq!(vm.state(), "inactive");
    }
    vm.start();
    vm.umlwatch(&["-halt"]).ok();
    vm.wait_inactive();
}

#[test]
fn there_is_one_monitor_for_a_vm() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let complaint = vm.start_monitor().fails(1);
    assert!(
        complaint.contains(&vm.monitor_pid().to_string()),
        "{complaint}"
    );
    assert_eq!(vm.state(), "inactive");
    let complaint = run(&mut world.command("umlmon", &["vm2"])).fails(1);
    assert!(complaint.contains("vm2"), "{complaint}");
}

#[test]
fn administrators_start_list_and_update() {
    let Some(world) = World::new() else { return };
    let manual = world.vm("manual").monitor();
    let off = world
        .vm("off")
        .user("games")
        .line("start = off")
        .configure();
    let boot = world
        .vm("boot")
        .user("news")
        .line("start = boot")
        .configure();
    // The kernel is shared, so it is there already.
    world.umladmin(&["start"]);
    boot.wait_con0("GUEST-READY", 1);
    assert_eq!(
        (boot.state().as_str(), manual.state().as_str()),
        ("running", "inactive")
    );
    off.umlwatch(&["-info"]).fails(3);
    let list = world.umladmin(&["-active", "list"]).ok();
    assert!(list.contains("boot") && !list.contains("manual"), "{list}");

    world.forget(&boot);
    world.umladmin(&["update"]).ok();
    assert!(boot.umlwatch(&["-info"]).fails(1).contains("no such VM"));
    assert_eq!(manual.state(), "inactive");
}

#[test]
fn what_is_removed_is_stopped_wherever_its_files_were() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    // Neither the VM nor where its socket is can be read from the configuration any more.
    let moved = format!(
        "[GLOBAL]\nvardir = {0}/elsewhere\nrundir = {0}/run\n",
        world.path().display()
    );
    let before = std::fs::read_to_string(world.configuration()).unwrap();
    std::fs::write(world.configuration(), moved).unwrap();
    let said = world.umladmin(&["update"]).ok();
    // It was shut down, not only killed.
    assert!(said.contains("vm1: down"), "{said}");
    assert!(
        vm.con0().contains("System halted") || vm.con0().contains("Power down"),
        "{}",
        vm.con0()
    );
    assert!(!vm.pid_file().exists() && !vm.file("ctrl").exists());
    std::fs::write(world.configuration(), before).unwrap();
    vm.start_monitor().ok();
    assert_eq!(vm.state(), "inactive");
}

#[test]
fn a_flood_on_a_console_is_logged_byte_for_byte() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("con1 = pty:con1").monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("fake login on con1\r\n");
    console.send("flood:con1:5000000\n");
    vm.expect_log("con1", "flood:con1:5000000\n", &e2e::flood(5_000_000));
    // A connected client sees the end of the output, even if it is too slow for all of it.
    console.expect("000000000312499 ");
    console.leave();
    vm.umlwatch(&["-halt"]).ok();
    vm.wait_inactive();
}

/// Open files, and memory of its own in kilobytes, of a process. What it has of its program depends on what it did
/// last, and on the host.
fn usage(pid: i32) -> (usize, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kilobytes = line.trim().trim_end_matches(" kB").parse().unwrap();
    (
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        kilobytes,
    )
}

#[test]
fn a_thousand_starts_leave_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let ctrl = ["-start", "-kill"].repeat(50);
    // The first ones may still fill caches.
    vm.umlwatch(&ctrl).ok();
    vm.wait_inactive();
    let before = usage(vm.monitor_pid());
    for _ in 0..19 {
        vm.umlwatch(&ctrl).ok();
    }
    vm.wait_inactive();
    // The monitor closes a connection a moment after the client does.
    let after = wait_for("the monitor has no more files open than before", || {
        Some(usage(vm.monitor_pid())).filter(|after| after.0 <= before.0)
    });
    // Half of it is the history of con0, which fills now.
    assert!(
        after.1 <= before.1 + 512,
        "memory of the monitor grew from {} to {} KB",
        before.1,
        after.1
    );
}

/// Input I25: such as one that waits for a system call that the jail does not allow.
#[test]
fn a_kernel_that_never_reports_its_mconsole_is_told() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").fake("never-up").monitor();
    vm.umlwatch(&["-start"]).ok();
    assert_eq!(vm.info()["responding"], true, "it may still boot");
    let expected = "the kernel has not reported its mconsole for 30 s";
    let log = vm.file("log/monitor");
    wait_for("it is logged", || {
        fs::read_to_string(&log)
            .unwrap()
            .contains(expected)
            .then_some(())
    });
    assert_eq!(vm.info()["responding"], false);
    vm.kill();
}

/// Input I14.
#[test]
fn a_recording_has_the_sizes_of_the_window() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    sizes_are_recorded(&world, &vm, |user, rows, columns| {
        user.send(&format!("{rows} {columns}\r"));
        user.expect(&format!("{rows} {columns}"));
    });
    vm.kill();
}
