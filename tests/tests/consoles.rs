//! Tier real: consoles of a real guest: full-screen programs seen by a late client, and megabytes with and without
//! watchers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Instant;

use e2e::{Login, Vm, World, flood, sizes_are_recorded, wait_for};
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
    first.expect("1/9");
    first.send("jjx");
    first.expect("[Modified]");
    // One who takes it over sees all of it at once, and not only what changes.
    let mut second = vm.terminal("-force-connect", "con1", 30, 100);
    // It is drawn word by word.
    for word in ["busybox's", "ctrlaltdel:/sbin/poweroff", "[Modified]"] {
        second.expect(word);
    }
    first.expect("taken over by");
    // The editor paints over that, as the other terminal is larger.
    first.expect("ctrlaltdel:");
    first.expect("taken over by");
    first.send("\x1d.");
    assert_eq!(first.wait(), Some(0));
    let screen = vm.umlwatch(&["-screen", "con1"]).ok();
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 30);
    assert!(lines[0].contains("busybox's init"), "{screen}");
    assert!(lines[29].contains("[Modified]"), "{screen}");
    second.send(":q!\r");
    second.expect("# ");
    // One that paints line by line, for who only watches.
    second.send("top\r");
    second.expect("COMMAND");
    let mut third = vm.terminal("-watch", "con1", 30, 100);
    for word in ["Mem:", "COMMAND", "top"] {
        third.expect(word);
    }
    third.send("\x1d.");
    assert_eq!(third.wait(), Some(0));
    second.send("q");
    second.expect("# ");
    second.send("\x1d.");
    assert_eq!(second.wait(), Some(0));
}

/// Input I14.
#[test]
fn a_guest_writes_for_the_size_that_is_recorded_before() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).monitor();
    vm.start();
    sizes_are_recorded(&world, &vm, |user, rows, columns| {
        user.send("\r");
        user.expect("# ");
        user.send(&format!(
            "until stty size | grep '{rows} {columns}'; do :; done\r"
        ));
        user.expect(&format!("\n{rows} {columns}"));
    });
}

/// How often each number of watchers is tried: a terminal loses wake-ups by chance.
fn rounds(usual: usize) -> usize {
    let rounds = std::env::var("UMLMON_TEST_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok());
    rounds.unwrap_or(usual)
}

/// A client at con1, whose terminal is recorded in a file.
struct Client {
    child: Child,
    path: PathBuf,
}

impl Client {
    fn new(vm: &Vm<'_>, how: &str, stdin: Stdio, path: PathBuf) -> Client {
        let mut command = vm.command(&[how, "con1"]);
        let stdout = File::create(&path).unwrap();
        let child = command.stdin(stdin).stdout(stdout).spawn().unwrap();
        Client { child, path }
    }

    fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    #[track_caller]
    fn has_seen(&self, expected: &[u8]) {
        wait_for("a client has seen all", || {
            let seen = std::fs::read(&self.path).unwrap();
            seen.ends_with(expected).then_some(())
        });
    }

    /// Waits until it leaves by itself.
    #[track_caller]
    fn leaves(mut self) {
        let status = wait_for("a client leaves", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Ours; if it has been reaped, this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A guest whose con1 is logged, and keeps megabytes in memory, too.
fn logged(world: &World, disk: Vec<u8>) -> Vm<'_> {
    let vm = world
        .vm("vm1")
        .line("con1 = pty:con1")
        .line("history = 4096")
        .line("log_limit = 0")
        .disk(1, disk)
        .guest(Login::RootShell)
        .monitor();
    vm.start();
    vm
}

/// Calls `round` with its number and those who watch, so often for each number of them; one more watches and is
/// stopped.
fn whoever_watches(world: &World, vm: &Vm<'_>, rounds: usize, round: impl Fn(usize, &[Client])) {
    let mut number = 0;
    for watchers in [0, 1, 10] {
        let watcher = |n| {
            let path = world.path().join(format!("watcher{n}"));
            Client::new(vm, "-watch", Stdio::null(), path)
        };
        let watching: Vec<_> = (0..watchers).map(watcher).collect();
        let stopped = watcher(100);
        wait_for("all are watching", || {
            let watching = vm.info()["channels"][1]["watchers"]
                .as_array()
                .unwrap()
                .len();
            (watching == watchers + 1).then_some(())
        });
        stopped.stop();
        for _ in 0..rounds {
            number += 1;
            round(number, &watching);
        }
    }
}

#[test]
fn a_megabyte_arrives_whoever_watches() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let sent = flood(1 << 20);
    let vm = logged(&world, sent.clone());
    let console = RefCell::new(vm.connect("con1"));
    console.borrow_mut().expect("# ");
    console
        .borrow_mut()
        .send("stty raw -echo; while read n; do printf BEGIN$n.; cat /dev/ubdb; done\n");
    whoever_watches(&world, &vm, rounds(4), |round, watching| {
        let mut console = console.borrow_mut();
        console.send(&format!("{round}\n"));
        vm.expect_log("con1", &format!("BEGIN{round}."), &sent);
        console.expect(&format!("BEGIN{round}."));
        let seen = console.expect("000000000065535 ");
        assert!(
            seen.as_bytes() == sent,
            "round {round}: other bytes arrived"
        );
        watching.iter().for_each(|watcher| watcher.has_seen(&sent));
    });
    console.into_inner().leave();
}

#[test]
fn a_megabyte_is_typed_whoever_watches() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let sent = flood(1 << 20);
    let vm = logged(&world, Vec::new());
    let mut console = vm.connect("con1");
    console.expect("# ");
    console.send("mount -t tmpfs none /mnt; stty raw -echo; echo LISTENS$?; ");
    console.send(
        "while read n; do head -c 1048576 >/mnt/typed; printf TYPED$n.; cat /mnt/typed; done\n",
    );
    console.expect("LISTENS0");
    console.leave();
    whoever_watches(&world, &vm, rounds(1), |round, watching| {
        let (typed, seen) = (world.path().join("typed"), world.path().join("seen"));
        std::fs::write(&typed, [format!("{round}\n").as_bytes(), &sent].concat()).unwrap();
        let stdin = File::open(typed).unwrap().into();
        let client = Client::new(&vm, "-connect", stdin, seen);
        let begun = Instant::now();
        client.has_seen(&sent);
        println!("round {round}: there and back in {:?}", begun.elapsed());
        vm.expect_log("con1", &format!("TYPED{round}."), &sent);
        watching.iter().for_each(|watcher| watcher.has_seen(&sent));
        client.leaves();
    });
}
