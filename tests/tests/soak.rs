//! Tier real: hours of use, as many as there is patience for: what is used again and again takes no more of the host
//! each time. `UMLMON_TEST_SOAK` says for how many seconds (default 15); it prints what it has measured.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use e2e::{Directory, Login, Vm, World, free_port, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// How much memory a daemon may have more at the end than after the first third, in KB, however long it takes. What it
/// keeps stays the same, but its allocator finds fewer and fewer gaps in between to fill: about 100 KB in half an hour,
/// ever slower. Whatever is kept of each round shows in the long run.
const GROWTH: u64 = 192;
/// The log of a console, of which the one before is kept beside it, and what is written until that is noticed.
const LOG: u64 = 2 * ((1 << 20) + (256 << 10));

/// What a daemon has.
#[derive(Clone, Copy, Debug)]
struct Sample {
    hours: f64,
    /// In KB: what would be free without it.
    own: u64,
    descriptors: usize,
}

fn sample(pid: i32, begun: Instant) -> Sample {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let number = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    Sample {
        hours: begun.elapsed().as_secs_f64() / 3600.0,
        own: private.filter_map(number).sum(),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
    }
}

/// The slope of the straight line with the least squares, in KB an hour.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.iter().map(|_| 1.0).sum::<f64>();
    let value = |sample: &Sample| f64::from(u32::try_from(sample.own).unwrap());
    let hours = samples.iter().map(|sample| sample.hours).sum::<f64>() / count;
    let own = samples.iter().map(value).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for sample in samples {
        above += (sample.hours - hours) * (value(sample) - own);
        below += (sample.hours - hours).powi(2);
    }
    above / below
}

/// A client that watches for a while, in the background.
struct Watcher(Child);

