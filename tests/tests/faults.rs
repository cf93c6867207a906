//! Tier root: what breaks around a VM, and what must go on nevertheless; the ids are those of docs/TESTING.md.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{SmallDisk, Vm, World, flood, program, run, wait_for};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The VM can be commanded, and ended.
#[track_caller]
fn is_fine(vm: &Vm<'_>) {
    vm.start();
    vm.kill();
}

/// F8
#[test]
fn stopped_processes_hold_up_nobody() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    for stopped in ["kernel_pid", "child_pid"] {
        vm.start();
        kill(vm.pid(stopped), Signal::STOP);
        let asked = Instant::now();
        assert_eq!(vm.info()["responding"], stopped == "child_pid");
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{:?}",
            asked.elapsed()
        );
        vm.kill();
        assert_eq!(vm.last_end().0, "killed");
    }
}

/// F12, F13, F14, F15
#[test]
fn what_a_former_monitor_left_is_neither_believed_nor_in_the_way() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    let child = vm.pid("child_pid");
    kill(vm.monitor_pid(), Signal::KILL);
    kill(child, Signal::KILL);
    wait_for("nothing runs", || {
        xtask::leftovers::processes(world.path())
            .is_empty()
            .then_some(())
    });
    assert!(vm.file("ctrl").exists() && vm.pid_file().exists());
    assert!(!xtask::leftovers::mounts(world.path()).is_empty());
    let groups = || xtask::leftovers::groups(&world.path().join("var"));
    let bounded = !groups().is_empty();
    // Meanwhile another process has the number, and it must get no signal.
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(vm.pid_file(), format!("{}\n", bystander.id())).unwrap();
    vm.umlwatch(&["-info"]).fails(3);
    world.umladmin(&["stop"]);
    world.umladmin(&["-force", "stop"]);
    assert_eq!(bystander.try_wait().unwrap(), None);
    vm.start_monitor().ok();
    assert_eq!(groups(), [""; 0]);
    is_fine(&vm);
    // A host without control groups has none to be left.
    vm.start();
    assert_eq!(!groups().is_empty(), bounded);
    vm.kill();
    assert_eq!(groups(), [""; 0]);
    assert_eq!(bystander.try_wait().unwrap(), None);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// F19
#[test]
fn a_full_disk_keeps_the_old_configuration() {
    let Some(world) = World::new() else { return };
    let disk = SmallDisk::over(&world.path().join("var/vm1"));
    let vm = world.vm("vm1").configure();
    vm.start_monitor().ok();
    vm.umlwatch(&["-set", "mem=32"]).ok();
    let before = fs::read_to_string(vm.file("config")).unwrap();
    disk.fill();
    let complaint = vm
        .umlwatch(&["-set", "con2=pty", "-set", "kernelarg=quiet"])
        .fails(1);
    assert!(complaint.contains("No space left"), "{complaint}");
    assert_eq!(fs::read_to_string(vm.file("config")).unwrap(), before);
    disk.empty();
    vm.umlwatch(&["-set", "mem=48"]).ok();
    let names = fs::read_dir(vm.file("")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        names.len(),
        5,
        "more than config, ctrl, jail, lock and log: {names:?}"
    );
    vm.end_monitor();
}

/// F19
#[test]
fn a_full_disk_keeps_a_monitor_from_starting_and_not_from_working() {
    let Some(world) = World::new() else { return };
    let disk = SmallDisk::over(&world.path().join("run"));
    let vm = world.vm("vm1").configure();
    disk.fill();
    let complaint = vm.start_monitor().fails(1);
    assert!(complaint.contains("No space left"), "{complaint}");
    assert!(!vm.pid_file().exists());
    disk.empty();
    vm.start_monitor().ok();
    vm.put_files();
    disk.fill();
    is_fine(&vm);
    disk.empty();
    vm.end_monitor();
}

