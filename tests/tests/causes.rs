//! Tier root: messages name the cause, not what follows from it.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use e2e::{Outcome, World, run};

/// A user who is neither root nor the VM's.
const USER: u32 = 1;

fn as_user(mut command: Command) -> Outcome {
    run(command.uid(USER).gid(USER))
}

/// A world whose directories everybody can enter.
fn open_world() -> Option<World> {
    let world = World::new()?;
    fs::set_permissions(world.path(), Permissions::from_mode(0o755)).unwrap();
    Some(world)
}

/// I18
#[test]
fn a_monitor_that_the_caller_may_not_ask_is_no_silent_one() {
    let Some(world) = open_world() else { return };
    let vm = world.vm("vm1").monitor();
    fs::set_permissions(vm.file("ctrl"), Permissions::from_mode(0o600)).unwrap();
    let refused = "no permission to connect to its monitor at ";
    let list = world.command("umladmin", &["list"]);
    let outcome = as_user(list);
    assert!(
        outcome.stdout.contains("vm1  unknown"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stderr.contains(refused), "{}", outcome.stderr);
    // The prompt for commands, too, would only be answered by that.
    assert!(as_user(vm.command(&[])).fails(4).contains(refused));
}

/// I18
#[test]
fn a_file_of_the_right_owner_with_a_wrong_mode_needs_no_new_owner() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").disk(0, vec![0; 4096]).monitor();
    let disk = vm.file("jail/disks/0.dsk");
    fs::set_permissions(&disk, Permissions::from_mode(0o400)).unwrap();
    let advice = format!("chmod u+rw {}", disk.display());
    assert!(vm.umlwatch(&["-start"]).fails(1).contains(&advice));
    let check = world.umladmin(&["check"]);
    assert!(check.stdout.contains(&advice), "{}", check.stdout);
    chown(&disk, Some(USER), None).unwrap();
    assert!(vm.umlwatch(&["-start"]).fails(1).contains("chown "));
}

/// I18
#[test]
fn a_user_who_does_not_exist_in_the_namespace_is_named() {
    let Some(world) = World::new() else { return };
    let _vm = world.vm("vm1").configure();
    for (program, words) in [("umlmon", "vm1"), ("umladmin", "check")] {
        let command = world.command(program, &[words]);
        let mut inside = Command::new("unshare");
        inside
            .args(["--user", "--map-root-user", "--mount"])
            .arg(command.get_program());
        let outcome = run(inside.args(command.get_args()));
        let said = outcome.stdout + &outcome.stderr;
        assert!(
            said.contains(" does not exist in this user namespace"),
            "{said}"
        );
        assert!(!said.contains("Invalid argument"), "{said}");
    }
}

/// I18
#[test]
fn root_whose_mounts_belong_to_another_namespace_is_told_so() {
    let Some(world) = World::new() else { return };
    let _vm = world.vm("vm1").configure();
    let command = world.command("umlmon", &["vm1"]);
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user"]);
    inside.arg(command.get_program()).args(command.get_args());
    let said = run(&mut inside).fails(1);
    assert!(said.contains("belongs to another user namespace"), "{said}");
}

/// I19
#[test]
fn what_only_root_can_see_is_not_called_missing() {
    let Some(world) = open_world() else { return };
    let vm = world.vm("vm1").disk(0, vec![0; 4096]).monitor();
    vm.put_files();
    world.umladmin(&["check"]).ok();
    let outcome = as_user(world.command("umladmin", &["check"]));
    assert!(
        !outcome.stdout.contains("does not exist"),
        "{}",
        outcome.stdout
    );
    let told = "of vm1 cannot be examined: Permission denied (os error 13); check as root";
    assert!(outcome.stdout.contains(told), "{}", outcome.stdout);
    assert_eq!(outcome.status, Some(1));
}

/// I19
#[test]
fn file_systems_that_are_of_no_use_are_told() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").disk(0, vec![0; 4096]).configure();
    let var = world.path().join("var");
    let told = |text: &str| {
        let outcome = world.umladmin(&["check"]);
        assert!(outcome.stdout.contains(text), "{}", outcome.stdout);
    };
    let mount = |options: &str| {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&var))
        .ok();
    };
    mount("ro,mode=755");
    let var_shown = var.display();
    told(&format!(
        "{var_shown} is on a file system that is mounted read-only; mount it read-write"
    ));
    run(Command::new("umount").arg(&var)).ok();
    mount("noexec,mode=755");
    vm.start_monitor().ok();
    vm.put_files();
    told("is on a file system that is mounted noexec; remount it with exec");
    vm.end_monitor();
    run(Command::new("umount").arg("--lazy").arg(&var)).ok();
}
