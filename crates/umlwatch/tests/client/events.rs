//! Events, and waiting for the guest.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::monitor::Monitor;

/// The first lines that umlwatch prints, and itself.
fn listen(monitor: &Monitor, args: &[&str], lines: usize) -> (Vec<String>, Child) {
    let mut command = monitor.umlwatch(args);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.as_mut().unwrap());
    let lines = out.lines().take(lines).map(Result::unwrap).collect();
    (lines, child)
}

#[test]
fn events_are_lines_until_ctrl_c() {
    let monitor = Monitor::start("");
    let (lines, mut child) = listen(&monitor, &["vm1", "-events"], 4);
    assert_eq!(lines[0], "2026-11-24 03:32:32 UTC vm1: the VM is running");
    assert!(lines[1].ends_with(" UTC vm1: 1 earlier events were lost"));
    assert_eq!(
        lines[2],
        "2026-11-24 03:32:32 UTC vm1: sysrq h requested (eva)"
    );
    assert_eq!(
        lines[3],
        "2026-11-24 03:32:32 UTC vm1: the guest says: \\x1b[2Jhi"
    );
    monitor.expect("events 5");
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn events_are_json_lines_until_the_monitor_ends() {
    let monitor = Monitor::start("");
    let (lines, child) = listen(&monitor, &["vm1", "-json", "-events"], 4);
    let values: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = values.iter().map(|value| value["kind"].clone()).collect();
    assert_eq!(kinds, ["state", "missed", "request", "guest"]);
    assert_eq!(values[2]["who"], "eva");
    assert_eq!(values[2]["verb"], "sysrq");
    assert_eq!(values[2]["detail"], "h");
    assert_eq!(values[3]["detail"], "\x1b[2Jhi");
    assert_eq!(values[3]["number"], 5);
    assert_eq!(values[3]["time_ms"], 1_795_491_152_345_u64);
    monitor.expect("events 5");
    drop(monitor);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("the monitor has ended"), "{stderr}");
}

#[test]
fn a_guest_is_waited_for() {
    let monitor = Monitor::start("boot... login:");
    let run = |args: &[&str]| {
        let output = monitor.run(&[&["vm1"], args].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), stderr)
    };
    assert_eq!(run(&["-wait-ready", "9"]).0, 0);
    let (status, said) = run(&["-wait-ready", "2"]);
    assert!(
        status == 5 && said.contains("echo ready > /proc/mconsole"),
        "{said}"
    );
    let (status, said) = run(&["-wait-ready", "1"]);
    assert!(
        status == 1 && said.contains("the VM ended first: panicked: no"),
        "{said}"
    );
    assert_eq!(run(&["-wait-ready", "9,con0:login:"]).0, 0);
    let (status, said) = run(&["-wait-ready", "0,con0:Login"]);
    assert!(
        status == 5 && said.contains("con0 has not shown 'Login'"),
        "{said}"
    );
    for wrong in ["x", "9,con0", "9,con0:", "9,tty:x", ",con0:x"] {
        assert_eq!(run(&["-wait-ready", wrong]).0, 2, "{wrong}");
    }
    assert_eq!(run(&["-halt", "-wait-ready", "9"]).0, 3);
    assert_eq!(run(&["-wait-ready", "9,con0:login:"]).0, 3);
}
