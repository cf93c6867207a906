//! Tier root: logs that are rotated, or on file systems that are full or break; the ids are those of docs/TESTING.md.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::path::PathBuf;

use e2e::{FailingDisk, SmallDisk, Vm, World, flood, wait_for};

/// The VM and its monitor end.
#[track_caller]
fn end(vm: &Vm<'_>) {
    vm.kill();
    vm.end_monitor();
}

/// F19
#[test]
fn a_log_on_a_full_disk_goes_on_when_there_is_space() {
    let Some(world) = World::new() else { return };
    let logs = SmallDisk::over(&world.path().join("logs"));
    let logdir = format!("logdir = {}", world.path().join("logs").display());
    let vm = world
        .vm("vm1")
        .line(&logdir)
        .line("con1 = pty:con1")
        .monitor();
    vm.umlwatch(&["-start"]).ok();
    let mut console = vm.on_con1();
    logs.fill();
    console.send("flood:con1:100000\n");
    // The guest and the client do not notice.
    console.expect("000000000006249 ");
    assert_eq!(vm.state(), "running");
    logs.empty();
    console.send("there is space\n");
    let log = world.path().join("logs/con1");
    let text = wait_for("the log goes on", || {
        let text = fs::read_to_string(&log).ok()?;
        text.contains("there is space").then_some(text)
    });
    assert!(text.contains("bytes are missing here]"), "{text}");
    console.leave();
    end(&vm);
}

/// F25
#[test]
fn a_log_on_a_file_system_that_became_read_only_goes_on_when_it_is_mounted_anew() {
    let Some(world) = World::new() else { return };
    let disk = FailingDisk::new(&world);
    let logs = disk.directory();
    let vm = world
        .vm("vm1")
        .line(&format!("logdir = {}", logs.display()))
        .line("con1 = pty:con1")
        .monitor();
    vm.umlwatch(&["-start"]).ok();
    let mut console = vm.on_con1();
    disk.fail();
    console.send("nobody notices\n");
    console.expect("nobody notices");
    fs::rename(logs.join("con1"), logs.join("con1.1")).unwrap_err();
    let complaint = vm.umlwatch(&["-rotate"]).fails(1);
    assert!(complaint.contains("Read-only file system"), "{complaint}");
    console.send("flood:con1:1000000\n");
    console.expect("000000000062499 ");
    assert_eq!(vm.state(), "running");
    // It can be repaired when nobody uses it any more, with the logs elsewhere meanwhile.
    disk.unmount();
    vm.umlwatch(&["-rotate"]).ok();
    console.send("elsewhere\n");
    console.expect("elsewhere");
    disk.mount();
    vm.umlwatch(&["-rotate"]).ok();
    console.send("mounted anew\n");
    let log = |text: &str| {
        let log = fs::read_to_string(logs.join("con1")).unwrap();
        log.contains(text).then_some(log)
    };
    let there = wait_for("the log goes on", || log("mounted anew"));
    assert!(!there.contains("elsewhere"), "{there}");
    console.leave();
    end(&vm);
    disk.unmount();
    let there = log("elsewhere").unwrap();
    assert!(there.contains("bytes are missing here]"), "{there}");
}

/// F25, F26
#[test]
fn rotation_under_a_flood_loses_no_byte() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("con1 = pty:con1").monitor();
    vm.start();
    let mut console = vm.on_con1();
    console.send("flood:con1:20000000\n");
    let mut parts: Vec<PathBuf> = Vec::new();
    let log = vm.file("log/con1");
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |log| log.len());
    while parts.iter().chain([&log]).map(size).sum::<u64>() < 20_000_000 {
        let old = vm.file(&format!("log/con1.{}", parts.len()));
        fs::rename(&log, &old).unwrap();
        parts.push(old);
        vm.umlwatch(&["-rotate"]).ok();
    }
    assert!(parts.len() > 2, "it was over before it was rotated");
    console.expect("000000001249999 ");
    console.leave();
    vm.kill();
    parts.push(log);
    let all: Vec<u8> = parts
        .iter()
        .flat_map(|part| fs::read(part).unwrap())
        .collect();
    let marker = b"flood:con1:20000000\n";
    let at = all
        .windows(marker.len())
        .position(|part| part == marker)
        .unwrap();
    assert!(all.get(at + marker.len()..) == Some(&flood(20_000_000)[..]));
}

/// F25
#[test]
fn a_truncated_or_deleted_log_goes_on_without_a_hole() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("con1 = pty:con1").monitor();
    vm.start();
    let mut console = vm.on_con1();
    let log = vm.file("log/con1");
    fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    console.send("truncated");
    wait_for("the log goes on", || {
        (fs::read(&log).ok()? == b"truncated").then_some(())
    });
    fs::remove_file(&log).unwrap();
    vm.umlwatch(&["-rotate"]).ok();
    console.send("deleted");
    wait_for("the log goes on", || {
        (fs::read(&log).ok()? == b"deleted").then_some(())
    });
    console.leave();
    vm.kill();
}

/// A42
#[test]
fn a_guest_that_writes_on_fills_neither_disk_nor_memory() {
    let Some(world) = World::new() else { return };
    let vm = world
        .vm("vm1")
        .line("con1 = pty:con1")
        .line("log_limit = 1")
        .monitor();
    vm.start();
    let mut console = vm.on_con1();
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/statm", vm.monitor_pid())).unwrap();
        let pages = status.split(' ').nth(1).unwrap();
        pages.parse::<u64>().unwrap() * 4096
    };
    let before = memory();
    console.send("flood:con1:50000000\n");
    console.expect("000000003124999 ");
    let logs = || {
        let files = fs::read_dir(vm.file("log")).unwrap().flatten();
        files
            .filter_map(|file| file.metadata().ok())
            .map(|file| file.len())
            .sum::<u64>()
    };
    assert!(logs() < 3 << 20, "{} bytes of logs", logs());
    assert!(
        memory() < before + (4 << 20),
        "{before} bytes became {}",
        memory()
    );
    console.leave();
    vm.kill();
}

/// A58
#[test]
fn a_log_with_another_name_at_each_start_does_not_fill_the_directory() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("log_quota = 16").monitor();
    let start_with = |log: usize| {
        vm.umlwatch(&["-set", &format!("con1=pty:former{log}")])
            .ok();
        vm.umlwatch(&["-start"])
    };
    // Half of 16 MB is full: each of these counts as a megabyte, however little is in it.
    for log in 0..9 {
        start_with(log).ok();
        vm.kill();
    }
    let complaint = start_with(9).fails(1);
    assert!(
        complaint.contains(
            "log/former9: other files in its directory have 9 MB, and half of log_quota, 8 MB"
        ),
        "{complaint}"
    );
    assert!(!vm.file("log/former9").exists());
    // A log that is there already can be used.
    start_with(3).ok();
    end(&vm);
}
