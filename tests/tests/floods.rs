//! Tier real: monitors are killed at random while two consoles of a guest flood.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::time::Duration;

use e2e::{Chance, Login, World, exchange_monitor, flood, kills, processes_that_stay};

/// How much the guest writes on each of two consoles in a round, in bytes.
const FLOOD: usize = 10_000_000;
/// At most how long a monitor lives while it does, in milliseconds.
const LONGEST: u64 = 60;

#[test]
fn no_byte_of_two_consoles_is_lost_however_often_the_monitor_is_killed() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let flood = flood(FLOOD);
    let vm = world.vm("vm1").line("con1 = pty:con1");
    let vm = vm.disk(1, flood.clone()).guest(Login::RootShell).monitor();
    vm.start();
    let before = processes_that_stay(&vm);
    let mut console = vm.connect("con1");
    console.expect("# ");
    // Raw, or the terminals of the guest would make two bytes of some. The shell echoes the line before it runs.
    console.send(
        "stty raw -echo; stty raw < /dev/tty0; echo RAW; while read n; do printf BEGIN$n. | tee /dev/tty0; \
         cat /dev/ubdb > /dev/tty0 & cat /dev/ubdb; wait; done\n",
    );
    console.expect("RAW\n");
    drop(console);
    let mut chance = Chance::new();
    let (kills, mut killed, mut round) = (kills(6), 0, 0);
    while killed < kills {
        round += 1;
        // Each in log files of its own, so that they do not fill the disk.
        let logs = ["con0", "con1"].map(|log| vm.file("log").join(log));
        logs.iter().for_each(|log| fs::remove_file(log).unwrap());
        vm.umlwatch(&["-rotate"]).ok();
        let mut console = vm.connect("con1");
        console.send(&format!("{round}\n"));
        let begin = format!("BEGIN{round}.");
        vm.expect_log("con0", &begin, b"");
        drop(console);
        let is_whole = |log| fs::metadata(log).is_ok_and(|log| log.len() >= FLOOD as u64);
        while killed < kills && !logs.iter().all(is_whole) {
            std::thread::sleep(Duration::from_millis(chance.below(LONGEST)));
            exchange_monitor(&vm);
            killed += 1;
        }
        vm.expect_log("con1", &begin, &flood);
        vm.expect_log("con0", &begin, &flood);
    }
    assert_eq!(processes_that_stay(&vm), before);
    vm.kill();
}