impl Watcher {
    fn new(vm: &Vm<'_>, command: &[&str]) -> Watcher {
        let mut command = vm.command(command);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Watcher(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Gone without a farewell, as clients go.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that is done to a VM with the fake kernel.
fn use_it(world: &World, vm: &Vm<'_>, round: usize) {
    let events = Watcher::new(vm, &["-json", "-events"]);
    vm.start();
    let watching = Watcher::new(vm, &["-watch", "con1"]);
    let mut console = vm.on_con1();
    console.send("flood:con1:100000\n");
    console.expect("000000000006249 ");
    vm.umlwatch(&["-suspend", "-continue"]).ok();
    let before = vm.con0().matches("GUEST-READY").count();
    console.send("\nreboot\n");
    vm.wait_con0("GUEST-READY", before + 1);
    console.expect("fake login on con1");
    let mut terminal = vm.terminal("-force-connect", "con1", 24, 80);
    terminal.expect("fake login on con1");
    terminal.send("\x1d.");
    assert_eq!(terminal.wait(), Some(0));
    drop(watching);
    drop(console);
    vm.umlwatch(&["-info", "-disk-list", "-tail", "con1,5", "-screen", "con1"])
        .ok();
    vm.umlwatch(&["-set", &format!("mem={}", 32 + round % 8)])
        .ok();
    vm.umlwatch(&["-disk-create", "/disks/new.dsk:1"]).ok();
    vm.umlwatch(&["-disk-delete", "/disks/new.dsk"]).ok();
    let target = format!("{}@127.0.0.1", vm.name());
    let password = world.path().join("password");
    let mut far = world.command("umlwatch", &["-via", "redirector", "-password-file"]);
    run(far.arg(password).args([&target, "-info"])).ok();
    match round % 3 {
        0 => vm.umlwatch(&["-kill"]).ok(),
        1 => vm.umlwatch(&["-ctrlaltdel"]).ok(),
        _ => {
            let kernel = Pid::from_raw(vm.pid("kernel_pid")).unwrap();
            kill_process(kernel, Signal::KILL).unwrap();
            String::new()
        }
    };
    vm.wait_inactive();
    // As logrotate does it.
    let log = vm.file("log/monitor");
    fs::rename(&log, vm.file("log/monitor.1")).unwrap();
    vm.umlwatch(&["-rotate"]).ok();
    wait_for("the log is opened anew", || log.exists().then_some(()));
    drop(events);
}

/// The VM whose kernel is a real one.
fn use_the_real_one(vm: &Vm<'_>, round: usize) {
    let mut console = vm.connect("con1");
    console.send(&format!(
        "echo begin-$(({round}+1)); seq 20000; echo end-$(({round}+1))\n"
    ));
    console.expect(&format!("end-{}\r\n", round + 1));
    console.leave();
    vm.umlwatch(&["-info", "-sysrq", "s", "-suspend", "-continue"])
        .ok();
    if round % 8 == 7 {
        vm.umlwatch(&["-ctrlaltdel"]).ok();
        vm.wait_inactive();
        vm.start();
    }
}

/// No client is connected: no daemon has more descriptors than it had before. It may have fewer: those of a client that
/// has just gone are still counted in the first rounds.
fn samples(
    daemons: &BTreeMap<String, i32>,
    begun: Instant,
    rested: Option<&BTreeMap<String, Sample>>,
) -> BTreeMap<String, Sample> {
    let measure = |(name, pid): (&String, &i32)| {
        let all_closed = || {
            let now = sample(*pid, begun);
            let settled =
                |rested: &BTreeMap<String, Sample>| now.descriptors <= rested[name].descriptors;
            rested.is_none_or(settled).then_some(now)
        };
        let what = format!("{name} has no more descriptors than at first");
        (name.clone(), wait_for(&what, all_closed))
    };
    daemons.iter().map(measure).collect()
}

/// F45
#[test]
fn hours_of_use_take_no_more_of_the_host() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let seconds = std::env::var("UMLMON_TEST_SOAK").map_or(15, |text| text.parse().unwrap());
    let (asking, redirector) = (free_port(), free_port());
    world.global("tcp_redir = true\nlisten = 127.0.0.1\npassword = secret");
    world.global(&format!(
        "umldir_port = {asking}\numlredir_port = {redirector}"
    ));
    world.secret_file("password", "secret");
    let directory = Directory::start(&world);
    let vms: Vec<_> = [("one", "games"), ("two", "news"), ("three", "mail")]
        .map(|(name, user)| {
            let vm = world.vm(name).user(user).line("con1 = pty:con1");
            vm.line("history = 64").line("log_limit = 1").monitor()
        })
        .into();
    let real = world
        .vm("real")
        .con(1)
        .line("history = 64")
        .guest(Login::RootShell)
        .monitor();
    real.start();
    let mut daemons: BTreeMap<_, _> = vms
        .iter()
        .chain([&real])
        .map(|vm| (vm.name().to_owned(), vm.monitor_pid()))
        .collect();
    daemons.insert("directory".into(), directory.pid().as_raw_nonzero().get());

    let begun = Instant::now();
    let mut taken: Vec<BTreeMap<String, Sample>> = Vec::new();
    for round in 0.. {
        vms.iter().for_each(|vm| use_it(&world, vm, round));
        use_the_real_one(&real, round);
        world.umladmin(&["list"]).ok();
        taken.push(samples(&daemons, begun, taken.get(1)));
        if begun.elapsed() > Duration::from_secs(seconds) && round >= 5 {
            break;
        }
    }
    for vm in &vms {
        let size = |name: &str| fs::metadata(vm.file(name)).map_or(0, |log| log.len());
        let both = size("log/con1") + size("log/con1~");
        assert!(both < LOG, "{} KB of logs", both >> 10);
    }
    real.kill();
    judge(&taken);
}

/// Says how much more each daemon has, and that it is not too much.
fn judge(taken: &[BTreeMap<String, Sample>]) {
    let mut grown = Vec::new();
    for name in taken[0].keys() {
        let all: Vec<Sample> = taken.iter().map(|round| round[name]).collect();
        let settled = &all[all.len() / 3..];
        let third = settled.len().div_ceil(3);
        // What it never had less of, as it is measured in the middle of this and that.
        let least = |part: &[Sample]| part.iter().map(|sample| sample.own).min().unwrap();
        let (first, last) = (
            least(&settled[..third]),
            least(&settled[settled.len() - third..]),
        );
        let hours = settled[settled.len() - 1].hours - settled[0].hours;
        let tenths: Vec<u64> = all.chunks(all.len().div_ceil(10)).map(least).collect();
        eprintln!(
            "{name}: {} rounds, {} descriptors, KB {tenths:?}",
            all.len(),
            all[0].descriptors
        );
        if hours > 0.1 {
            eprintln!(
                "{name}: {:+.1} KB an hour, in {hours:.2} hours",
                slope(settled)
            );
        }
        if last > first + GROWTH {
            grown.push(name);
        }
    }
    assert!(grown.is_empty(), "{grown:?}");
}