/// F22
#[test]
fn without_descriptors_a_monitor_waits_and_its_sessions_live() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let monitor = Pid::from_raw(vm.monitor_pid());
    let limit = |current| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(monitor, Resource::Nofile, Rlimit { current, maximum }).unwrap()
    };
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", vm.monitor_pid()))
            .unwrap()
            .count() as u64
    };
    // Enough for the connection, not for the start, wherever that comes to its end.
    let normal = limit(Some(256));
    for spare in 2..12 {
        limit(Some(open() + spare));
        let complaint = vm.umlwatch(&["-start"]).fails(1);
        assert!(complaint.contains("Too many open files"), "{complaint}");
        limit(normal.current);
        vm.wait_inactive();
    }
    vm.start();
    let mut console = vm.on_con1();
    limit(Some(3));
    let mut waiting = vm
        .command(&["-info"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the monitor notes it", || {
        let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
        log.contains("cannot accept a connection").then_some(())
    });
    console.send("still here");
    console.expect("still here");
    assert_eq!(waiting.try_wait().unwrap(), None);
    limit(normal.current);
    let mut page = String::new();
    waiting
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut page)
        .unwrap();
    assert!(page.starts_with("vm1 is running"), "{page}");
    assert!(waiting.wait().unwrap().success());
    console.leave();
    vm.kill();
}

/// F27
#[test]
fn a_client_that_vanishes_leaves_nothing_and_changes_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", vm.monitor_pid()))
            .unwrap()
            .count()
    };
    let before = open();
    // Killed while it is connected, while it waits, and while it has asked for something that takes long.
    for command in [["-connect", "con1"], ["-wait", "60"], ["-tail", "con0,100"]] {
        let mut client = vm.command(&command);
        let mut client = client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        if command[0] != "-tail" {
            // The monitor's ends are no sign: that of the command before may close just now.
            let fds = format!("/proc/{}/fd", client.id());
            wait_for("it is connected", || {
                let mut fds = fs::read_dir(&fds).unwrap().flatten();
                let links = fds.by_ref().flat_map(|fd| fs::read_link(fd.path()));
                let mut names = links.map(|link| link.display().to_string());
                names.any(|name| name.starts_with("socket:")).then_some(())
            });
        }
        client.kill().unwrap();
        client.wait().unwrap();
    }
    wait_for("the connections are closed", || {
        (open() <= before).then_some(())
    });
    assert!(vm.info()["channels"][1]["writer"].is_null());
    assert_eq!(vm.state(), "running");
    vm.kill();
}

/// A39, F28
#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(2).line("con1 = pty:con1").monitor();
    vm.start();
    let mut stuck = vm.command(&["-connect", "con1"]);
    let mut stuck = stuck
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("it is connected", || {
        (!vm.info()["channels"][1]["writer"].is_null()).then_some(())
    });
    let pid = Pid::from_child(&stuck);
    kill_process(pid, Signal::STOP).unwrap();
    let mut other = vm.connect("con2");
    other.expect("fake login on con2");
    other.send("flood:con1:5000000\n");
    vm.expect_log("con1", "fake login on con1\r\n", &flood(5_000_000));
    other.send("still here");
    other.expect("still here");
    // A client that takes the console over finds it at its end.
    let mut next = vm.terminal("-force-connect", "con1", 24, 80);
    next.expect("000000000312499 ");
    next.send("\x1d");
    assert_eq!(next.wait(), Some(0));
    // And it is told what it has missed.
    kill_process(pid, Signal::CONT).unwrap();
    let stdin = stuck.stdin.take();
    let late = stuck.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(late.status.code(), Some(1));
    let told = String::from_utf8(late.stderr).unwrap();
    assert!(told.contains(" bytes skipped]\n"), "{told}");
    assert!(told.contains("con1 was taken over by"), "{told}");
    other.leave();
    vm.kill();
}

/// A session can be left although its monitor does not answer.
#[test]
fn a_stopped_monitor_keeps_nobody_in_a_session() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut terminal = vm.terminal("-connect", "con1", 24, 80);
    terminal.expect("fake login on con1");
    let monitor = Pid::from_raw(vm.monitor_pid()).unwrap();
    kill_process(monitor, Signal::STOP).unwrap();
    terminal.send("\x1d.");
    let left = terminal.wait();
    kill_process(monitor, Signal::CONT).unwrap();
    assert_eq!(left, Some(0));
}

/// F31
#[test]
fn nonsense_in_the_configuration_stops_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut console = vm.on_con1();
    let good = fs::read_to_string(world.configuration()).unwrap();
    for nonsense in ["nonsense", "mem = lots"] {
        fs::write(world.configuration(), format!("{good}{nonsense}\n")).unwrap();
        let line = 1 + good.lines().count();
        let place = format!("{}:{line}: ", world.configuration().display());
        let complaint = world.umladmin(&["update"]).fails(1);
        assert!(complaint.contains(&place), "{complaint}");
        console.send("still here");
        console.expect("still here");
        for command in ["-set=con2=pty", "-start"] {
            if command == "-start" {
                vm.umlwatch(&["-kill"]).ok();
            }
            let complaint = vm.umlwatch(&[command]).fails(1);
            assert!(complaint.contains(&place), "{complaint}");
        }
        fs::write(world.configuration(), &good).unwrap();
        vm.start();
        console.expect("fake login on con1");
    }
    console.leave();
    vm.kill();
    assert_eq!(vm.info()["pending"], serde_json::json!([]));
    is_fine(&vm);
}

