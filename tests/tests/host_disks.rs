//! Tier root: disks that the host changes, or uses itself, beside the monitor.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::os::unix::fs::chown;
use std::process::Command;

use e2e::{World, put, run};

const NOBODY: u32 = 65534;

/// Input I9.
#[test]
fn a_file_system_that_is_mounted_meanwhile_is_seen() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").disk(0, vec![0; 1 << 20]).monitor();
    let disks = vm.file("jail/disks");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m,uid=65534", "tmpfs"])
        .arg(&disks))
    .ok();
    // The file below the mount is not there any more, for the monitor as for the kernel.
    let refused = vm.umlwatch(&["-start"]).fails(1);
    assert!(refused.contains("/disks/0.dsk does not exist"), "{refused}");
    put(&disks.join("0.dsk"), &[0; 1 << 20]);
    vm.umlwatch(&["-disk-resize", "/disks/0.dsk:2"]).ok();
    vm.start();
    assert_eq!(vm.info()["disks"][0]["size"], 2 << 20);
    vm.umlwatch(&["-kill"]).ok();
    run(Command::new("umount").arg(&disks)).ok();
    vm.start();
    assert_eq!(vm.info()["disks"][0]["size"], 1 << 20);
    vm.kill();
}

/// Input I9, where mounts of the host do not reach the jails.
#[test]
fn a_file_system_that_the_jail_does_not_have_is_told() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("ubd0 = /shared/disks/a.dsk").monitor();
    let disks = world.path().join("var/shared/disks");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "--make-private", "tmpfs"])
        .arg(&disks))
    .ok();
    put(&disks.join("a.dsk"), &[0; 1 << 20]);
    let refused = vm.umlwatch(&["-start"]).fails(1);
    run(Command::new("umount").arg(&disks)).ok();
    let expected = "but the jail does not have it: a file system has been mounted there since";
    assert!(refused.contains(expected), "{refused}");
}

/// Input I5.
#[test]
fn a_vm_whose_user_changed_is_refused_until_its_disks_are_given_to_the_new_one() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").disk(0, vec![0; 1 << 20]).monitor();
    let disks = vm.file("jail/disks");
    chown(&disks, Some(4711), None).unwrap();
    let shown = disks.display();
    let problem = format!("nobody cannot use the disk directory {shown} (owner 4711, mode 0750)");
    let advice = format!("chown -R nobody {shown}");
    let expected = format!("vm1: cannot start: {problem}; try: {advice}");
    let refused = vm.umlwatch(&["-start"]).fails(1);
    assert!(refused.contains(&expected), "{refused}");
    let refused = vm.umlwatch(&["-disk-create", "/disks/a.dsk:1"]).fails(1);
    assert!(refused.contains(&problem), "{refused}");
    let told = world.umladmin(&["check"]);
    assert!(
        told.stdout.contains(&format!("{problem}; {advice}\n")),
        "{}",
        told.stdout
    );
    chown(&disks, Some(NOBODY), None).unwrap();
    vm.start();
    vm.kill();
}
