//! Tier root: disks as users make and use them: jobs, locks between VMs, copy-on-write images, devices.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::{Vm, World, listed, put, run, wait_for};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

const NOBODY: u32 = 65534;

/// The names in a directory of the VM's jail.
fn names(vm: &Vm<'_>) -> Vec<String> {
    let entries = fs::read_dir(vm.file("jail/disks")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_commands_do_what_the_manual_says() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let commands = [
        "-disk-create",
        "/disks/full.dsk:4",
        "-disk-create",
        "/disks/hollow.dsk:4:sparse",
        "-disk-create-cow",
        "/disks/a.cow:/disks/full.dsk",
        "-disk-copy",
        "/disks/a.cow:/disks/b.cow",
        "-disk-copy",
        "/disks/full.dsk:/disks/copy.dsk",
        "-disk-resize",
        "/disks/copy.dsk:8",
        "-disk-resize",
        "/disks/hollow.dsk:2:sparse",
        "-disk-commit",
        "/disks/a.cow:/disks/merged.dsk",
        "-disk-delete",
        "/disks/b.cow",
    ];
    vm.umlwatch(&commands).ok();
    let expected = ["a.cow", "copy.dsk", "full.dsk", "hollow.dsk", "merged.dsk"];
    assert_eq!(names(&vm), expected);
    let stat = |name: &str| fs::metadata(vm.file("jail/disks").join(name)).unwrap();
    for (name, megabytes) in [
        ("full.dsk", 4),
        ("copy.dsk", 8),
        ("hollow.dsk", 2),
        ("merged.dsk", 4),
    ] {
        let stat = stat(name);
        assert_eq!(stat.len(), megabytes << 20, "{name}");
        assert_eq!((stat.uid(), stat.gid()), (NOBODY, NOBODY), "{name}");
        assert_eq!(stat.permissions().mode() & 0o7777, 0o640, "{name}");
    }
    assert!(
        stat("full.dsk").blocks() * 512 >= 4 << 20,
        "all blocks are there"
    );
    assert_eq!(stat("hollow.dsk").blocks(), 0, "no blocks are there");
    let cow = listed(&vm, "/disks/a.cow");
    assert_eq!(
        (&cow["type"], &cow["backing"]),
        (&"cow".into(), &"/disks/full.dsk".into())
    );
    assert_eq!(cow["size"], 4 << 20);
    assert_eq!(cow["note"], "");
}

#[test]
fn names_and_sizes_that_make_no_sense_are_refused() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.umlwatch(&["-disk-create", "/disks/a.dsk:1"]).ok();
    for (command, arg, why) in [
        ("-disk-create", "/disks/../x.dsk:1", "is not a disk"),
        (
            "-disk-create",
            "/etc/x.dsk:1",
            "it must be in /disks or /shared/disks",
        ),
        ("-disk-create", "/shared/disks/x.dsk:1", "only read"),
        ("-disk-create", "/disks/a.dsk:1", "already exists"),
        ("-disk-create", "/disks/x.dsk:0", "from 1 MiB to 16 TiB"),
        (
            "-disk-create",
            "/disks/x.dsk:17592186044416",
            "from 1 MiB to 16 TiB",
        ),
        ("-disk-resize", "/disks/x.dsk:1", "does not exist"),
        ("-disk-copy", "/disks/a.dsk:/disks/a.cow", "ends in .dsk"),
        ("-disk-copy", "/disks/a.dsk:/disks/a.dsk", "to itself"),
        ("-disk-delete", "/disks/x.dsk", "does not exist"),
        (
            "-disk-create-cow",
            "/disks/x.cow:/disks/none.dsk",
            "does not exist",
        ),
    ] {
        let refused = vm.umlwatch(&[command, arg]).fails(1);
        assert!(refused.contains(why), "{command} {arg}: {refused}");
    }
    assert_eq!(names(&vm), ["a.dsk"]);
}

