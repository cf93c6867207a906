//! Tier root: what the caller leaves behind changes nothing: each program is started from a hostile caller.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use e2e::{Directory, Vm, World, run};
use rustix::process::{Pid, Signal, kill_process};

/// The command, executed by a shell after `script`; `wrapper` is what stands before it then.
fn after(script: &str, wrapper: &str, command: &Command) -> Command {
    let mut hostile = Command::new("bash");
    hostile.args(["-c", &format!("{script}\nexec {wrapper} \"$@\""), "bash"]);
    hostile.arg(command.get_program()).args(command.get_args());
    hostile
}

/// The command, started by the script with which a whole tier can be run.
fn by_the_hostile_caller(command: &Command) -> Command {
    let caller = concat!(env!("CARGO_MANIFEST_DIR"), "/hostile-caller");
    after("", caller, command)
}

/// All signals are ignored and blocked, as far as that is possible.
fn deaf(command: &Command) -> Command {
    after("", "env --ignore-signal --block-signal", command)
}

/// The signals of a set in `/proc/PID/status`.
fn signals(pid: i32, set: &str) -> Vec<Signal> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    let set = u64::from_str_radix(line.unwrap().trim_start_matches([':', '\t']), 16).unwrap();
    let signals = (1..=31).filter(|n| set & (1 << (n - 1)) != 0);
    signals.filter_map(Signal::from_named_raw).collect()
}

/// A client that tells what happens, from when it is listening.
fn listener(vm: &Vm<'_>) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut client = deaf(&vm.command(&["-events"]));
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    (client, lines)
}

#[test]
fn signals_that_the_caller_ignores_or_blocks_work() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    run(&mut deaf(&world.command("umldir", &[]))).ok();
    run(&mut deaf(&world.command("umlmon", &["vm1"]))).ok();
    vm.put_files();
    vm.start();
    let directory = Directory::of(&world).pid().as_raw_pid();
    for daemon in [vm.monitor_pid(), directory] {
        let ignored = signals(daemon, "SigIgn");
        assert_eq!(ignored, [Signal::HUP, Signal::PIPE, Signal::XFSZ]);
        // They are received from a descriptor.
        let blocked = signals(daemon, "SigBlk");
        let received = [Signal::HUP, Signal::INT, Signal::USR2, Signal::TERM];
        assert_eq!(blocked, received);
    }
    // The fake kernel itself ignores it, as every program in Rust.
    assert_eq!(signals(vm.pid("kernel_pid"), "SigIgn"), [Signal::PIPE]);
    vm.kill();
    // The next one is started by umladmin, which waits for its child.
    vm.end_monitor();
    run(&mut deaf(&world.command("umladmin", &["start", "vm1"]))).ok();
    run(&mut deaf(&world.command("umladmin", &["stop", "vm1"]))).ok();
}

#[test]
fn a_client_obeys_ctrl_c_but_no_hang_up_that_its_caller_ignores() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let (mut client, mut lines) = listener(&vm);
    let pid = Pid::from_child(&client);
    kill_process(pid, Signal::HUP).unwrap();
    vm.start();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "SIGHUP has ended it");
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    let (mut client, _lines) = listener(&vm);
    kill_process(Pid::from_child(&client), Signal::TERM).unwrap();
    assert_ne!(client.wait().unwrap().code(), Some(1));
    vm.kill();
}

/// What the descriptors of a process are.
fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.map(|to| to.to_string_lossy().into_owned()).collect()
}

#[test]
fn daemons_keep_no_descriptor_and_no_variable_of_the_caller() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    let lock = world.path().join("lock");
    // Not even the standard ones are there.
    let script = format!(
        "export LD_BIND_NOW=1 LOCALDOMAIN=x; exec 3>{0} 77>{0} 4096>{0} <&- >&-",
        lock.display()
    );
    for (program, words) in [("umldir", &[][..]), ("umlmon", &["vm1"])] {
        run(&mut after(&script, "", &world.command(program, words))).ok();
    }
    let lock = lock.to_string_lossy().into_owned();
    for pid in [vm.monitor_pid(), Directory::of(&world).pid().as_raw_pid()] {
        let open = descriptors(pid);
        assert!(!open.contains(&lock), "{open:?}");
    }
    // A client is given one on purpose.
    let password = "exec 9<<<secret;";
    let client = vm.command(&["-info", "-password-file", "/dev/fd/9"]);
    run(&mut after(password, "", &client)).ok();
}

