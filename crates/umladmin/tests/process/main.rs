//! umladmin as a process, with monitors that have no kernel: what it does, what it says, its exit status.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // helpers of tests fail as tests do

mod fake;
mod many;
mod survival;
mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use config::VmName;
use daemon::PidFile;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::World;

/// Not a test: the process that the `umlmon` of [`World`] starts.
#[test]
fn fake_monitor() {
    let Ok(file) = std::env::var("UMLADMIN_FAKE_CONFIG") else {
        return;
    };
    let vm = VmName::try_from(std::env::var("UMLADMIN_FAKE_VM").unwrap().as_str()).unwrap();
    let fifo = PathBuf::from(&file).with_file_name(format!("{vm}.ready"));
    fake::run(Path::new(&file), &[vm], || {
        if std::env::var_os(fake::AGAIN).is_none() {
            fs::write(fifo, "ready\n").unwrap();
        }
    });
}

impl Drop for World {
    /// Whatever a failed test has left ends here.
    fn drop(&mut self) {
        let Ok(files) = fs::read_dir(self.path("run")) else {
            return;
        };
        for file in files.flatten() {
            if let Ok(Some(pid)) = PidFile::holder(&file.path())
                && pid != std::process::id()
            {
                let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
            }
        }
    }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let words = |line: &str| {
        line.split_once(' ')
            .map(|(a, b)| (a.into(), b.into()))
            .unwrap()
    };
    text.lines().map(words).collect()
}

#[test]
fn a_whole_day() {
    let world = World::new("b obeys boot\na obeys manual\nc obeys off");
    assert_eq!(world.states(&[]), pairs("b off\na off\nc off"));

    let (status, out, err) = world.said(&["start"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(
        out.ends_with("\n\nb  booting\na  monitor started  not booted: start = manual\nc  not started      start = off\n"),
        "{out}"
    );
    assert_eq!(world.states(&[]), pairs("b running\na inactive\nc off"));
    assert_eq!(world.states(&["-active"]), pairs("b running"));
    assert_eq!(
        world.states(&["-inactive", "-off"]),
        pairs("a inactive\nc off")
    );
    let (_, out, _) = world.said(&["-active", "list"]);
    assert!(out.starts_with("VM  STATE    PID"), "{out}");
    assert!(
        out.contains("64 MB (20 used)  1.2 s  1 min 1 s  boot   vec0 br0\n"),
        "{out}"
    );

    let (status, out, _) = world.said(&["start", "a", "b"]);
    assert_eq!(status, 0);
    assert!(
        out.contains("a: left as it is (its monitor runs, pid "),
        "{out}"
    );
    assert_eq!(world.calls("b"), ["start"]);
    let (status, out, _) = world.said(&["start", "c"]);
    assert_eq!(
        (status, out.as_str()),
        (1, "c: not started (start = off)\n")
    );

    let (status, out, err) = world.said(&["stop"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("b: down after 0."), "{out}");
    assert!(out.contains(" s (CTRL-ALT-DEL)\n"), "{out}");
    assert!(out.ends_with("c  off   already\n"), "{out}");
    assert_eq!(world.calls("b"), ["start", "ctrlaltdel true"]);
    assert_eq!(world.calls("a"), [""; 0]);
    assert_eq!(world.states(&[]), pairs("b off\na off\nc off"));
}

/// The lines of a stream as they come.
fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines
            .take_while(|line| send.send(line.clone()).is_ok())
            .for_each(drop);
    });
    lines
}

fn expect(lines: &Receiver<String>, part: &str) {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(20)) {
            Ok(line) if line.contains(part) => return,
            Ok(line) => seen.push(line),
            Err(_) => panic!("{part:?} did not come, but {seen:?}"),
        }
    }
}

fn interrupt(child: &Child) {
    kill_process(
        Pid::from_raw(child.id().cast_signed()).unwrap(),
        Signal::INT,
    )
    .unwrap();
}

#[test]
fn impatience_escalates() {
    let world = World::new("vm1 ignores boot\nvm2 obeys boot");
    assert_eq!(world.said(&["start"]).0, 0);
    let mut stop = world.command(&["-timeout", "600", "stop"]);
    let mut stop = stop
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, err) = (
        lines(stop.stdout.take().unwrap()),
        lines(stop.stderr.take().unwrap()),
    );
    expect(&out, "vm1: waiting for CTRL-ALT-DEL, up to 59");
    interrupt(&stop);
    expect(&err, "press Ctrl-C again to take the next step");
    interrupt(&stop);
    expect(&out, "vm1: Ctrl-C; next: sync and umount, up to 10 s");
    interrupt(&stop);
    expect(&out, "vm1: Ctrl-C; next: halt, up to 10 s");
    expect(&out, "vm1: down after ");
    expect(&out, "vm1  down");
    assert_eq!(stop.wait().unwrap().code(), Some(0));
    assert_eq!(
        world.calls("vm1"),
        ["start", "ctrlaltdel true", "sysrq s", "sysrq u", "halt"]
    );
    assert_eq!(world.calls("vm2"), ["start", "ctrlaltdel true"]);
}

