//! Tier real: what clients have under way when the monitor is killed. Commands in the guest go on with the next one;
//! work on disks fails with a clear message, leaves nothing, and can be done again.

#![allow(clippy::unwrap_used, reason = "all of it is test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use e2e::{Login, Vm, World, adoptions, exchange_monitor, outlives, processes_that_stay, wait_for};

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

/// A guest with a helper, and the processes of its VM.
fn guest(world: &World) -> (Vm<'_>, (i32, i32)) {
    let vm = world.vm("vm1").con(1).mem(256).guest(Login::Password);
    let vm = vm.monitor();
    vm.start();
    outlives(&vm);
    let stay = processes_that_stay(&vm);
    (vm, stay)
}

/// Waits until a command says that it runs.
fn is_up(child: &mut Child) {
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
}

#[test]
fn commands_in_the_guest_go_on() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, stay) = guest(&world);
    let script = "echo up; read line; echo got $line; exit 7";
    let mut command = vm.command(&["-exec", "sh", "-c", script]);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    is_up(&mut child);
    exchange_monitor(&vm);
    child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    assert_eq!(ended.stdout, b"got a line\n");
    assert_eq!(
        String::from_utf8_lossy(&ended.stderr),
        "umlwatch: the monitor of vm1 was restarted; connected again\n"
    );
    // However often that happens, no byte of input and output is lost or doubled.
    let sent = e2e::flood(3_000_000);
    let mut command = vm.command(&["-exec", "echo up; exec cat"]);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::null()).spawn().unwrap();
    is_up(&mut child);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let came = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(&sent).unwrap());
        let reader = scope.spawn(move || {
            let mut came = Vec::new();
            stdout.read_to_end(&mut came).unwrap();
            came
        });
        while !reader.is_finished() {
            exchange_monitor(&vm);
            // The command is to get somewhere.
            std::thread::sleep(Duration::from_millis(200));
        }
        reader.join().unwrap()
    });
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(came == e2e::flood(3_000_000), "{} bytes", came.len());
    assert!(adoptions(&vm) > 3, "{}", adoptions(&vm));

    let large = world.path().join("large");
    fs::write(&large, e2e::flood(6 << 20)).unwrap();
    let push = begin(&vm, &["-push", large.to_str().unwrap(), "/tmp/pushed"]);
    wait_for("some of it in the guest", || {
        let size = vm.umlwatch(&["-exec", "du -sk /tmp | cut -f1"]).ok();
        (size.trim().parse::<u64>().unwrap() > 500).then_some(())
    });
    exchange_monitor(&vm);
    let pushed = push.wait_with_output().unwrap();
    assert_eq!(pushed.status.code(), Some(0), "{pushed:?}");
    let back = world.path().join("back");
    let pull = ["-pull", "/tmp/pushed", back.to_str().unwrap()];
    vm.umlwatch(&pull).ok();
    assert!(fs::read(&back).unwrap() == fs::read(&large).unwrap());
    assert_eq!(processes_that_stay(&vm), stay);
    vm.umlwatch(&["-halt", "-wait", "60"]).ok();
}

#[test]
fn work_on_disks_fails_with_a_message_and_can_be_done_again() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, stay) = guest(&world);
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
