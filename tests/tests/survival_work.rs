//! Tier real: what clients have under way fails with a clear message when the monitor is killed, leaves nothing, and
//! can be done again with the next one.

#![allow(clippy::unwrap_used, reason = "all of it is test")]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::process::{Child, Output, Stdio};

use e2e::{Login, Vm, World, exchange_monitor, outlives, processes_that_stay, wait_for};

/// What a client says whose monitor is gone.
const LOST: &str = "the monitor has ended";

fn begin(vm: &Vm<'_>, words: &[&str]) -> Child {
    let mut command = vm.command(words);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Asserts that it failed with this status, because the monitor is gone.
#[track_caller]
fn is_told(child: Child, status: i32) {
    let Output {
        status: ended,
        stderr,
        ..
    } = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(ended.code(), Some(status), "{said}");
    assert!(said.contains(LOST), "{said}");
}

#[test]
fn it_fails_with_a_message_and_can_be_done_again() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let large = world.path().join("large");
    fs::write(&large, vec![7; 64 << 20]).unwrap();
    let vm = world.vm("vm1").con(1).mem(256);
    let vm = vm.guest(Login::Password);
    let vm = vm.monitor();
    vm.start();
    outlives(&vm);
    let stay = processes_that_stay(&vm);

    let mut command = begin(&vm, &["-exec", "echo up; exec sleep 1234"]);
    let mut up = [0; 3];
    command
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut up)
        .unwrap();
    exchange_monitor(&vm);
    is_told(command, 125);
    // It has ended in the guest, too.
    let ended = "while busybox ps | grep 'sleep 123[4]'; do sleep 0.1; done; echo done";
    assert!(vm.umlwatch(&["-exec", ended]).ok().ends_with("done\n"));

    let push = begin(&vm, &["-push", large.to_str().unwrap(), "/tmp/pushed"]);
    let size = "du -sk /tmp | cut -f1";
    wait_for("some of it in the guest", || {
        let kilobytes: u64 = vm.umlwatch(&["-exec", size]).ok().trim().parse().unwrap();
        (kilobytes > 500).then_some(())
    });
    exchange_monitor(&vm);
    is_told(push, 3);
    let left = "while test $(du -sk /tmp | cut -f1) -gt 500; do sleep 0.1; done; ls /tmp";
    let left = vm.umlwatch(&["-exec", left]).ok();
    assert!(!left.contains("pushed"), "{left}");

    let disks = vm.file("jail/disks");
    fs::write(disks.join("1.dsk"), vec![7; 512 << 20]).unwrap();
    let root = fs::metadata(disks.join("0.dsk")).unwrap();
    chown(disks.join("1.dsk"), Some(root.uid()), Some(root.gid())).unwrap();
    let copy = begin(&vm, &["-disk-copy", "/disks/1.dsk:/disks/2.dsk"]);
    let names = || fs::read_dir(&disks).unwrap().count();
    wait_for("a half-made disk", || (names() == 3).then_some(()));
    exchange_monitor(&vm);
    is_told(copy, 3);
    assert_eq!(names(), 2);
    assert_eq!(processes_that_stay(&vm), stay);
    assert_eq!(
        vm.umlwatch(&["-exec", "echo still here"]).ok(),
        "still here\n"
    );
    vm.umlwatch(&["-halt", "-wait", "60"]).ok();
}
