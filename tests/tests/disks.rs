//! Tier root: disks as users make and use them: jobs, locks between VMs, copy-on-write images, devices.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::{Vm, World, run, wait_for};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const NOBODY: u32 = 65534;

/// What `-disk-list -json` says of a disk.
#[track_caller]
fn listed(vm: &Vm<'_>, disk: &str) -> Value {
    let text = vm.umlwatch(&["-json", "-disk-list"]).ok();
    let list: Value = serde_json::from_str(&text).unwrap();
    let disks = list["disks"].as_array().unwrap();
    let found = disks.iter().find(|found| found["disk"] == disk);
    found.cloned().unwrap_or(Value::Null)
}

/// The names in a directory of the VM's jail.
fn names(vm: &Vm<'_>) -> Vec<String> {
    let entries = fs::read_dir(vm.file("jail/disks")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A file that belongs to the VM's user.
fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
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

/// Attacks A1 to A4: the directory is hostile, and root never touches what is in it.
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

/// Fault F36, and the locks between VMs.
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
    // What the other one writes is free as soon as it is down, however it ended.
    kill_process(Pid::from_raw(one.monitor_pid()).unwrap(), Signal::KILL).unwrap();
    wait_for("vm2 starts", || {
        (two.umlwatch(&["-start"]).status == Some(0)).then_some(())
    });
    let _ = fs::remove_file(one.pid_file());
    two.kill();
    assert!(!two.file("jail/shared/locks/vm2.held").exists());
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
    // Who comes second does not read what somebody writes.
    reader.kill();
    let refused = reader.umlwatch(&["-start"]).fails(1);
    assert!(refused.contains("is open read-write by vm1"), "{refused}");
    owner.kill();
    // An image among the shared disks is that of whoever can write it.
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

/// Fault F37 and A10: cancelled, lost, killed; a half-made file is never seen under its name.
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

/// Fault F37: the end of the monitor is that of its work.
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

/// Faults F19 and A10.
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

/// `device` of umlmon(5), with a loop device; attack A18, fault F39.
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
