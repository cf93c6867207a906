//! Tier real: snapshots of the disks of a VM, and the way back.

use std::fs;

use e2e::{Login, World};

#[test]
fn what_was_written_after_a_snapshot_is_gone() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).user("auto").guest(Login::RootShell);
    let vm = vm.disk(1, vec![1; 1 << 20]).monitor();
    let mut console = vm.connect("con1");
    let mut run = |script: &str| {
        vm.start();
        console.expect("# ");
        console.send(&format!("{script}; sync; echo DO''NE\n"));
        let said = console.expect("DONE");
        // The next run has a prompt of its own.
        console.expect("# ");
        vm.kill();
        said
    };
    run("echo be''fore > /kept");
    let made = world.umladmin(&["snapshot", "vm1", "one"]).ok();
    assert_eq!(made, "vm1: snapshot one of /disks/0.dsk, /disks/1.dsk\n");
    run("echo af''ter > /kept; echo lost > /other");

    vm.start();
    let refused = world.umladmin(&["-yes", "rollback", "vm1"]).fails(1);
    assert!(refused.contains("shut vm1 down first"), "{refused}");
    vm.kill();
    let refused = world.umladmin(&["rollback", "vm1"]).fails(1);
    assert!(refused.contains("-yes"), "{refused}");
    world.umladmin(&["-yes", "rollback", "vm1"]).ok();
    let said = run("cat /kept; ls /other");
    assert!(said.contains("before") && !said.contains("after"), "{said}");
    assert!(said.contains("No such file"), "{said}");
    console.leave();
}

#[test]
fn snapshots_are_whole_or_not_there() {
    let Some(world) = World::new() else { return };
    let vm = world
        .vm("vm1")
        .disk(0, vec![1; 4096])
        .disk(1, vec![2; 4096])
        .monitor();
    let disks = vm.file("jail/disks");
    let umladmin = |args: &[&str]| world.umladmin(args);
    umladmin(&["snapshot", "vm1", "one"]).ok();
    let refused = umladmin(&["snapshot", "vm1", "one"]).fails(1);
    assert!(
        refused.contains("there is a snapshot one already"),
        "{refused}"
    );
    umladmin(&["snapshot", "vm1", "bad/label"]).fails(2);
    let listed = umladmin(&["snapshots", "vm1"]).ok();
    assert!(
        listed.contains("one") && listed.contains("/disks/0.dsk /disks/1.dsk"),
        "{listed}"
    );

    // A monitor that was killed has left one list without copies, copies without a list, and half a rollback.
    vm.end_monitor();
    let own = |name: &str, content: &[u8]| {
        fs::write(disks.join(name), content).unwrap();
        let owner = Some(65534);
        std::os::unix::fs::chown(disks.join(name), owner, owner).unwrap();
    };
    own(".two~0.dsk", b"half");
    own(".~0.dsk", &[3; 4096]);
    own(".~", b"/disks/0.dsk\n/disks/1.dsk\n");
    own("1.dsk", &[4; 4096]);
    vm.start_monitor().ok();
    assert_eq!(fs::read(disks.join("0.dsk")).unwrap(), [3; 4096]);
    assert_eq!(fs::read(disks.join("1.dsk")).unwrap(), [4; 4096]);
    let left = || {
        let names = fs::read_dir(&disks).unwrap();
        let mut names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(
        left(),
        [".one~", ".one~0.dsk", ".one~1.dsk", "0.dsk", "1.dsk"]
    );
    umladmin(&["-yes", "rollback", "vm1", "one"]).ok();
    assert_eq!(fs::read(disks.join("0.dsk")).unwrap(), [1; 4096]);
    assert_eq!(fs::read(disks.join("1.dsk")).unwrap(), [2; 4096]);
    umladmin(&["-delete", "snapshot", "vm1", "one"]).ok();
    assert_eq!(left(), ["0.dsk", "1.dsk"]);
    let refused = umladmin(&["-yes", "rollback", "vm1", "one"]).fails(1);
    assert!(refused.contains("no snapshot one"), "{refused}");
}