/// F33, F34
#[test]
fn a_start_that_breaks_off_leaves_no_half_state() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("silent").fake("give-up:").monitor();
    let complaint = vm.umlwatch(&["-start"]).fails(1);
    assert!(complaint.contains("exit status 1"), "{complaint}");
    vm.wait_inactive();

    let vm = world.vm("vm1").user("games").monitor();
    let tmp = vm.file("jail/tmp");
    fs::remove_dir(&tmp).unwrap();
    fs::write(&tmp, "").unwrap();
    let complaint = vm.umlwatch(&["-start"]).fails(1);
    assert!(complaint.contains(&*tmp.to_string_lossy()), "{complaint}");
    vm.wait_inactive();
    fs::remove_file(&tmp).unwrap();
    // The monitor keeps to the directory it has made, so this needs a new monitor.
    vm.end_monitor();
    vm.start_monitor().ok();
    is_fine(&vm);
}

/// F41
#[test]
fn after_a_reboot_of_the_host_all_vms_that_shall_boot_do() {
    let Some(world) = World::new() else { return };
    let vms: Vec<_> = [("one", "nobody"), ("two", "games"), ("three", "news")]
        .into_iter()
        .map(|(name, user)| world.vm(name).user(user).line("start = boot").monitor())
        .collect();
    vms.iter().for_each(Vm::start);
    for vm in &vms {
        let child = vm.pid("child_pid");
        kill(vm.monitor_pid(), Signal::KILL);
        kill(child, Signal::KILL);
    }
    wait_for("nothing runs", || {
        xtask::leftovers::processes(world.path())
            .is_empty()
            .then_some(())
    });
    world.umladmin(&["start"]).ok();
    for vm in &vms {
        vm.wait_con0("GUEST-READY", 2);
        assert_eq!(vm.state(), "running");
    }
}

/// F47
#[test]
fn a_monitor_goes_on_when_its_program_is_replaced() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    let old = world.path().join("umlmon-old");
    fs::copy(program("umlmon"), &old).unwrap();
    let keeper = old.with_file_name("umlkeep");
    fs::copy(program("umlkeep"), &keeper).unwrap();
    let mut command = Command::new(&old);
    run(command.arg("-config").arg(world.configuration()).arg("vm1")).ok();
    vm.put_files();
    for program in [old, keeper] {
        fs::remove_file(&program).unwrap();
        fs::write(&program, "#!/bin/false\n").unwrap();
    }
    is_fine(&vm);
}

/// F48
#[test]
fn odd_terminals_work() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    for (term, locale, rows, columns) in [("", "C", 0, 0), ("no-such", "xx_YY", 1, 65535)] {
        let mut command = Command::new("env");
        let client = vm.command(&["-connect", "con1"]);
        command
            .args([format!("TERM={term}"), format!("LC_ALL={locale}")])
            .arg(client.get_program())
            .args(client.get_args());
        let mut terminal = e2e::Terminal::run(&command, rows, columns);
        terminal.expect("fake login on con1");
        terminal.send("one");
        terminal.expect("one");
        terminal.resize(7, 9);
        // Typed twice, CTRL-] is for the guest.
        terminal.send("\x1d\x1dtwo");
        terminal.expect("\x1dtwo");
        terminal.send("\x1d");
        assert_eq!(terminal.wait(), Some(0));
    }
    vm.kill();
}

/// F54
#[test]
fn root_without_its_privileges_is_told_what_is_missing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    let monitor = world.command("umlmon", &[vm.name()]);
    let mut lesser = Command::new("setpriv");
    lesser
        .args(["--bounding-set", "-sys_admin"])
        .arg(monitor.get_program())
        .args(monitor.get_args());
    let said = e2e::run(&mut lesser).fails(1);
    assert!(
        said.contains("umlmon: vm1: root has no CAP_SYS_ADMIN"),
        "{said}"
    );
    assert!(!vm.pid_file().exists());
}
