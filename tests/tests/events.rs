//! Tier root: what happens to VMs is told as it happens, and a guest is waited for.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions beside the tests, too

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use e2e::{PATIENCE, World};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A client that prints events as JSON lines.
struct Listener {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Listener {
    fn new(mut command: Command) -> Listener {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().try_for_each(|line| send.send(line.unwrap())));
        Listener { child, lines }
    }

    /// The next event for which this holds.
    #[track_caller]
    fn expect(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            let event: Value = serde_json::from_str(&line).unwrap();
            if wanted(&event) {
                return event;
            }
            seen.push(line);
        }
        panic!("{what} did not come, but {seen:#?}")
    }

    /// The next event of this kind.
    #[track_caller]
    fn kind(&mut self, kind: &str) -> Value {
        self.expect(kind, |event| event["kind"] == kind)
    }

    /// The next change to this state.
    #[track_caller]
    fn state(&mut self, vm: &str, state: &str) {
        self.expect(&format!("{vm} {state}"), |event| {
            event["vm"] == vm && event["kind"] == "state" && event["state"] == state
        });
    }

    fn interrupt(self) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).unwrap();
        self.ended()
    }

    fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_life_is_told_and_logged_from_one_place() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let mut events = Listener::new(vm.command(&["-json", "-events"]));
    events.state("vm1", "inactive");

    vm.umlwatch(&["-start", "-wait-ready", "60"]).ok();
    assert_eq!(events.kind("request")["verb"], "start");
    events.state("vm1", "starting");
    // The fake kernel may be up before the child has told that it executes.
    let others = Cell::new(0);
    events.expect("ready and running", |event| {
        let counts = event["kind"] == "ready" || event["state"] == "running";
        others.set(others.get() + i32::from(counts));
        others.get() == 2
    });
    assert_eq!(vm.info()["ready"], true);

    let complaint = vm.umlwatch(&["-start"]).fails(1);
    let refused = events.kind("refused");
    assert!(complaint.contains(refused["detail"].as_str().unwrap()));
    assert_eq!(refused["verb"], "start");
    assert!(refused["who"].as_str().unwrap().starts_with("root, pid "));

    let mut console = vm.connect("con1");
    console.expect("fake login on con1");
    let attached = events.kind("attached");
    assert_eq!(
        (&attached["channel"], &attached["detail"]),
        (&"con1".into(), &"write".into())
    );
    console.send("notices:1\n");
    assert_eq!(events.kind("guest")["detail"], "notice 0");
    console.send("panic:No init\x1b[2J found\n");
    assert_eq!(events.kind("panic")["detail"], "No init\x1b[2J found");
    assert!(
        events.kind("end")["detail"]
            .as_str()
            .unwrap()
            .starts_with("kernel panic: No init")
    );
    events.state("vm1", "inactive");
    console.leave();
    assert_eq!(events.kind("detached")["channel"], "con1");
    assert_eq!(events.interrupt(), Some(0));

    let log = std::fs::read_to_string(vm.file("log/monitor")).unwrap();
    for line in [
        "INFO vm1: the guest is ready\n",
        "WARN vm1: start refused (root, pid ",
        "attached to con1 (write)\n",
        "INFO vm1: the guest says: notice 0\n",
        "WARN vm1: kernel panic: No init\\u{1b}[2J found\n",
        "detached from con1\n",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line:?} in {log}");
    }
}

#[test]
fn a_start_that_fails_is_told_once() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").line("ubd0 = /disks/missing.dsk").monitor();
    let mut events = Listener::new(vm.command(&["-json", "-events"]));
    events.state("vm1", "inactive");
    vm.umlwatch(&["-start"]).fails(1);
    let end = events.kind("end");
    assert!(
        end["detail"].as_str().unwrap().contains("missing.dsk"),
        "{end}"
    );
    events.state("vm1", "inactive");
    assert_eq!(events.interrupt(), Some(0));
    let log = std::fs::read_to_string(vm.file("log/monitor")).unwrap();
    let told = log.lines().filter(|line| line.contains("missing.dsk"));
    assert_eq!(told.count(), 1, "{log}");
}

