//! Tier real: a disk is attached to a guest that runs, used there, and detached.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::{Console, Login, Vm, World, exchange_monitor, outlives, run};

const NOBODY: u32 = 65534;

/// A disk with an empty file system.
fn make(path: &Path) {
    File::create(path).unwrap().set_len(16 << 20).unwrap();
    run(Command::new("/sbin/mke2fs").args(["-q", "-F"]).arg(path)).ok();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

/// A file in the file system of a disk.
fn content(disk: &Path, file: &str) -> String {
    let mut debugfs = Command::new("/sbin/debugfs");
    run(debugfs.args(["-R", &format!("cat {file}")]).arg(disk)).stdout
}

/// Runs a line in the guest, and returns what it printed. A console that is connected anew shows what was before, too.
fn guest(console: &mut Console, line: &str) -> String {
    static LINES: AtomicU32 = AtomicU32::new(0);
    let number = LINES.fetch_add(1, Ordering::Relaxed);
    console.send(&format!("{line}; echo DO''NE-{number}-\n"));
    let said = console.expect(&format!("DONE-{number}-\r\n"));
    console.expect("# ");
    said
}

/// A guest with a shell on con1, and a disk for it.
fn guest_and_disk(world: &World) -> (Vm<'_>, PathBuf) {
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).monitor();
    let data = vm.file("jail/disks/data.dsk");
    make(&data);
    vm.start();
    (vm, data)
}

const DETACH: [&str; 2] = ["-disk-detach", "ubd1"];

#[test]
fn a_guest_uses_a_disk_that_it_did_not_boot_with() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, data) = guest_and_disk(&world);
    outlives(&vm);
    let mut console = vm.connect("con1");
    console.expect("# ");
    vm.umlwatch(&["-disk-attach", "ubd1:/disks/data.dsk"]).ok();
    let wrote = "test -b /dev/ubdb && mount -t ext2 /dev/ubdb /mnt && echo written > /mnt/file && cat /mnt/file";
    let said = guest(&mut console, wrote);
    assert!(said.contains("\r\nwritten\r\n"), "{said}");
    let refused = vm.umlwatch(&DETACH).fails(1);
    assert!(refused.contains("unmount it there first"), "{refused}");
    console.leave();
    exchange_monitor(&vm);
    let refused = vm.umlwatch(&DETACH).fails(1);
    assert!(
        refused.contains("the guest uses ubd1, /disks/data.dsk"),
        "{refused}"
    );
    let mut console = vm.connect("con1");
    guest(&mut console, "umount /mnt");
    vm.umlwatch(&DETACH).ok();
    let said = guest(&mut console, "test -e /dev/ubdb || echo go''ne");
    assert!(said.contains("gone"), "{said}");
    assert_eq!(content(&data, "/file"), "written\n");
    console.leave();
    vm.kill();
}

#[test]
fn a_disk_is_only_read_or_read_through_an_image() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, data) = guest_and_disk(&world);
    let fill = format!("write {} file", world.configuration().display());
    let mut debugfs = Command::new("/sbin/debugfs");
    run(debugfs.args(["-w", "-R", &fill]).arg(&data));
    let mut console = vm.connect("con1");
    console.expect("# ");
    // It is there after a reboot, too.
    vm.umlwatch(&["-disk-attach", "ubd1:/disks/data.dsk:ro"])
        .ok();
    let read = "mount -t ext2 -o ro /dev/ubdb /mnt && grep vmuser /mnt/file; umount /mnt";
    let said = guest(&mut console, read);
    assert!(said.contains("vmuser = "), "{said}");
    let said = guest(&mut console, "echo x > /dev/ubdb && echo wr''ote");
    assert!(!said.contains("wrote"), "{said}");
    console.send("reboot\n");
    vm.wait_con0("GUEST-READY", 2);
    console.expect("BusyBox");
    console.expect("# ");
    let said = guest(&mut console, read);
    assert!(said.contains("vmuser = "), "{said}");
    vm.umlwatch(&DETACH).ok();

    // As a copy-on-write image.
    vm.umlwatch(&["-disk-create-cow", "/disks/data.cow:/disks/data.dsk"])
        .ok();
    vm.umlwatch(&["-disk-attach", "ubd2:/disks/data.cow"]).ok();
    let more = "mount -t ext2 /dev/ubdc /mnt && echo more > /mnt/more && umount /mnt";
    guest(&mut console, more);
    vm.umlwatch(&["-disk-detach", "ubd2"]).ok();
    let merge = ["-disk-commit", "/disks/data.cow:/disks/merged.dsk"];
    vm.umlwatch(&merge).ok();
    let merged = data.with_file_name("merged.dsk");
    assert_eq!(content(&merged, "/more"), "more\n");
    console.leave();
    vm.kill();
    fs::remove_file(merged).unwrap();
}
