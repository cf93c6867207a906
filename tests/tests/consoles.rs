//! Tier real: consoles of a real guest: full-screen programs seen by who comes late, and megabytes whoever watches.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use e2e::{Login, Vm, World, flood, wait_for};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_painted_screen_is_seen_by_who_comes_late() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).monitor();
    vm.start();
    let mut first = vm.terminal("-connect", "con1", 24, 80);
    first.send("\r");
    first.expect("# ");
    first.send("vi /etc/inittab\r");
    first.expect("1/8");
    first.send("jjx");
    first.expect("[Modified]");
    // One who takes it over sees all of it at once, and not only what changes.
    let mut second = vm.terminal("-force-connect", "con1", 24, 80);
    // It is drawn word by word.
    for word in ["busybox's", "ctrlaltdel:/sbin/poweroff", "[Modified]"] {
        second.expect(word);
    }
    first.expect("taken over by");
    first.send("\x1d.");
    assert_eq!(first.wait(), Some(0));
    let screen = vm.umlwatch(&["-screen", "con1"]).ok();
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 24);
    assert!(lines[0].contains("busybox's init"), "{screen}");
    assert!(lines[23].contains("[Modified]"), "{screen}");
    second.send(":q!\r");
    second.expect("# ");
    second.send("\x1d.");
    assert_eq!(second.wait(), Some(0));
}

/// How often each number of watchers is tried: a terminal loses wake-ups by chance.
fn rounds() -> usize {
    let rounds = std::env::var("UMLMON_TEST_ROUNDS").ok();
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(4)
}

/// Somebody who looks on, and writes down what is to be seen.
struct Watcher {
    child: Child,
    path: PathBuf,
}

impl Watcher {
    fn new(vm: &Vm<'_>, path: PathBuf) -> Watcher {
        let mut command = vm.command(&["-watch", "con1"]);
        let stdout = File::create(&path).unwrap();
        let child = command.stdin(Stdio::null()).stdout(stdout).spawn().unwrap();
        Watcher { child, path }
    }

    fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    #[track_caller]
    fn has_seen(&self, expected: &[u8]) {
        wait_for("a watcher has seen all", || {
            let seen = std::fs::read(&self.path).unwrap();
            seen.ends_with(expected).then_some(())
        });
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_megabyte_arrives_whoever_watches() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let sent = flood(1 << 20);
    let vm = world
        .vm("vm1")
        .line("con1 = pty:con1")
        .line("history = 4096")
        .line("log_limit = 0")
        .disk(1, sent.clone())
        .guest(Login::RootShell)
        .monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("# ");
    console.send("stty raw -echo; while read n; do printf BEGIN$n.; cat /dev/ubdb; done\n");
    let mut round = 0;
    for watchers in [0, 1, 10] {
        let path = |n| world.path().join(format!("watcher{n}"));
        let watching: Vec<_> = (0..watchers).map(|n| Watcher::new(&vm, path(n))).collect();
        let stopped = Watcher::new(&vm, path(100));
        wait_for("all are watching", || {
            let watching = vm.info()["channels"][1]["watchers"]
                .as_array()
                .unwrap()
                .len();
            (watching == watchers + 1).then_some(())
        });
        stopped.stop();
        for _ in 0..rounds() {
            round += 1;
            console.send(&format!("{round}\n"));
            vm.expect_log("con1", &format!("BEGIN{round}."), &sent);
            console.expect(&format!("BEGIN{round}."));
            let seen = console.expect("000000000065535 ");
            assert!(
                seen.as_bytes() == sent,
                "round {round}: other bytes arrived"
            );
            watching.iter().for_each(|watcher| watcher.has_seen(&sent));
        }
    }
    console.leave();
}