#[test]
fn work_on_disks_is_told() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let mut events = Listener::new(vm.command(&["-json", "-events"]));
    events.state("vm1", "inactive");
    vm.umlwatch(&["-disk-create", "/disks/a.dsk:1"]).ok();
    let request = events.kind("request");
    assert_eq!(
        (&request["verb"], &request["detail"]),
        (&"disk-create".into(), &"/disks/a.dsk".into())
    );
    assert_eq!(events.kind("disk")["detail"], "");
    vm.umlwatch(&["-disk-create", "/disks/a.dsk:1"]).fails(1);
    let failed = events.expect("a failure", |event| {
        event["kind"] == "disk" || event["kind"] == "refused"
    });
    assert_ne!(failed["detail"], "");
    assert_eq!(events.interrupt(), Some(0));
}

#[test]
fn a_guest_that_does_not_become_ready() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let complaint = vm.umlwatch(&["-wait-ready", "60"]).fails(3);
    assert!(complaint.contains("not running"), "{complaint}");
    // The text is looked for in this run only, and wherever it is by now.
    vm.umlwatch(&["-start", "-wait-ready", "60,con1:fake login on con1"])
        .ok();
    vm.umlwatch(&["-wait-ready", "60,con1:fake login on con1"])
        .ok();
    let complaint = vm.umlwatch(&["-wait-ready", "0,con1:Fake"]).fails(5);
    assert!(
        complaint.contains("con1 has not shown 'Fake'"),
        "{complaint}"
    );
    // No client stays attached.
    assert_eq!(vm.info()["channels"][1]["watchers"], serde_json::json!([]));
    vm.kill();
    assert_eq!(vm.info()["ready"], false);

    let mut events = Listener::new(vm.command(&["-json", "-events"]));
    events.state("vm1", "inactive");
    let mut waiting = vm.command(&["-start", "-wait-ready", "60,con0:never"]);
    let waiting = waiting.stderr(Stdio::piped()).spawn().unwrap();
    events.kind("attached");
    let mut console = vm.connect("con1");
    console.expect("fake login on con1");
    console.send("panic:lost\n");
    console.expect_remark("[vm1 is down");
    let output = waiting.wait_with_output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(
        complaint.contains("the VM ended first: panicked: lost"),
        "{complaint}"
    );
    assert_eq!(events.interrupt(), Some(0));
}

#[test]
fn events_of_several_vms_are_merged_over_the_ends_of_monitors() {
    let Some(world) = World::new() else { return };
    let one = world.vm("vm1").monitor();
    let two = world.vm("vm2").monitor();
    let three = world.vm("vm3").configure();
    let mut events = Listener::new(world.command("umladmin", &["-json", "events"]));
    events.state("vm1", "inactive");
    events.state("vm2", "inactive");
    assert_eq!(events.kind("monitor-missing")["vm"], "vm3");

    two.umlwatch(&["-start"]).ok();
    events.state("vm2", "running");
    one.umlwatch(&["-start"]).ok();
    events.state("vm1", "running");

    let mut alone = Listener::new(two.command(&["-json", "-events"]));
    alone.state("vm2", "running");
    kill_process(Pid::from_raw(two.monitor_pid()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(events.kind("shutdown")["vm"], "vm2");
    let ended = events.kind("monitor-ended");
    assert_eq!(ended["text"], "its monitor has ended");
    alone.kind("shutdown");
    alone.state("vm2", "inactive");
    assert_eq!(alone.ended(), Some(0));
    one.umlwatch(&["-kill"]).ok();
    events.state("vm1", "inactive");
    e2e::wait_for("the end of the monitor of vm2", || {
        (!two.pid_file().exists()).then_some(())
    });
    two.start_monitor().ok();
    assert_eq!(events.kind("monitor-started")["vm"], "vm2");
    three.start_monitor().ok();
    events.state("vm3", "inactive");
    // Inactive, it ends at once.
    kill_process(Pid::from_raw(three.monitor_pid()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(events.kind("shutdown")["vm"], "vm3");
    kill_process(Pid::from_raw(two.monitor_pid()).unwrap(), Signal::KILL).unwrap();
    let ended = events.kind("monitor-ended");
    let ended = if ended["vm"] == "vm3" {
        events.kind("monitor-ended")
    } else {
        ended
    };
    assert_eq!(ended["text"], "its monitor has ended unexpectedly");
    two.start_monitor().ok();
    assert_eq!(events.interrupt(), Some(0));
}

#[test]
fn events_need_a_vm_that_is_configured() {
    let world = World::unprivileged();
    let outcome = e2e::run(&mut world.command("umladmin", &["events", "vm7"]));
    assert!(outcome.fails(1).contains("vm7: there is no such VM"));
}
