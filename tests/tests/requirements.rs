//! Tier real: a host without something that docs/REQUIREMENTS.md names, with a real kernel where one is needed.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;

use e2e::{Login, Refused, Vm, World};
use nix::libc;
use rustix::io::Errno;

/// Disables the randomisation of addresses, which the filters of most containers refuse.
const PERSONALITY: Refused = Refused {
    number: libc::SYS_personality,
    argument: Some(0x0004_0000),
    error: Errno::PERM,
};

/// The monitor, its child and the kernel run where a call is refused.
#[track_caller]
fn start_without(vm: &Vm<'_>, world: &World, refused: Refused) {
    refused.run(&mut world.command("umlmon", &[vm.name()])).ok();
    vm.put_files();
    vm.umlwatch(&["-start"]).ok();
}

/// Inputs I7
#[test]
fn what_can_be_done_without_is_done_without() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).disk(0, vec![0; 4096]).configure();
    let missing = [
        libc::SYS_clone3,
        libc::SYS_close_range,
        libc::SYS_landlock_create_ruleset,
    ];
    let missing = missing.map(Refused::missing);
    for refused in [PERSONALITY].into_iter().chain(missing) {
        start_without(&vm, &world, refused);
        let own = fs::read_dir(format!("/proc/{}/fd", vm.pid("kernel_pid"))).unwrap();
        assert!(
            own.count() < 12,
            "{refused:?}: the kernel has others' descriptors"
        );
        vm.umlwatch(&[
            "-disk-create",
            "/disks/new.dsk:1",
            "-disk-delete",
            "/disks/new.dsk",
        ])
        .ok();
        vm.kill();
        vm.end_monitor();
    }
}

/// Inputs I7
#[test]
fn a_real_kernel_boots_where_addresses_stay_random() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").guest(Login::RootShell).configure();
    start_without(&vm, &world, PERSONALITY);
    vm.umlwatch(&["-wait-ready", "60"]).ok();
    vm.kill();
}

/// Inputs I7
#[test]
fn what_cannot_be_done_without_is_named() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    for (name, number) in [
        ("openat2", libc::SYS_openat2),
        ("open_tree", libc::SYS_open_tree),
        ("move_mount", libc::SYS_move_mount),
        ("fsopen", libc::SYS_fsopen),
        ("fsconfig", libc::SYS_fsconfig),
        ("fsmount", libc::SYS_fsmount),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ] {
        for error in [Errno::NOSYS, Errno::PERM] {
            let refused = Refused {
                error,
                ..Refused::missing(number)
            };
            let monitor = &mut world.command("umlmon", &[vm.name()]);
            let complaint = refused.run(monitor).fails(1);
            for words in [
                &format!(" {name}(2) cannot be made here"),
                "needs Linux 5.12",
            ] {
                assert!(complaint.contains(words), "{complaint}");
            }
            assert!(!vm.pid_file().exists());
            let start = refused.run(&mut world.command("umladmin", &["start"]));
            assert_eq!(
                start.stderr.matches("cannot be made here").count(),
                1,
                "{start:?}"
            );
        }
    }
}
