//! Tier process: the programs as they are called, without a monitor and without root.

use std::process::Command;

use e2e::{World, program, run};

const PROGRAMS: [&str; 5] = ["umlmon", "umldir", "umlweb", "umlwatch", "umladmin"];

#[test]
fn every_program_tells_its_version_and_its_words() {
    for name in PROGRAMS {
        for dashes in ["-", "--"] {
            let version = run(Command::new(program(name)).arg(format!("{dashes}version"))).ok();
            assert_eq!(version, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
            let help = run(Command::new(program(name)).arg(format!("{dashes}help"))).ok();
            assert!(help.contains("-config FILE"), "{help}");
            let short = run(Command::new(program(name)).arg(format!("{dashes}h"))).ok();
            assert_eq!(short, help);
            let wide = help.lines().find(|line| line.len() > 80);
            assert_eq!(wide, None);
        }
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for (name, args) in [
        ("umlmon", &[][..]),
        ("umlmon", &["vm1", "vm2"]),
        ("umlmon", &["-frobnicate", "vm1"]),
        ("umlmon", &["../vm1"]),
        ("umlmon", &["GLOBAL"]),
        ("umlwatch", &[]),
        ("umlwatch", &["vm1", "-satrt"]),
        ("umlwatch", &["vm1", "-wait", "soon"]),
        ("umlwatch", &["vm1", "-connect", "tty1"]),
        ("umladmin", &[]),
        ("umladmin", &["strat"]),
        ("umladmin", &["-active", "stop"]),
    ] {
        let complaint = run(Command::new(program(name)).args(args)).fails(2);
        assert!(
            complaint.starts_with(&format!("{name}: ")),
            "{args:?}: {complaint}"
        );
    }
}

#[test]
fn the_daemons_tell_each_cause_once() {
    let world = World::unprivileged();
    let vm = world.vm("vm1").configure();
    let directory = world.path().join("run/directory.pid");
    for (pid_file, mut command, who) in [
        (
            vm.pid_file(),
            world.command("umlmon", &["vm1"]),
            "umlmon: vm1",
        ),
        (directory, world.command("umldir", &[]), "umldir"),
    ] {
        std::fs::create_dir(&pid_file).unwrap();
        let complaint = run(&mut command).fails(1);
        let path = pid_file.display();
        let wanted =
            format!("{who}: cannot open the pid file {path}: Is a directory (os error 21)\n");
        assert_eq!(complaint, wanted);
        std::fs::remove_dir(&pid_file).unwrap();
    }
}

#[test]
fn without_a_monitor_umlwatch_says_so() {
    let world = World::unprivileged();
    let vm = world.vm("vm1").configure();
    for command in ["-info", "-start", "-halt", "-connect=con0"] {
        let complaint = vm.umlwatch(&[command]).fails(3);
        assert!(
            complaint.starts_with("umlwatch: vm1: cannot "),
            "{complaint}"
        );
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    let list = world.umladmin(&["list"]).ok();
    assert!(
        list.lines().any(|line| line.starts_with("vm1  off")),
        "{list}"
    );
}

#[test]
fn an_error_in_the_configuration_is_told_with_its_line() {
    let world = World::unprivileged();
    let vm = world
        .vm("vm1")
        .line("kernl = /shared/kernels/linux")
        .configure();
    // The VM has its row all the same.
    let list = world.umladmin(&["list"]);
    assert!(
        list.status == Some(1) && list.stdout.contains("faulty"),
        "{list:?}"
    );
    for complaint in [
        list.stderr,
        world.umladmin(&["config", "vm1"]).fails(1),
        vm.start_monitor().fails(1),
    ] {
        let text = std::fs::read_to_string(world.configuration()).unwrap();
        let line = 1 + text
            .lines()
            .position(|line| line.starts_with("kernl"))
            .unwrap();
        assert!(
            complaint.contains(&format!("{}:{line}: ", world.configuration().display())),
            "{complaint}"
        );
        assert!(complaint.contains("kernel"), "no suggestion: {complaint}");
    }
}

/// I18
#[test]
fn an_error_in_the_section_of_another_vm_concerns_nobody() {
    let world = World::unprivileged();
    let vm = world.vm("vm1").configure();
    for nonsense in ["[vm2]\nkernl = x\n", "[vm2\n", "[vm 2]\n", "[vm2]\nstray\n"] {
        let good = std::fs::read_to_string(world.configuration()).unwrap();
        std::fs::write(world.configuration(), format!("{good}\n{nonsense}")).unwrap();
        world.umladmin(&["list", "vm1"]).ok();
        world.umladmin(&["config", "vm1"]).ok();
        let no_monitor = vm.umlwatch(&["-info"]).fails(3);
        assert!(no_monitor.contains("no monitor is running"), "{no_monitor}");
        std::fs::write(world.configuration(), good).unwrap();
    }
}

#[test]
fn the_configuration_of_a_vm_is_printed_and_can_be_read_again() {
    let world = World::unprivileged();
    world
        .vm("vm1")
        .con(1)
        .disk(0, "")
        .line("kernelarg = quiet")
        .configure();
    let printed = world.umladmin(&["config", "vm1"]).ok();
    let text = std::fs::read_to_string(world.configuration()).unwrap();
    let (global, _) = text.split_once("\n[vm1]").unwrap();
    std::fs::write(world.configuration(), format!("{global}\n{printed}")).unwrap();
    assert_eq!(world.umladmin(&["config", "vm1"]).ok(), printed);
}

#[test]
fn a_configuration_is_a_file() {
    let world = World::unprivileged();
    world.vm("vm1").configure();
    let file = world.configuration().display().to_string();
    for (name, words) in [
        ("umlmon", "vm1"),
        ("umlwatch", "vm1 -info"),
        ("umladmin", "list"),
    ] {
        let script = format!("{} -config <(cat {file}) {words}", program(name).display());
        let complaint = run(Command::new("bash").args(["-c", &script])).fails(1);
        assert!(complaint.contains("not a regular file"), "{complaint}");
    }
}

/// I22
#[test]
fn no_commands_are_read_for_a_vm_that_does_not_exist() {
    let world = World::unprivileged();
    world.vm("vm1").configure();
    let complaint = run(&mut world.command("umlwatch", &["nosuch"])).fails(1);
    assert!(complaint.contains("there is no such VM"), "{complaint}");
    // The monitor of this one may come.
    run(&mut world.command("umlwatch", &["vm1"])).ok();
}
