//! Tier root: who may use a disk at a time, among the VMs of a host: locks, claims, backing files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use e2e::{World, listed, put, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// F36, and the locks between VMs.
#[test]
fn a_disk_in_use_is_refused_to_others() {
    let Some(world) = World::new() else { return };
    let share = |name: &'static str| {
        let vm = world.vm(name).line("ubd1 = /shared/disks/data.dsk");
        vm.disk(0, vec![0; 1 << 20]).monitor()
    };
    let (one, two) = (share("vm1"), share("vm2"));
    let data = world.path().join("var/shared/disks/data.dsk");
    put(&data, &[0; 1 << 20]);
    one.start();
    let refused = two.umlwatch(&["-start"]).fails(1);
    let expected = "vm2: cannot start: /shared/disks/data.dsk is open read-write by vm1 as ubd1 \
                    (umlwatch vm1 -info shows it)";
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(two.last_end().0, "not-started");
    // Another name makes no difference.
    fs::hard_link(&data, data.with_file_name("alias.dsk")).unwrap();
    two.umlwatch(&["-set", "ubd1=/shared/disks/alias.dsk"]).ok();
    let refused = two.umlwatch(&["-start"]).fails(1);
    assert!(
        refused.contains("by vm1 as /shared/disks/data.dsk, ubd1"),
        "{refused}"
    );
    // Nor does one who only wants to read it for a copy.
    let copy = ["-disk-copy", "/shared/disks/data.dsk:/disks/copy.dsk"];
    assert!(two.umlwatch(&copy).fails(1).contains("by vm1"));
    for work in [
        ["-disk-delete", "/disks/0.dsk"],
        ["-disk-resize", "/disks/0.dsk:2"],
        ["-disk-copy", "/disks/0.dsk:/disks/copy.dsk"],
    ] {
        let refused = one.umlwatch(&work).fails(1);
        assert!(
            refused.contains("is in use by this VM read-write as ubd0"),
            "{refused}"
        );
    }
    let users = listed(&two, "/shared/disks/data.dsk")["users"].clone();
    assert_eq!(users[0]["vm"], "vm1");
    assert_eq!(users[0]["writing"], true);
    // The end of a monitor is not the end of its VM.
    let child = one.pid("child_pid");
    kill_process(Pid::from_raw(one.monitor_pid()).unwrap(), Signal::KILL).unwrap();
    let refused = two.umlwatch(&["-start"]).fails(1);
    assert!(refused.contains("is open read-write by vm1"), "{refused}");
    // What the other one writes is free as soon as it is down, however it ended.
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    wait_for("vm2 starts", || {
        (two.umlwatch(&["-start"]).status == Some(0)).then_some(())
    });
    let _ = fs::remove_file(one.pid_file());
    two.kill();
    assert!(!two.file("jail/shared/locks/vm2+run.held").exists());
    one.start_monitor().ok();
}

#[test]
fn two_images_share_a_backing_file_and_nobody_changes_it() {
    let Some(world) = World::new() else { return };
    let with =
        |name: &'static str, disk: &str| world.vm(name).line(&format!("ubd1 = {disk}")).monitor();
    let (one, two) = (with("vm1", "/disks/a.cow"), with("vm2", "/disks/a.cow"));
    let three = with("vm3", "/shared/disks/base.dsk");
    put(&one.file("jail/shared/disks/base.dsk"), &[7; 1 << 20]);
    for vm in [&one, &two] {
        vm.umlwatch(&["-disk-create-cow", "/disks/a.cow:/shared/disks/base.dsk"])
            .ok();
    }
    // At rest, and known to a monitor that never saw the image being made.
    world.umladmin(&["stop", "vm2"]).ok();
    fs::remove_file(world.path().join("var/shared/locks/vm2.cows")).unwrap();
    one.umlwatch(&["-disk-delete", "/disks/a.cow"]).ok();
    two.start_monitor().ok();
    let refused = three.umlwatch(&["-start"]).fails(1);
    assert!(refused.contains("a.cow of vm2"), "{refused}");
    one.umlwatch(&["-disk-create-cow", "/disks/a.cow:/shared/disks/base.dsk"])
        .ok();
    let refused = three.umlwatch(&["-start"]).fails(1);
    assert!(
        refused.contains("is the backing file of /disks/a.cow of vm"),
        "{refused}"
    );
    one.start();
    two.start();
    assert_eq!(one.info()["disks"][0]["backing"], "/shared/disks/base.dsk");
    let argument = "ubd1s=/disks/a.cow,/shared/disks/base.dsk";
    assert!(one.con0().contains(argument), "{}", one.con0());
    // In use.
    let refused = three.umlwatch(&["-start"]).fails(1);
    assert!(
        refused.contains("backing file of /disks/a.cow"),
        "{refused}"
    );
    let refused = two.umlwatch(&["-disk-delete", "/disks/a.cow"]).fails(1);
    assert!(refused.contains("in use by this VM"), "{refused}");
    // By another name, at rest.
    for vm in [&one, &two] {
        vm.umlwatch(&["-kill"]).ok();
    }
    fs::hard_link(
        world.path().join("var/shared/disks/base.dsk"),
        three.file("jail/disks/alias.dsk"),
    )
    .unwrap();
    three.umlwatch(&["-set", "ubd1=/disks/alias.dsk"]).ok();
    let refused = three.umlwatch(&["-start"]).fails(1);
    assert!(
        refused.contains("/disks/alias.dsk is the backing file of /disks/a.cow of vm"),
        "{refused}"
    );
    for vm in [&one, &two] {
        vm.umlwatch(&["-disk-delete", "/disks/a.cow"]).ok();
    }
    // When no image is left, it may change.
    three.start();
}