/// A1 to A4: the directory is hostile, and root never touches what is in it.
#[test]
fn what_is_planted_among_the_disks_is_refused() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let disks = vm.file("jail/disks");
    let secret = world.path().join("secret");
    fs::write(&secret, "x".repeat(1 << 20)).unwrap();
    symlink(&secret, disks.join("link.dsk")).unwrap();
    fs::hard_link(&secret, disks.join("hard.dsk")).unwrap();
    mknodat(
        CWD,
        disks.join("pipe.dsk"),
        FileType::Fifo,
        Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    for (command, arg) in [
        ("-disk-create", "/disks/link.dsk:1"),
        ("-disk-copy", "/disks/link.dsk:/disks/new.dsk"),
        ("-disk-copy", "/disks/pipe.dsk:/disks/new.dsk"),
        ("-disk-resize", "/disks/link.dsk:2"),
        ("-disk-resize", "/disks/hard.dsk:2"),
        ("-disk-resize", "/disks/pipe.dsk:2"),
        ("-disk-delete", "/disks/hard.dsk"),
        ("-disk-create-cow", "/disks/new.cow:/disks/link.dsk"),
    ] {
        vm.umlwatch(&[command, arg]).fails(1);
    }
    assert_eq!(names(&vm), ["hard.dsk", "link.dsk", "pipe.dsk"]);
    assert_eq!(fs::metadata(&secret).unwrap().len(), 1 << 20);
    // The directory itself is exchanged: work goes on in the one that is at its place in the jail, or nowhere.
    fs::rename(&disks, vm.file("jail/gone")).unwrap();
    symlink("/etc", &disks).unwrap();
    vm.umlwatch(&["-disk-create", "/disks/new.dsk:1"]).fails(1);
    assert!(!Path::new("/etc/new.dsk").exists());
    fs::remove_file(&disks).unwrap();
    fs::rename(vm.file("jail/gone"), &disks).unwrap();
}

#[test]
fn an_image_that_cannot_work_is_refused_before_the_kernel_runs() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("ubd1 = /disks/a.cow").monitor();
    let base = vm.file("jail/disks/base.dsk");
    put(&base, &[7; 1 << 20]);
    vm.umlwatch(&["-disk-create-cow", "/disks/a.cow:/disks/base.dsk"])
        .ok();
    let refused = || vm.umlwatch(&["-start"]).fails(1);
    // Its own backing file, as a disk beside it.
    vm.umlwatch(&["-set", "ubd2=/disks/base.dsk"]).ok();
    assert!(refused().contains("/disks/base.dsk is the backing file of /disks/a.cow"));
    vm.umlwatch(&["-del", "ubd2"]).ok();
    let work = vm.umlwatch(&["-disk-resize", "/disks/base.dsk:2"]).fails(1);
    assert!(work.contains("/disks/a.cow"), "{work}");
    // Changed, gone, and elsewhere.
    put(&base, &[8; 1 << 20]);
    let touched = Command::new("touch")
        .args(["-d", "2001-01-01"])
        .arg(&base)
        .status();
    assert!(touched.unwrap().success());
    let changed = refused();
    assert!(changed.contains("/disks/a.cow cannot be used"), "{changed}");
    fs::rename(&base, vm.file("jail/disks/other.dsk")).unwrap();
    let gone = refused();
    assert!(gone.contains("/disks/base.dsk does not exist"), "{gone}");
    // What the manual of 2005 only described.
    vm.umlwatch(&["-disk-import", "/disks/a.cow:/disks/other.dsk"])
        .ok();
    vm.start();
    vm.umlwatch(&["-kill"]).ok();
    // A header that leads out of the jail's two directories.
    let mut header = fs::read(vm.file("jail/disks/a.cow")).unwrap();
    header[32..45].copy_from_slice(b"/etc/shadow\0\0");
    fs::write(vm.file("jail/disks/a.cow"), header).unwrap();
    let lied = refused();
    assert!(
        lied.contains("its backing file is \"/etc/shadow\""),
        "{lied}"
    );
}

