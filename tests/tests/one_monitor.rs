//! Tier root: there is one monitor for a VM, and it is found, whatever happens to its files and to the configuration.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::path::PathBuf;

use e2e::{Outcome, Vm, World, called, program, run};
use serde_json::Value;

/// A copy of the configuration with another directory for pid files.
fn with_other_rundir(world: &World) -> PathBuf {
    let text = fs::read_to_string(world.configuration()).unwrap();
    let path = world.path().join("edited");
    fs::write(&path, text.replace("/run\n", "/elsewhere\n")).unwrap();
    path
}

/// Runs a program with a configuration.
fn with(configuration: &PathBuf, name: &str, args: &[&str]) -> Outcome {
    let mut command = called(program(name));
    run(command.arg("-config").arg(configuration).args(args))
}

/// Asserts that this configuration finds the VM, makes no second monitor, and stops the one that runs.
fn is_found_and_stopped(vm: &Vm<'_>, pid: i32, configuration: &PathBuf) {
    let list: Value =
        serde_json::from_str(&with(configuration, "umladmin", &["list", "-json"]).ok()).unwrap();
    assert_eq!(
        (&list[0]["state"], &list[0]["monitor_pid"]),
        (&"running".into(), &pid.into())
    );
    let second = with(configuration, "umlmon", &[vm.name()]).fails(1);
    assert!(
        second.contains(&format!("already running, pid {pid}")),
        "{second}"
    );
    let started = with(configuration, "umladmin", &["start", vm.name()]).stdout;
    assert!(
        started.contains(&format!("left as it is (its monitor runs, pid {pid})")),
        "{started}"
    );
    let updated = with(configuration, "umladmin", &["update"]).stdout;
    assert!(updated.contains("Nothing to do"), "{updated}");
    assert_eq!(vm.state(), "running");
    let stopped = with(configuration, "umladmin", &["stop", vm.name()]).stdout;
    assert!(stopped.contains("down after"), "{stopped}");
    // A process that has ended, and that nobody has waited for, has no program.
    assert!(
        fs::read_link(format!("/proc/{pid}/exe")).is_err(),
        "pid {pid} has ended"
    );
    assert!(!vm.file("ctrl").exists() && !vm.file("lock").exists());
}

/// Input I1.
#[test]
fn a_monitor_whose_files_are_lost_is_found_and_stopped() {
    let Some(world) = World::new() else { return };
    for lost in [&["pid"][..], &["lock"], &["pid", "lock"]] {
        let vm = world.vm("vm1").monitor();
        vm.start();
        let pid = vm.monitor_pid();
        for file in lost {
            let path = match *file {
                "pid" => vm.pid_file(),
                other => vm.file(other),
            };
            fs::remove_file(path).unwrap();
        }
        is_found_and_stopped(&vm, pid, &world.configuration());
    }
}

/// Input I1.
#[test]
fn a_monitor_is_found_and_stopped_when_the_run_directory_is_another_one() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    let pid = vm.monitor_pid();
    is_found_and_stopped(&vm, pid, &with_other_rundir(&world));
}

/// Input I1, for the directory service.
#[test]
fn there_is_one_directory_service_whatever_the_run_directory() {
    let Some(world) = World::new() else { return };
    run(&mut world.command("umldir", &[])).ok();
    let second = with(&with_other_rundir(&world), "umldir", &[]).fails(1);
    assert!(second.contains("already running, pid "), "{second}");
}