/// A66
#[test]
fn who_may_only_read_keeps_no_owner_out() {
    let Some(world) = World::new() else { return };
    let owner = world.vm("vm1").line("ubd1 = /shared/disks/base.dsk");
    let owner = owner.monitor();
    let reader = world.vm("vm2").user("daemon");
    let reader = reader.line("ubd1 = /disks/a.cow").monitor();
    let base = owner.file("jail/shared/disks/base.dsk");
    put(&base, &[7; 1 << 20]);
    fs::set_permissions(&base, fs::Permissions::from_mode(0o644)).unwrap();
    let image = ["-disk-create-cow", "/disks/a.cow:/shared/disks/base.dsk"];
    reader.umlwatch(&image).ok();
    // At rest, and in use.
    owner.start();
    owner.kill();
    reader.start();
    owner.start();
    let log = fs::read_to_string(owner.file("log/monitor")).unwrap();
    assert!(
        log.contains("backing file of /disks/a.cow of vm2, which sees what is written"),
        "{log}"
    );
    // The second VM does not read what the first one writes.
    reader.kill();
    let refused = reader.umlwatch(&["-start"]).fails(1);
    assert!(refused.contains("is open read-write by vm1"), "{refused}");
    owner.kill();
    // An image among the shared disks counts for every VM that can write it.
    let planted = base.with_file_name("planted.cow");
    fs::copy(reader.file("jail/disks/a.cow"), &planted).unwrap();
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o644)).unwrap();
    chown(&planted, Some(1), Some(1)).unwrap();
    owner.start();
    owner.kill();
    chown(&planted, Some(0), Some(0)).unwrap();
    let refused = owner.umlwatch(&["-start"]).fails(1);
    assert!(
        refused.contains("is the backing file of /shared/disks/planted.cow"),
        "{refused}"
    );
    fs::remove_file(planted).unwrap();
}

/// A header is easily written; it keeps nobody from a disk that whoever wrote it may not even read.
#[test]
fn an_image_on_a_file_that_is_out_of_reach_counts_for_nothing() {
    let Some(world) = World::new() else { return };
    let hostile = world.vm("vm1").line("ubd1 = /disks/a.cow").monitor();
    let other = world.vm("vm2").user("daemon");
    let other = other.line("ubd1 = /shared/disks/base.dsk").monitor();
    let base = other.file("jail/shared/disks/base.dsk");
    put(&base, &[7; 1 << 20]);
    fs::set_permissions(&base, fs::Permissions::from_mode(0o666)).unwrap();
    hostile
        .umlwatch(&["-disk-create-cow", "/disks/a.cow:/shared/disks/base.dsk"])
        .ok();
    assert!(other.umlwatch(&["-start"]).fails(1).contains("of vm1"));
    chown(&base, Some(1), Some(1)).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o600)).unwrap();
    hostile.umlwatch(&["-start"]).fails(1);
    other.start();
}

/// A guest that reboots keeps its disks; but another file can have their name by then.
#[test]
fn a_disk_that_was_exchanged_is_claimed_anew_by_a_reboot() {
    let Some(world) = World::new() else { return };
    let share = |name: &'static str| {
        let vm = world.vm(name).con(1);
        vm.line("ubd1 = /shared/disks/data.dsk").monitor()
    };
    let (one, two) = (share("vm1"), share("vm2"));
    let data = world.path().join("var/shared/disks/data.dsk");
    put(&data, &[0; 1 << 20]);
    one.start();
    let mut console = one.connect("con1");
    console.send("reboot\n");
    wait_for("vm1 reboots", || (one.info()["reboots"] == 1).then_some(()));
    wait_for("vm1 runs", || (one.state() == "running").then_some(()));
    fs::rename(&data, data.with_file_name("old.dsk")).unwrap();
    put(&data, &[1; 1 << 20]);
    two.start();
    console.send("reboot\n");
    one.wait_inactive();
    let (how, why) = one.last_end();
    assert_eq!(how, "not-started");
    assert!(why.contains("is open read-write by vm2 as ubd1"), "{why}");
}