/// F37, A10: cancelled, lost, killed; a half-made file is never seen under its name.
#[test]
fn work_that_does_not_end_well_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    dense(&vm.file("jail/disks/big.dsk"));
    let held = vm.file("jail/shared/locks/vm1.held");
    let undone = || {
        wait_for("the copy is undone, and the disks are free", || {
            (names(&vm) == ["big.dsk"] && !held.exists()).then_some(())
        });
    };
    for signal in [Signal::INT, Signal::KILL] {
        let mut client = begin_copy(&vm);
        kill_process(Pid::from_child(&client), signal).unwrap();
        client.wait().unwrap();
        undone();
    }
    // The monitor does not answer, and the user does not wait for it.
    let mut client = begin_copy(&vm);
    let monitor = Pid::from_raw(vm.monitor_pid()).unwrap();
    let both = [worker(&vm), monitor];
    let all = |signal| both.map(|process| kill_process(process, signal).unwrap());
    all(Signal::STOP);
    kill_process(Pid::from_child(&client), Signal::INT).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(1));
    all(Signal::CONT);
    undone();
    // The process that does it is killed, as by a host without memory.
    let mut client = begin_copy(&vm);
    kill_process(worker(&vm), Signal::KILL).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(1));
    assert_eq!(names(&vm), ["big.dsk"]);
}

/// F37: the end of the monitor is that of its work.
#[test]
fn work_ends_with_the_monitor() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    dense(&vm.file("jail/disks/big.dsk"));
    let mut client = begin_copy(&vm);
    kill_process(Pid::from_raw(vm.monitor_pid()).unwrap(), Signal::KILL).unwrap();
    client.wait().unwrap();
    let _ = fs::remove_file(vm.pid_file());
    assert!(!names(&vm).contains(&"copy.dsk".to_owned()));
    vm.start_monitor().ok();
    assert_eq!(
        names(&vm),
        ["big.dsk"],
        "the next monitor removes what was half-made"
    );
    // In good order.
    let mut client = begin_copy(&vm);
    world.umladmin(&["stop", "vm1"]).ok();
    client.wait().unwrap();
    assert_eq!(names(&vm), ["big.dsk"]);
    // Even one that does not react.
    vm.start_monitor().ok();
    let mut client = begin_copy(&vm);
    kill_process(worker(&vm), Signal::STOP).unwrap();
    let stopped = world.umladmin(&["stop", "vm1"]).ok();
    assert!(!stopped.contains("SIGKILL"), "{stopped}");
    client.wait().unwrap();
    vm.start_monitor().ok();
    assert_eq!(names(&vm), ["big.dsk"]);
}

/// Starts to copy `big.dsk`, and waits until that is under way.
fn begin_copy(vm: &Vm<'_>) -> Child {
    let mut command = vm.command(&["-disk-copy", "/disks/big.dsk:/disks/copy.dsk"]);
    let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
    wait_for("the copy has begun", || {
        assert_eq!(child.try_wait().unwrap(), None, "it is over too soon");
        let partial = vm.file("jail/disks/.copy.dsk.part");
        partial.exists().then_some(())
    });
    child
}

/// The only child of the monitor, as soon as those that looked at the disks before have gone.
fn worker(vm: &Vm<'_>) -> Pid {
    let monitor = vm.monitor_pid();
    wait_for("one process works on disks", || {
        let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children"));
        Pid::from_raw(children.unwrap().trim().parse().ok()?)
    })
}

