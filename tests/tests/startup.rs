//! Tier root: what the caller leaves behind changes nothing: each program is started from a hostile caller.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::io::{BufRead as _, BufReader};
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
        assert_eq!(ignored, [Signal::HUP, Signal::PIPE]);
        // They are received from a descriptor.
        let blocked = signals(daemon, "SigBlk");
        assert_eq!(blocked, [Signal::HUP, Signal::INT, Signal::TERM]);
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
