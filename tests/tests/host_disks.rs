//! Tier root: disks that the host changes, or uses itself, beside the monitor.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::process::Command;

use e2e::{Vm, World, put, run, wait_for};
use rustix::fs::{FlockOperation, fcntl_lock, flock};

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

/// Asserts that neither the kernel nor a command gets its disk, because of this.
#[track_caller]
fn is_refused(vm: &Vm<'_>, why: &str) {
    for command in [
        &["-start"][..],
        &["-disk-resize", "/disks/0.dsk:2"],
        &["-disk-delete", "/disks/0.dsk"],
    ] {
        let refused = vm.umlwatch(command).fails(1);
        let expected = format!("/disks/0.dsk is {why}");
        assert!(refused.contains(&expected), "{command:?}: {refused}");
    }
}

/// Starts the VM as soon as the host has given its disk up: other processes may have a copy of the mount for a moment.
#[track_caller]
fn starts_when_released(vm: &Vm<'_>) {
    wait_for("the VM starts", || {
        (vm.umlwatch(&["-start"]).status == Some(0)).then_some(())
    });
    vm.kill();
}

/// Input I8.
#[test]
fn a_disk_that_the_host_uses_is_refused_with_the_reason() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").disk(0, vec![0; 1 << 20]).monitor();
    let image = vm.file("jail/disks/0.dsk");
    let shown = run(Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&image))
    .ok();
    let device = shown.trim();
    is_refused(
        &vm,
        &format!("in use on the host as {device} (losetup -d {device} ends that)"),
    );
    run(Command::new("mkfs.ext2").args(["-q", device])).ok();
    let at = world.path().join("mnt");
    fs::create_dir(&at).unwrap();
    run(Command::new("mount").arg(device).arg(&at)).ok();
    let shown = at.display();
    is_refused(
        &vm,
        &format!("in use on the host as {device} (mounted on {shown}; umount {shown} ends"),
    );
    run(Command::new("umount").arg(&at)).ok();
    run(Command::new("losetup").args(["-d", device])).ok();
    starts_when_released(&vm);
}

/// Input I8: a bare kernel has a lock of fcntl(2).
#[test]
fn a_disk_that_a_program_has_locked_is_refused_with_its_name() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").disk(0, vec![0; 1 << 20]).monitor();
    let image = vm.file("jail/disks/0.dsk");
    let by_us = format!(", pid {}", std::process::id());
    for lock in [
        |file: &File| fcntl_lock(file, FlockOperation::NonBlockingLockExclusive),
        |file: &File| flock(file, FlockOperation::NonBlockingLockShared),
    ] {
        let file = File::options().read(true).write(true).open(&image).unwrap();
        lock(&file).unwrap();
        let refused = vm.umlwatch(&["-start"]).fails(1);
        assert!(refused.contains("/disks/0.dsk is locked by "), "{refused}");
        assert!(refused.contains(&by_us), "{refused}");
        is_refused(&vm, "locked by ");
    }
    vm.start();
    vm.kill();
}

/// Input I10.
#[test]
fn a_guest_with_too_little_memory_for_the_maps_of_its_disks_is_told() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("ubd0 = /disks/a.cow").monitor();
    let base = vm.file("jail/disks/base.dsk");
    put(&base, b"");
    File::options()
        .write(true)
        .open(&base)
        .unwrap()
        .set_len(300 << 30)
        .unwrap();
    vm.umlwatch(&["-disk-create-cow", "/disks/a.cow:/disks/base.dsk"])
        .ok();
    vm.start();
    let note = "the kernel needs 75 of its 64 MB of memory for the maps of copy-on-write disks, 1 MB for 4 GB of \
                backing file; increase mem";
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    assert!(log.contains(note), "{log}");
    let told = world.umladmin(&["check"]).stdout;
    assert!(told.contains(note), "{told}");
    vm.kill();
}

/// Input I8, for a block device.
#[test]
fn a_device_that_the_host_has_mounted_is_refused_until_it_is_free() {
    let Some(world) = World::new() else { return };
    let image = world.path().join("image");
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let shown = run(Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&image))
    .ok();
    let device = shown.trim();
    let lent = format!("device = device_file(name=a.dev,target_file={device},group=nogroup)");
    world.global(&lent);
    let vm = world.vm("vm1").line("ubd0 = /shared/disks/a.dev").monitor();
    run(Command::new("mkfs.ext2").args(["-q", device])).ok();
    let at = world.path().join("mnt");
    fs::create_dir(&at).unwrap();
    run(Command::new("mount").arg(device).arg(&at)).ok();
    let refused = vm.umlwatch(&["-start"]).fails(1);
    let shown = at.display();
    let expected =
        format!("/shared/disks/a.dev is mounted on {shown} of the host (umount {shown} ends that)");
    assert!(refused.contains(&expected), "{refused}");
    run(Command::new("umount").arg(&at)).ok();
    starts_when_released(&vm);
    run(Command::new("losetup").args(["-d", device])).ok();
}
