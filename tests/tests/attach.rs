//! Tier root: disks that are attached to a kernel that runs, and detached: checks, claims, and monitors that die.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::{Vm, World, exchange_monitor, kill_monitor, listed, outlives, put, wait_for};
use serde_json::Value;

/// A VM with a disk and a console, and a file of its own for another disk, all of it a hole.
fn vm<'w>(world: &'w World, name: &str) -> Vm<'w> {
    let vm = world.vm(name).con(1).disk(0, vec![0; 4096]).monitor();
    hollow(&vm, "disks/data.dsk");
    vm
}

fn hollow(vm: &Vm<'_>, name: &str) {
    let path = vm.file("jail").join(name);
    put(&path, b"");
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
}

/// The disks as `-info` tells them: number, file, and whether they are only read.
fn disks(vm: &Vm<'_>) -> Vec<(String, String, bool)> {
    let info = vm.info();
    let disks = info["disks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    disks
        .map(|disk| {
            let only_read = disk["read_only"] == true;
            (text(&disk["ubd"]), text(&disk["file"]), only_read)
        })
        .collect()
}

fn has(vm: &Vm<'_>, expected: &[(&str, &str)]) {
    let found = disks(vm);
    let found: Vec<_> = found
        .iter()
        .map(|(ubd, file, _)| (ubd.as_str(), file.as_str()))
        .collect();
    assert_eq!(found, expected);
}

/// What the VM claims for its kernel, as names of disks.
fn claimed(vm: &Vm<'_>) -> Vec<String> {
    let held = vm.file(&format!("jail/shared/locks/{}+run.held", vm.name()));
    let claims: Value = serde_json::from_slice(&fs::read(held).unwrap()).unwrap();
    let claims = claims.as_array().unwrap().iter();
    claims
        .map(|claim| claim["disk"].as_str().unwrap().to_owned())
        .collect()
}

/// Has the fake kernel obey a word, which the console may show from before, too.
fn tell(vm: &Vm<'_>, word: &str) {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let told = format!("-{}-", TOLD.fetch_add(1, Ordering::Relaxed));
    let mut console = vm.connect("con1");
    console.send(&format!("{word}\n{told}\n"));
    console.expect(&told);
    console.leave();
}

const ATTACH: [&str; 2] = ["-disk-attach", "ubd1:/disks/data.dsk"];
const DETACH: [&str; 2] = ["-disk-detach", "ubd1"];
const ROOT: (&str, &str) = ("ubd0", "/disks/0.dsk");
const DATA: (&str, &str) = ("ubd1", "/disks/data.dsk");

#[test]
fn a_disk_comes_and_goes_while_the_kernel_runs() {
    let Some(world) = World::new() else { return };
    let vm = vm(&world, "vm1");
    vm.start();
    let delete = ["-disk-delete", "/disks/data.dsk"];
    for (wish, flags, only_read) in [("", "sd", false), (":ro", "rsd", true)] {
        let argument = format!("{}{wish}", ATTACH[1]);
        vm.umlwatch(&["-disk-attach", &argument]).ok();
        vm.wait_con0(&format!("mconsole: config ubd1{flags}=/disks/data.dsk"), 1);
        has(&vm, &[ROOT, DATA]);
        assert_eq!(disks(&vm)[1].2, only_read);
        assert_eq!(claimed(&vm), ["/disks/0.dsk", "/disks/data.dsk"]);
        let users = &listed(&vm, "/disks/data.dsk")["users"];
        assert_eq!(
            (&users[0]["role"], &users[0]["writing"]),
            (&"ubd1".into(), &(!only_read).into())
        );
        let refused = vm.umlwatch(&delete).fails(1);
        assert!(refused.contains("in use by this VM"), "{refused}");
        vm.umlwatch(&DETACH).ok();
        has(&vm, &[ROOT]);
        assert_eq!(claimed(&vm), ["/disks/0.dsk"]);
    }
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    for told in [
        "disk-attach ubd1:/disks/data.dsk requested",
        "disk-attach ubd1:/disks/data.dsk is done",
        "disk-detach ubd1 is done",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
    vm.umlwatch(&delete).ok();
    vm.kill();
    assert!(!vm.file("jail/shared/locks/vm1+run.held").exists());
}

#[test]
fn a_disk_that_a_start_would_refuse_is_refused() {
    let Some(world) = World::new() else { return };
    let (vm, other) = (vm(&world, "vm1"), vm(&world, "vm2"));
    let refused = vm.umlwatch(&ATTACH).fails(3);
    assert!(refused.contains("not running"), "{refused}");
    vm.umlwatch(&DETACH).fails(3);
    vm.start();
    other.start();
    hollow(&vm, "shared/disks/shared.dsk");
    let taken = ["-disk-attach", "ubd1:/shared/disks/shared.dsk"];
    other.umlwatch(&taken).ok();
    hollow(&vm, "disks/base.dsk");
    vm.umlwatch(&["-disk-create-cow", "/disks/a.cow:/disks/base.dsk"])
        .ok();
    symlink("/etc/passwd", vm.file("jail/disks/link.dsk")).unwrap();
    for (disk, why) in [
        ("ubd0:/disks/data.dsk", "ubd0 is /disks/0.dsk"),
        ("ubd1:/disks/0.dsk", "in use by this VM read-write as ubd0"),
        (
            "ubd1:/disks/0.dsk:ro",
            "in use by this VM read-write as ubd0",
        ),
        (taken[1], "is open read-write by vm2 as ubd1"),
        ("ubd1:/etc/passwd", "is not a disk"),
        ("ubd1:/disks/../x.dsk", "is not a disk"),
        ("ubd1:/disks/none.dsk", "does not exist"),
        ("ubd1:/disks/link.dsk", "is not a regular file"),
        (
            "ubd1:/disks/base.dsk",
            "is the backing file of /disks/a.cow",
        ),
    ] {
        let refused = vm.umlwatch(&["-disk-attach", disk]).fails(1);
        assert!(refused.contains(why), "{disk}: {refused}");
    }
    let refused = vm.umlwatch(&["-disk-detach", "ubd5"]).fails(1);
    assert!(refused.contains("the VM has no ubd5 now"), "{refused}");
    vm.umlwatch(&["-disk-attach", "ubd16:/disks/data.dsk"])
        .fails(2);
    vm.umlwatch(&["-suspend"]).ok();
    for command in [ATTACH, ["-disk-detach", "ubd0"]] {
        let refused = vm.umlwatch(&command).fails(1);
        assert!(refused.contains("suspended"), "{refused}");
    }
    vm.umlwatch(&["-continue"]).ok();
    has(&vm, &[ROOT]);
    assert_eq!(claimed(&vm), ["/disks/0.dsk"]);
    assert!(!vm.con0().contains("mconsole: config"), "{}", vm.con0());
    // An image does not keep its backing file from being read.
    vm.umlwatch(&["-disk-attach", "ubd1:/disks/base.dsk:ro"])
        .ok();
    for vm in [&vm, &other] {
        vm.kill();
    }
}

#[test]
fn a_disk_that_the_guest_uses_stays() {
    let Some(world) = World::new() else { return };
    let (vm, other) = (vm(&world, "vm1"), vm(&world, "vm2"));
    vm.start();
    other.start();
    hollow(&vm, "shared/disks/shared.dsk");
    let attach = ["-disk-attach", "ubd1:/shared/disks/shared.dsk"];
    vm.umlwatch(&attach).ok();
    tell(&vm, "use-disk:1");
    let refused = vm.umlwatch(&DETACH).fails(1);
    let why =
        "cannot detach ubd1: the guest uses ubd1, /shared/disks/shared.dsk: unmount it there first";
    assert!(refused.contains(why), "{refused}");
    has(&vm, &[ROOT, ("ubd1", "/shared/disks/shared.dsk")]);
    let refused = other.umlwatch(&attach).fails(1);
    assert!(refused.contains("by vm1 as ubd1"), "{refused}");
    tell(&vm, "free-disk:1");
    vm.umlwatch(&DETACH).ok();
    other.umlwatch(&attach).ok();
    for vm in [&vm, &other] {
        vm.kill();
    }
}

#[test]
fn an_image_is_attached_with_its_backing_file() {
    let Some(world) = World::new() else { return };
    let (vm, other) = (vm(&world, "vm1"), vm(&world, "vm2"));
    vm.start();
    other.start();
    hollow(&vm, "shared/disks/base.dsk");
    vm.umlwatch(&["-disk-create-cow", "/disks/a.cow:/shared/disks/base.dsk"])
        .ok();
    vm.umlwatch(&["-disk-attach", "ubd1:/disks/a.cow"]).ok();
    vm.wait_con0("config ubd1s=/disks/a.cow,/shared/disks/base.dsk", 1);
    assert_eq!(vm.info()["disks"][1]["backing"], "/shared/disks/base.dsk");
    let all = ["/disks/0.dsk", "/disks/a.cow", "/shared/disks/base.dsk"];
    assert_eq!(claimed(&vm), all);
    let refused = other
        .umlwatch(&["-disk-attach", "ubd1:/shared/disks/base.dsk"])
        .fails(1);
    assert!(
        refused.contains("backing file of /disks/a.cow"),
        "{refused}"
    );
    vm.umlwatch(&DETACH).ok();
    assert_eq!(claimed(&vm), ["/disks/0.dsk"]);
    for vm in [&vm, &other] {
        vm.kill();
    }
}

#[test]
fn a_guest_that_reboots_has_the_same_disks() {
    let Some(world) = World::new() else { return };
    let vm = vm(&world, "vm1");
    vm.start();
    vm.umlwatch(&["-disk-attach", "ubd1:/disks/data.dsk:ro"])
        .ok();
    // One that is configured can be detached, too.
    vm.umlwatch(&["-disk-detach", "ubd0"]).ok();
    // Also with another monitor.
    outlives(&vm);
    exchange_monitor(&vm);
    let mut console = vm.connect("con1");
    console.send("reboot\n");
    vm.wait_con0("GUEST-READY", 2);
    let log = vm.con0();
    let mut lines = log.lines().filter(|line| line.contains("command line"));
    let line = lines.next_back().unwrap();
    assert!(line.contains(" ubd1rsd=/disks/data.dsk"), "{line}");
    assert!(!line.contains(" ubd0"), "{line}");
    has(&vm, &[DATA]);
    assert_eq!(claimed(&vm), ["/disks/data.dsk"]);
    console.leave();
    // A start gives what is configured.
    vm.kill();
    vm.start();
    has(&vm, &[ROOT]);
    vm.kill();
}

#[test]
fn the_next_monitor_knows_what_is_attached() {
    let Some(world) = World::new() else { return };
    // Without a configured disk.
    let one = world.vm("vm1").con(1).monitor();
    let two = vm(&world, "vm2");
    one.start();
    two.start();
    outlives(&one);
    hollow(&one, "shared/disks/shared.dsk");
    let attach = ["-disk-attach", "ubd1:/shared/disks/shared.dsk"];
    let mine = [("ubd1", "/shared/disks/shared.dsk")];
    one.umlwatch(&attach).ok();
    let refused = || {
        let refused = two.umlwatch(&attach).fails(1);
        assert!(refused.contains("is open read-write by vm1"), "{refused}");
    };
    for _ in 0..2 {
        kill_monitor(&one);
        refused();
        one.start_monitor().ok();
        has(&one, &mine);
        refused();
    }
    one.umlwatch(&DETACH).ok();
    two.umlwatch(&attach).ok();
    kill_monitor(&one);
    one.start_monitor().ok();
    has(&one, &[]);
    let refused = one.umlwatch(&attach).fails(1);
    assert!(refused.contains("is open read-write by vm2"), "{refused}");
    for vm in [&one, &two] {
        vm.kill();
    }
}

/// Begins this, and kills the monitor when the kernel has been told `words` and has not answered.
fn kill_before_the_answer(vm: &Vm<'_>, command: [&str; 2], fault: &str, words: &str) {
    tell(vm, fault);
    let told = vm.con0().matches(words).count();
    let mut command = vm.command(&command);
    let mut client = command.stderr(Stdio::null()).spawn().unwrap();
    vm.wait_con0(words, told + 1);
    kill_monitor(vm);
    assert!(!client.wait().unwrap().success());
}

fn settled(vm: &Vm<'_>) {
    wait_for("the next monitor has heard the kernel", || {
        let record: Value = serde_json::from_slice(&fs::read(vm.file("run")).ok()?).ok()?;
        record["disk_change"].is_null().then_some(())
    });
}

#[test]
fn what_was_under_way_when_the_monitor_died_is_completed() {
    let Some(world) = World::new() else { return };
    let (one, two) = (vm(&world, "vm1"), vm(&world, "vm2"));
    one.start();
    two.start();
    outlives(&one);
    hollow(&one, "shared/disks/shared.dsk");
    let attach = ["-disk-attach", "ubd1:/shared/disks/shared.dsk"];
    let shared = ("ubd1", "/shared/disks/shared.dsk");
    for fault in ["lose-disk-request", "lose-disk-answer"] {
        kill_before_the_answer(&one, attach, fault, "mconsole: config ubd1");
        let refused = two.umlwatch(&attach).fails(1);
        assert!(refused.contains("by vm1"), "{refused}");
        one.start_monitor().ok();
        settled(&one);
        has(&one, &[ROOT, shared]);
        kill_before_the_answer(&one, DETACH, fault, "mconsole: remove ubd1");
        let refused = two.umlwatch(&attach).fails(1);
        assert!(refused.contains("by vm1"), "{refused}");
        one.start_monitor().ok();
        settled(&one);
        has(&one, &[ROOT]);
        assert_eq!(claimed(&one), ["/disks/0.dsk"]);
        // It is nobody's.
        two.umlwatch(&attach).ok();
        two.umlwatch(&DETACH).ok();
    }
    // The kernel refuses what it is told again.
    kill_before_the_answer(&one, attach, "lose-disk-request", "config ubd1");
    fs::remove_file(one.file("jail/shared/disks/shared.dsk")).unwrap();
    one.start_monitor().ok();
    settled(&one);
    has(&one, &[ROOT]);
    assert_eq!(claimed(&one), ["/disks/0.dsk"]);
    let log = fs::read_to_string(one.file("log/monitor")).unwrap();
    let why = "was not done: the kernel does not take /shared/disks/shared.dsk as ubd1";
    assert!(log.contains(why), "{log}");
    for vm in [&one, &two] {
        vm.kill();
    }
}

#[test]
fn a_claim_that_was_not_recorded_is_given_up() {
    let Some(world) = World::new() else { return };
    let vm = vm(&world, "vm1");
    vm.start();
    outlives(&vm);
    vm.umlwatch(&ATTACH).ok();
    kill_monitor(&vm);
    // As a monitor leaves it that dies before it records what it has claimed.
    let mut record: Value = serde_json::from_slice(&fs::read(vm.file("run")).unwrap()).unwrap();
    let disks = record["disks"].as_array_mut().unwrap();
    assert_eq!(disks.pop().unwrap()["number"], 1);
    fs::write(vm.file("run"), record.to_string()).unwrap();
    assert_eq!(claimed(&vm), ["/disks/0.dsk", "/disks/data.dsk"]);
    vm.start_monitor().ok();
    has(&vm, &[ROOT]);
    assert_eq!(claimed(&vm), ["/disks/0.dsk"]);
    vm.kill();
}

#[test]
fn without_an_answer_a_disk_counts_as_attached() {
    let Some(world) = World::new() else { return };
    let vm = vm(&world, "vm1");
    vm.start();
    tell(&vm, "lose-disk-request");
    let mut command = vm.command(&ATTACH);
    let mut client = command.stderr(Stdio::null()).spawn().unwrap();
    vm.wait_con0("mconsole: config ubd1", 1);
    // One after the other.
    let refused = vm.umlwatch(&DETACH).fails(1);
    assert!(refused.contains("try again in a moment"), "{refused}");
    assert_eq!(client.wait().unwrap().code(), Some(5));
    has(&vm, &[ROOT, DATA]);
    assert_eq!(claimed(&vm), ["/disks/0.dsk", "/disks/data.dsk"]);
    vm.umlwatch(&DETACH).ok();
    has(&vm, &[ROOT]);
    // What comes of it is seen to, although the client has gone.
    tell(&vm, "lose-disk-answer");
    let mut client = vm.command(&ATTACH).stderr(Stdio::null()).spawn().unwrap();
    vm.wait_con0("mconsole: config ubd1", 2);
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for("the time for the answer is over", || {
        (vm.umlwatch(&DETACH).status == Some(0)).then_some(())
    });
    has(&vm, &[ROOT]);
    vm.kill();
}