#[test]
fn a_frozen_kernel_is_killed_and_a_mute_monitor_ended() {
    let world = World::new("vm1 frozen boot\nvm2 mute manual");
    assert_eq!(world.said(&["start"]).0, 0);
    let begin = Instant::now();
    assert_eq!(world.states(&[]), pairs("vm1 running\nvm2 not-responding"));
    assert!(begin.elapsed() < Duration::from_secs(4));

    let (status, out, err) = world.said(&["stop"]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(
        out.contains("vm1: the kernel does not answer; next: halt, up to 10 s"),
        "{out}"
    );
    assert!(out.contains(" s (kill)\n"), "{out}");
    assert!(
        err.contains("vm2: the monitor does not respond: no answer in time; its monitor is ended"),
        "{err}"
    );
    assert_eq!(
        world.calls("vm1"),
        ["start", "ctrlaltdel true", "sysrq s", "halt", "kill"]
    );
    assert_eq!(world.states(&[]), pairs("vm1 off\nvm2 off"));
}

#[test]
fn the_guest_is_shut_down_whatever_state_it_is_in() {
    let world = World::new("vm1 sleeps boot\nvm2 vague boot");
    assert_eq!(world.said(&["start"]).0, 0);
    assert_eq!(
        world.states(&[]),
        pairs("vm1 suspended\nvm2 not-responding")
    );
    let (status, out, err) = world.said(&["-timeout", "20", "stop"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(world.calls("vm1"), ["start", "continue", "ctrlaltdel true"]);
    assert_eq!(world.calls("vm2"), ["start", "ctrlaltdel true"]);
}

#[test]
fn update_follows_the_configuration_or_does_nothing() {
    let world = World::new("vm1 obeys boot\nvm2 obeys boot\nvm3 obeys boot");
    assert_eq!(world.said(&["start"]).0, 0);
    let as_before = pairs("vm1 running\nvm2 running\nvm3 running");

    let good = fs::read_to_string(world.path("umlmon.conf")).unwrap();
    fs::write(
        world.path("umlmon.conf"),
        good.replace("mem = 64", "mem = many"),
    )
    .unwrap();
    let (status, out, err) = world.said(&["update"]);
    assert_eq!(status, 1, "{out}");
    assert!(err.contains("umlmon.conf:6: "), "{err}");
    fs::write(world.path("umlmon.conf"), "vardir = nowhere\n").unwrap();
    assert_eq!(world.said(&["update"]).0, 1);
    fs::write(world.path("umlmon.conf"), good).unwrap();
    fs::write(world.path("var/vm3/config"), "[vm3]\nmem = -1\n").unwrap();
    let (status, out, err) = world.said(&["update"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("umladmin: vm3: "), "{err}");
    fs::remove_file(world.path("var/vm3/config")).unwrap();
    assert_eq!(world.states(&[]), as_before);
    assert_eq!(
        world.said(&["update"]).1,
        "Nothing to do: what runs matches the configuration.\n"
    );

    world.configure("vm2 obeys off\nvm3 obeys boot\nvm4 obeys boot");
    let (status, out, err) = world.said(&["update"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(
        world.states(&[]),
        pairs("vm2 off\nvm3 running\nvm4 running")
    );
    assert_eq!(world.calls("vm1"), ["start", "ctrlaltdel true"]);
    assert_eq!(world.calls("vm3"), ["start"]);
    let (status, _, err) = world.said(&["update", "vm1"]);
    assert_eq!(status, 1);
    assert!(err.contains("there is no VM \"vm1\""), "{err}");
    assert_eq!(world.said(&["stop"]).0, 0);
}

/// I18
#[test]
fn an_empty_installation_says_what_is_missing() {
    let world = World::new("");
    for command in ["list", "start", "events"] {
        let (status, out, err) = world.said(&[command]);
        assert_eq!((status, out.as_str()), (0, ""));
        assert!(
            err.contains("no VM is configured; umladmin create vm1 makes one, or add a section"),
            "{err}"
        );
        assert!(err.contains("umladmin check"), "{err}");
    }
    let (status, out, err) = world.said(&["list", "-json"]);
    assert_eq!((status, out.trim(), err.as_str()), (0, "[]", ""));
}

#[test]
fn a_faulty_section_keeps_nobody_from_the_other_vms() {
    let world = World::new("vm1 obeys boot\nvm2 obeys boot\nvm3 obeys boot");
    assert_eq!(world.said(&["start", "vm1", "vm2"]).0, 0);
    world.configure("vm1 obeys boot\nvm3 obeys boot\nvm4 obeys off");
    let good = fs::read_to_string(world.path("umlmon.conf")).unwrap();
    let faulty = good.replacen("mem = 64", "men = 64", 1);
    fs::write(world.path("umlmon.conf"), &faulty).unwrap();
    let fault = "umlmon.conf:6: there is no parameter";

    assert_eq!(world.states(&[]), pairs("vm1 running\nvm3 off\nvm4 off"));
    let (status, out, err) = world.said(&["list"]);
    assert_eq!(status, 1, "{out}");
    assert!(err.contains(fault), "{err}");
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    let starts = [("vm1", "faulty"), ("vm3", "boot"), ("vm4", "off")];
    for (vm, start) in starts {
        let row = rows.iter().find(|row| row[0] == vm).unwrap();
        assert!(row[1..].contains(&start), "{out}");
    }
    assert_eq!(world.said(&["list", "vm3"]).0, 0);
    assert_eq!(world.said(&["start", "vm1"]).0, 1);

    // vm2 may be what the faulty section was meant to be: it is not stopped.
    let (status, out, err) = world.said(&["update"]);
    assert_eq!(status, 1, "{out}");
    assert!(
        err.contains(fault) && err.contains("vm2: not stopped"),
        "{err}"
    );
    assert_eq!(
        world.states(&["vm1", "vm2", "vm3", "vm4"]),
        pairs("vm1 running\nvm2 running\nvm3 running\nvm4 off")
    );
    assert_eq!(world.said(&["stop", "vm3"]).0, 0);
    let (status, out, _) = world.said(&["start"]);
    assert_eq!(status, 1);
    assert!(out.contains("vm3  booting"), "{out}");

    // A section whose VM is not known is told whenever all are meant.
    fs::write(world.path("umlmon.conf"), good.replace("[vm4]", "[vm 4]")).unwrap();
    let nameless = "\"vm 4\" is not a VM name";
    for args in [&["list"][..], &["start"], &["update"]] {
        let (status, _, err) = world.said(args);
        assert!(status == 1 && err.contains(nameless), "{args:?}: {err}");
    }
    let (status, _, err) = world.said(&["list", "vm1"]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(world.calls("vm2"), ["start"]);
    let (status, _, err) = world.said(&["stop", "vm1", "vm2", "vm3"]);
    assert_eq!((status, err.as_str()), (0, ""));
}

/// I18
#[test]
fn a_vm_that_does_not_exist_has_no_row() {
    let world = World::new("vm1 obeys boot");
    let (status, out, err) = world.said(&["list", "vm9"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(
        err.starts_with("umladmin: vm9: there is no VM \"vm9\""),
        "{err}"
    );
    let (status, out, _) = world.said(&["list", "vm1", "vm9"]);
    assert_eq!(status, 1);
    assert!(out.contains("\nvm1  off") && !out.contains("vm9"), "{out}");
    assert_eq!(world.states(&["vm1", "vm9"]), pairs("vm1 off"));
}

#[test]
fn stop_needs_no_faultless_configuration() {
    let world = World::new("vm1 obeys boot\nvm2 obeys manual");
    let file = world.path("umlmon.conf");
    let good = fs::read_to_string(&file).unwrap();
    for (names, fault) in [
        (&["vm1"][..], good.replacen("mem = 64", "mem = many", 1)),
        (&[], good.replacen("mem = 64", "a stray line", 1)),
    ] {
        assert_eq!(world.said(&["start"]).0, 0);
        fs::write(&file, fault).unwrap();
        let (status, out, err) = world.said(&[&["stop"], names].concat());
        assert_eq!(status, 0, "{err}");
        assert!(err.contains("umlmon.conf:6: "), "{err}");
        assert!(out.contains("vm1: down"), "{out}");
        assert_eq!(world.said(&["stop", "vm3"]).0, 1);
        fs::write(&file, &good).unwrap();
        assert_eq!(world.calls("vm1").last().unwrap(), "ctrlaltdel true");
    }
    assert_eq!(world.states(&[]), pairs("vm1 off\nvm2 off"));
}

#[test]
fn what_is_not_configured_can_be_named() {
    let world = World::new("vm1 obeys boot\nvm2 obeys manual");
    assert_eq!(world.said(&["start"]).0, 0);
    world.configure("vm2 obeys manual");
    assert_eq!(world.states(&["vm1"]), pairs("vm1 running"));
    assert_eq!(world.said(&["stop", "vm1"]).0, 0);
    let (status, _, err) = world.said(&["stop", "vm1"]);
    assert_eq!(status, 1);
    assert!(
        err.starts_with("umladmin: vm1: there is no VM \"vm1\""),
        "{err}"
    );
    let (status, out, err) = world.said(&["list", "vm1", "vm2"]);
    assert_eq!(status, 1, "{out}{err}");
    assert_eq!(world.said(&["start", "../x"]).0, 2);
    assert_eq!(world.said(&["stop"]).0, 0);
}

#[test]
fn a_monitor_that_does_not_start_is_a_failure() {
    let world = World::new("vm1 obeys boot\nvm2 obeys boot");
    fs::write(
        world.path("umlmon"),
        "#!/bin/sh\necho \"umlmon: $3: no\" >&2\nexit 1\n",
    )
    .unwrap();
    let (status, out, err) = world.said(&["start"]);
    assert_eq!(status, 1);
    assert!(out.ends_with("vm1  failed  its monitor did not start (exit status: 1)\nvm2  failed  its monitor did not start (exit status: 1)\n"), "{out}");
    assert!(err.contains("umlmon: vm1: no\n"), "{err}");
}

#[test]
fn who_may_not_end_the_monitor_does_not_touch_the_guest() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let world = World::new("vm1 obeys boot");
    assert_eq!(world.said(&["start"]).0, 0);
    fs::set_permissions(world.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    let stop = world
        .command(&["stop"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(stop.status.code(), Some(1));
    let err = String::from_utf8(stop.stderr).unwrap();
    assert!(
        err.contains("vm1: cannot end its monitor: cannot open the pid file"),
        "{err}"
    );
    assert_eq!(world.calls("vm1"), ["start"]);
    assert_eq!(world.said(&["stop"]).0, 0);
}

#[test]
fn a_hundred_are_listed_at_once() {
    let names: Vec<String> = (0..100).map(|n| format!("vm{n}")).collect();
    let sections: Vec<String> = names
        .iter()
        .map(|name| format!("{name} obeys boot"))
        .collect();
    let world = World::new(&sections.join("\n"));
    let vms: Vec<VmName> = world.config().vm_names().cloned().collect();
    let (ready, is_ready) = channel();
    let file = world.path("umlmon.conf");
    std::thread::spawn(move || fake::run(&file, &vms, || ready.send(()).unwrap()));
    is_ready.recv_timeout(Duration::from_secs(20)).unwrap();
    let begin = Instant::now();
    let states = world.states(&[]);
    println!("100 VMs listed in {:?}", begin.elapsed());
    assert!(
        states.iter().all(|(_, state)| state == "inactive"),
        "{states:?}"
    );
    assert_eq!(states.len(), 100);
}

#[test]
fn the_printed_configuration_can_be_edited() {
    let world = World::new("vm1 obeys boot");
    fs::create_dir_all(world.path("var/vm1")).unwrap();
    fs::write(world.path("var/vm1/config"), "[vm1]\ncon0 = pty:con0\n").unwrap();
    let args = [
        "-rename",
        "vm9",
        "-set",
        "mem=128",
        "-clear",
        "kernelarg",
        "config",
        "vm1",
    ];
    let (status, out, err) = world.said(&args);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.starts_with("[vm9]\nvmuser = u-vm1\n"), "{out}");
    assert!(
        out.contains("\nmem = 128\n") && out.contains("\ncon0 = pty:con0\n"),
        "{out}"
    );
    assert!(!out.contains("kernelarg"), "{out}");
    assert_eq!(world.said(&["config"]).0, 2);
    let (status, _, err) = world.said(&["config", "vm2"]);
    assert_eq!(status, 1);
    assert!(err.contains("did you mean \"vm1\"?"), "{err}");
}

#[test]
fn a_password_comes_from_stdin() {
    let world = World::new("vm1 obeys boot");
    fs::write(world.path("secret"), "abc\n").unwrap();
    let mut command = world.command(&["password"]);
    let output = command
        .stdin(fs::File::open(world.path("secret")).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"900150983cd24fb0d6963f7d28e17f72\n"); // RFC 1321, A.5
}