/// A file that takes a while to copy.
fn dense(path: &Path) {
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", "bs=1M", "count=1500", "status=none"]);
    let mut of = std::ffi::OsString::from("of=");
    of.push(path);
    run(dd.arg(of)).ok();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

/// F19, A10
#[test]
fn a_full_file_system_is_told_and_left_as_it_was() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    let disks = vm.file("jail/disks");
    fs::create_dir_all(&disks).unwrap();
    let options = "size=16m,uid=65534,gid=65534,mode=0750";
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "none"])
        .arg(&disks))
    .ok();
    vm.start_monitor().ok();
    let refused = vm.umlwatch(&["-disk-create", "/disks/a.dsk:32"]).fails(1);
    assert!(refused.contains("free"), "{refused}");
    vm.umlwatch(&["-disk-create", "/disks/a.dsk:8"]).ok();
    let refused = vm
        .umlwatch(&["-disk-copy", "/disks/a.dsk:/disks/b.dsk"])
        .fails(1);
    assert!(refused.contains("free"), "{refused}");
    assert_eq!(names(&vm), ["a.dsk"]);
    world.umladmin(&["stop", "vm1"]).ok();
    run(Command::new("umount").arg(&disks)).ok();
}

/// A18, F39: `device` of umlmon(5), with a loop device.
#[test]
fn a_device_is_lent_to_a_group_and_its_identity_is_checked() {
    let Some(world) = World::new() else { return };
    let target = world.path().join("target");
    let is_device = |minor| {
        let _ = fs::remove_file(&target);
        let number = rustix::fs::makedev(7, minor);
        mknodat(
            CWD,
            &target,
            FileType::BlockDevice,
            Mode::from_raw_mode(0o600),
            number,
        )
        .unwrap();
    };
    is_device(200);
    let device = |identity: &str| {
        let target = target.display();
        format!("device = device_file(name=data.dev,target_file={target},group=nogroup{identity})")
    };
    world.global(&device(""));
    let vm = world
        .vm("vm1")
        .line("ubd1 = /shared/disks/data.dev")
        .monitor();
    let node = fs::metadata(vm.file("jail/shared/disks/data.dev")).unwrap();
    assert_eq!(node.permissions().mode() & 0o7777, 0o660);
    assert_eq!((node.uid(), node.rdev()), (0, rustix::fs::makedev(7, 200)));
    vm.start();
    assert!(
        vm.con0().contains("ubd1sd=/shared/disks/data.dev"),
        "{}",
        vm.con0()
    );
    vm.umlwatch(&["-kill"]).ok();
    is_device(201);
    let refused = vm.umlwatch(&["-start"]).fails(1);
    assert!(
        refused.contains("is the device 7:201 now, but the disk was made for 7:200"),
        "{refused}"
    );
    world.umladmin(&["stop", "vm1"]).ok();
    let refused = vm.start_monitor().fails(1);
    assert!(refused.contains("set identity=update"), "{refused}");
    world.change_global(&device(""), &device(",identity=update"));
    vm.start_monitor().ok();
    let node = fs::metadata(vm.file("jail/shared/disks/data.dev")).unwrap();
    assert_eq!(node.rdev(), rustix::fs::makedev(7, 201));
}

/// What a start has read of the configuration is also what the reboots of its guest need.
#[test]
fn a_mistake_about_another_vm_keeps_no_guest_from_rebooting() {
    let Some(world) = World::new() else { return };
    let target = world.path().join("target");
    let number = rustix::fs::makedev(7, 200);
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, &target, FileType::BlockDevice, mode, number).unwrap();
    let target = target.display();
    world.global(&format!(
        "device = device_file(name=data.dev,target_file={target},group=nogroup)"
    ));
    let vm = world
        .vm("vm1")
        .con(1)
        .line("ubd1 = /shared/disks/data.dev")
        .monitor();
    vm.start();
    let mut console = vm.connect("con1");
    // The client has read the configuration, too.
    console.expect("fake login on con1");
    let text = fs::read_to_string(world.configuration()).unwrap();
    let mistake = format!("{text}\n[vm2]\nvmuser = nobody\nmem = much\n");
    fs::write(world.configuration(), mistake).unwrap();
    console.send("reboot\n");
    wait_for("vm1 reboots", || (vm.info()["reboots"] == 1).then_some(()));
    wait_for("vm1 runs", || (vm.state() == "running").then_some(()));
    console.leave();
    vm.umlwatch(&["-kill"]).ok();
    // A start reads it anew, and is not concerned, either.
    vm.start();
    vm.umlwatch(&["-kill"]).ok();
}