#[test]
fn neither_limits_nor_the_umask_of_the_caller_count() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).disk(0, vec![0; 4096]).configure();
    let rundir = world.path().join("run");
    for umask in ["000", "077"] {
        fs::remove_dir_all(&rundir).unwrap();
        let script = format!("umask {umask}; ulimit -S -f 1 -t 4 -s 256 -n 30 -v 400000 -d 400000");
        run(&mut after(&script, "", &world.command("umlmon", &["vm1"]))).ok();
        vm.put_files();
        let mode = rundir.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{umask}");
        vm.start();
        for pid in [vm.monitor_pid(), vm.pid("kernel_pid")] {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            for what in ["cpu time", "file size", "data size", "address space"] {
                let line = limits.lines().find(|line| line.contains(what)).unwrap();
                assert!(line.contains("unlimited"), "{line}");
            }
        }
        vm.kill();
        vm.end_monitor();
    }
    // The upper limit, too: root may lift it, but not in every container.
    let outcome = run(&mut after(
        "ulimit -f 1",
        "",
        &world.command("umlmon", &["vm1"]),
    ));
    if outcome.status == Some(0) {
        vm.start();
        vm.kill();
        vm.end_monitor();
    } else {
        let complaint = outcome.fails(1);
        assert!(
            complaint.contains("start it without the limit that `ulimit -f` shows"),
            "{complaint}"
        );
    }
    // Another user could take the pid file of a VM first.
    for mode in [0o777, 0o1777, 0o775] {
        fs::set_permissions(&rundir, fs::Permissions::from_mode(mode)).unwrap();
        for (program, words) in [("umldir", &[][..]), ("umlmon", &["vm1"])] {
            let complaint = run(&mut world.command(program, words)).fails(1);
            let wanted = format!("cannot use rundir, {}: others can", rundir.display());
            assert!(complaint.contains(&wanted), "{complaint}");
        }
    }
    fs::set_permissions(&rundir, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_vm_lives_as_usual_when_a_hostile_caller_starts_everything() {
    let Some(world) = World::new() else { return };
    let caller = "env --list-signal-handling true 2>&1 | grep CHLD;
        ulimit -S -f; umask; ls /proc/self/fd | wc -l";
    let mut shell = Command::new("bash");
    let left = run(&mut by_the_hostile_caller(shell.args(["-c", caller]))).ok();
    let left: Vec<&str> = left.lines().collect();
    assert_eq!(left[..3], ["CHLD       (17): IGNORE", "1024", "0077"]);
    assert!(left[3].parse::<u32>().unwrap() > 64, "{left:?}");

    let vm = world.vm("vm1").con(1).disk(0, vec![0; 4096]).configure();
    for (program, words) in [("umldir", &[][..]), ("umladmin", &["start", "vm1"])] {
        run(&mut by_the_hostile_caller(&world.command(program, words))).ok();
    }
    vm.put_files();
    // Bigger than a file of the caller may be.
    let commands = ["-disk-create", "/disks/new.dsk:4", "-start"];
    run(&mut by_the_hostile_caller(&vm.command(&commands))).ok();
    run(&mut by_the_hostile_caller(
        &world.command("umladmin", &["stop"]),
    ))
    .ok();
}

#[test]
fn a_monitor_without_its_second_program_says_where_it_looked() {
    let Some(world) = World::new() else { return };
    world.vm("vm1").configure();
    let whole = world.command("umlmon", &["vm1"]);
    let alone = world.path().join("umlmon-alone");
    // By another process: a program that is open for writing, in a child of another test, too, cannot be executed.
    run(Command::new("cp").arg(whole.get_program()).arg(&alone)).ok();
    let mut command = Command::new(&alone);
    let why = run(command.args(whole.get_args())).fails(1);
    let beside = alone.with_file_name("umlkeep");
    assert!(why.contains(&beside.display().to_string()), "{why}");
    assert!(why.ends_with("; install umlmon again\n"), "{why}");
}
