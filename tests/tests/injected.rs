//! Tier root: system calls of the daemons that fail, or do less than they were asked to; the ids are those of
//! docs/TESTING.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use e2e::host::Cage;
use e2e::{
    Call, Chance, Console, Directory, Fate, Injector, Vm, World, flood, free_port, run, wait_for,
};
use nix::libc;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Calls that take something of the host which can be exhausted.
const TAKES: [i64; 11] = [
    libc::SYS_clone,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_pipe2,
    libc::SYS_mount,
    libc::SYS_mkdirat,
    libc::SYS_mkdir,
    libc::SYS_epoll_ctl,
    libc::SYS_fcntl,
];

/// What a start, work on disks and the site command say, and that nothing is left of them.
#[track_caller]
fn all_are_refused(vm: &Vm<'_>, why: &[&str]) {
    for command in [
        &["-start"][..],
        &["-disk-create", "/disks/new.dsk:1"],
        &["-disk-list"],
        &["-site", "hello"],
    ] {
        let complaint = vm.umlwatch(command).fails(1);
        for word in why {
            assert!(complaint.contains(word), "{command:?}: {complaint}");
        }
        vm.wait_inactive();
    }
    assert!(!vm.file("jail/disks/new.dsk").exists());
}

/// All of them work.
#[track_caller]
fn all_work(vm: &Vm<'_>) {
    vm.umlwatch(&["-disk-create", "/disks/new.dsk:1"]).ok();
    vm.umlwatch(&["-disk-delete", "/disks/new.dsk"]).ok();
    assert_eq!(vm.umlwatch(&["-site", "hello"]).ok(), "hello\n");
    vm.start();
    vm.kill();
}

/// F23
#[test]
fn without_processes_nothing_begins_and_what_runs_goes_on() {
    let Some(world) = World::new() else { return };
    let Some(cage) = Cage::new() else { return };
    world.global("sitecmd = /bin/echo");
    let vm = world.vm("vm1").con(1).configure();
    let umlmon = world.command("umlmon", &["vm1"]);
    for allowed in [1, 2] {
        cage.allow(Some(allowed));
        let complaint = run(&mut cage.command(&umlmon)).fails(1);
        for word in ["Resource temporarily unavailable", "pids.max"] {
            assert!(complaint.contains(word), "{complaint}");
        }
        assert!(!vm.pid_file().exists());
    }
    cage.allow(None);
    vm.start_monitor().ok();
    vm.put_files();
    cage.take(vm.monitor_pid());
    cage.allow(Some(1));
    all_are_refused(&vm, &["Resource temporarily unavailable", "pids.max"]);
    cage.allow(None);
    // A guest that reboots is started anew, which does not succeed; its session goes on when somebody starts it.
    vm.start();
    let mut console = vm.on_con1();
    cage.allow(Some(1));
    vm.umlwatch(&["-disk-list"]).fails(1);
    console.send("still here");
    console.expect("still here");
    console.send("\nreboot\n");
    vm.wait_inactive();
    let (how, text) = vm.last_end();
    assert_eq!(how, "not-started");
    assert!(text.contains("pids.max"), "{text}");
    cage.allow(None);
    vm.start();
    console.expect("fake login on con1");
    console.leave();
    vm.kill();
    all_work(&vm);
}

/// F23
#[test]
fn without_a_process_for_the_kernel_the_start_says_so() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let monitor = Pid::from_raw(vm.monitor_pid());
    let limit = |current| {
        let maximum = getrlimit(Resource::Nproc).maximum;
        prlimit(monitor, Resource::Nproc, Rlimit { current, maximum }).unwrap()
    };
    // The monitor is root's, whom it does not bound; the second process becomes the user of the VM.
    let before = limit(Some(0));
    let complaint = vm.umlwatch(&["-start"]).fails(1);
    for word in ["Resource temporarily unavailable", "pids_limit"] {
        assert!(complaint.contains(word), "{complaint}");
    }
    vm.wait_inactive();
    limit(before.current);
    vm.start();
    vm.kill();
}

/// F23
#[test]
fn without_memory_for_a_process_nothing_begins() {
    let Some(world) = World::new() else { return };
    world.global("sitecmd = /bin/echo");
    let vm = world.vm("vm1").con(1).monitor();
    let injector = Injector::on(vm.monitor_pid(), |call| match call.number {
        libc::SYS_clone => Fate::Fail(Errno::NOMEM),
        _ => Fate::Pass,
    });
    all_are_refused(&vm, &["Cannot allocate memory", "the host has no memory"]);
    drop(injector);
    all_work(&vm);
}

/// F23
#[test]
fn without_memory_a_start_fails_at_any_step_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).disk(0, vec![1; 4096]).monitor();
    let countdown = Arc::new(AtomicI64::new(0));
    let left = Arc::clone(&countdown);
    let injector = Injector::on(vm.monitor_pid(), move |call| {
        let takes = match call.number {
            libc::SYS_fcntl => call.args[1] == u64::from(libc::F_DUPFD_CLOEXEC.unsigned_abs()),
            libc::SYS_epoll_ctl => call.args[1] == u64::from(libc::EPOLL_CTL_ADD.unsigned_abs()),
            number => TAKES.contains(&number),
        };
        match takes && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            true => Fate::Fail(Errno::NOMEM),
            false => Fate::Pass,
        }
    });
    let (mut refused, mut lost) = (0, 0);
    for step in 1.. {
        countdown.store(step, Ordering::SeqCst);
        let start = vm.umlwatch(&["-start"]);
        let spared = countdown.swap(0, Ordering::SeqCst) > 0;
        match start.status {
            // It can go on without some of it, as a control group.
            Some(0) => drop(vm.umlwatch(&["-kill"]).ok()),
            Some(3) if start.stderr.contains("the monitor has ended") => lost += 1,
            _ => {
                let complaint = start.fails(1);
                assert!(
                    complaint.contains("Cannot allocate memory"),
                    "{step}: {complaint}"
                );
                refused += 1;
            }
        }
        vm.wait_inactive();
        if spared {
            break;
        }
    }
    // The connection itself could not be had; more than once, if something else came first in between.
    assert!((1..4).contains(&lost), "{lost}");
    assert!(refused > 20 && injector.faults() > refused, "{refused}");
    drop(injector);
    vm.start();
    vm.kill();
}

/// Everything that a host's kernel may do to calls without having to say why, by chance.
fn disturbed(seed: u64) -> impl FnMut(&Call<'_>) -> Fate + Send + 'static {
    let mut chance = Chance::with(seed);
    move |call| match call.number {
        libc::SYS_epoll_wait | libc::SYS_poll | libc::SYS_ppoll if chance.one_in(8) => {
            Fate::Fail(Errno::INTR)
        }
        libc::SYS_accept4 if chance.one_in(3) => Fate::Fail(
            [Errno::AGAIN, Errno::INTR, Errno::CONNABORTED]
                [usize::try_from(chance.below(3)).unwrap()],
        ),
        _ => match chance.below(8) {
            // A message fits into a pipe in which there is none.
            0 if call.never_waits() && (call.is_transfer() || receives_message(call)) => {
                Fate::Fail(Errno::AGAIN)
            }
            // Linux interrupts no call on a socket that never waits.
            1 if call.is_transfer() && !(call.is_socket() && call.never_waits()) => {
                Fate::Fail(Errno::INTR)
            }
            2 | 3 if call.is_transfer() => {
                let few = chance.one_in(2);
                Fate::AtMost(1 + chance.below(if few { 16 } else { call.length().max(1) }))
            }
            _ => Fate::Pass,
        },
    }
}

fn receives_message(call: &Call<'_>) -> bool {
    call.number == libc::SYS_recvfrom && call.is_socket()
}

/// Nobody does anything, so neither does the daemon: what did not work is not tried without a pause.
#[track_caller]
fn is_quiet(injector: &Injector) {
    wait_for("the daemon has nothing to do", || {
        let before = injector.calls();
        std::thread::sleep(Duration::from_millis(300));
        (injector.calls() - before < 30).then_some(())
    });
}

/// Floods con1 from both sides, through this session, and compares what is seen there and logged with what was written.
/// There must be history enough for a session that is slow.
#[track_caller]
fn flood_both_ways(vm: &Vm<'_>, session: &mut Console) {
    session.send("flood:con1:500000\n");
    session.expect("flood:con1:500000");
    let seen = session.expect(" 000000000031249 ");
    let sent = String::from_utf8(flood(500_000)).unwrap();
    let pairs = seen.trim_start().bytes().zip(sent.bytes());
    let wrong = pairs.enumerate().find(|(_, (seen, sent))| seen != sent);
    assert_eq!(wrong, None, "the first wrong byte of {}", seen.len());
    vm.expect_log("con1", "flood:con1:500000\n", sent.as_bytes());
    // The fake kernel echoes what is typed.
    let typed = format!("\n{}", &sent[..100_000]);
    session.send(&typed);
    vm.expect_log("con1", " 000000000031249 ", typed.as_bytes());
    session.expect(" 000000000006249 ");
    session.send("\n");
}

/// F21
#[test]
fn short_and_interrupted_calls_of_a_monitor_change_nothing() {
    let Some(world) = World::new() else { return };
    let vm = world
        .vm("vm1")
        .line("con1 = pty:con1")
        .line("history = 2048")
        .disk(0, vec![1; 4096]);
    let vm = vm.monitor();
    for seed in 1..=3 {
        let monitor = Injector::on(vm.monitor_pid(), disturbed(seed));
        vm.start();
        let child = Injector::on(vm.pid("child_pid"), disturbed(seed));
        let mut console = vm.on_con1();
        flood_both_ways(&vm, &mut console);
        is_quiet(&monitor);
        console.leave();
        let many = [
            "-info",
            "-disk-list",
            "-suspend",
            "-continue",
            "-tail",
            "con0,5",
        ];
        vm.umlwatch(&many).ok();
        vm.umlwatch(&["-set", "mem=32", "-del", "mem"]).ok();
        is_quiet(&monitor);
        vm.umlwatch(&["-ctrlaltdel"]).ok();
        vm.wait_inactive();
        assert!(monitor.faults() > 500, "{}", monitor.faults());
        assert!(child.faults() > 0, "{}", child.faults());
        drop((monitor, child));
        // The log of the next one begins anew.
        fs::remove_file(vm.file("log/con1")).unwrap();
        vm.umlwatch(&["-rotate"]).ok();
    }
    vm.start();
    vm.kill();
}

/// F21
#[test]
fn short_and_interrupted_calls_of_the_redirector_change_nothing() {
    let Some(world) = World::new() else { return };
    let (asking, redirector) = (free_port(), free_port());
    world.global("tcp_redir = true\nlisten = 127.0.0.1\npassword = secret");
    world.global(&format!(
        "umldir_port = {asking}\numlredir_port = {redirector}"
    ));
    let password = world.secret_file("password", "secret");
    let directory = Directory::start(&world);
    let injector = Injector::on(directory.pid().as_raw_nonzero().get(), disturbed(7));
    let vm = world.vm("vm1").line("con1 = pty:con1");
    let vm = vm.line("history = 2048").monitor();
    vm.start();
    let path = password.to_str().unwrap();
    let far = [
        "-via",
        "redirector",
        "-password-file",
        path,
        "vm1@127.0.0.1",
    ];
    let far = |commands: &[&str]| world.command("umlwatch", &[&far, commands].concat());
    wait_for("the registration", || {
        let listed = run(&mut far(&["-info"]));
        (!listed.stderr.contains("no monitor of ")).then_some(())
    });
    let mut console = Console::of(&mut far(&["-connect", "con1"]));
    console.expect("fake login on con1");
    flood_both_ways(&vm, &mut console);
    is_quiet(&injector);
    console.leave();
    run(&mut far(&["-info", "-kill"])).ok();
    vm.wait_inactive();
    assert!(injector.faults() > 200, "{}", injector.faults());
    is_quiet(&injector);
    drop(injector);
    run(&mut far(&["-info"])).ok();
}

/// F21
#[test]
fn an_error_of_a_log_or_a_connection_costs_that_one_only() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(2).line("con1 = pty:con1").monitor();
    vm.start();
    let before = sockets(&vm);
    let mut first = vm.on_con1();
    let new = sockets(&vm).into_iter().find(|name| !before.contains(name));
    let connection = new.unwrap();
    let mut second = vm.connect("con2");
    second.expect("fake login on con2");
    let log = vm.file("log/con1");
    let broken = log.to_str().unwrap().to_owned();
    let injector = Injector::on(vm.monitor_pid(), move |call| {
        match call.number == libc::SYS_write && call.descriptor() == broken {
            true => Fate::Fail(Errno::IO),
            false => Fate::Pass,
        }
    });
    first.send("flood:con1:100000\n");
    first.expect("000000000006249 ");
    second.send("still here");
    second.expect("still here");
    is_quiet(&injector);
    assert!(injector.faults_of(libc::SYS_write) > 0);
    drop(injector);
    // As on a full disk, what is missing is told, once it can be.
    first.send("again\n");
    wait_for("the log goes on", || {
        let log = fs::read_to_string(&log).ok()?;
        (log.contains("bytes are missing here]") && log.contains("again")).then_some(())
    });

    let broken = connection;
    let injector = Injector::on(vm.monitor_pid(), move |call| {
        match call.is_transfer() && call.descriptor() == broken {
            true => Fate::Fail(Errno::IO),
            false => Fate::Pass,
        }
    });
    first.send("into the void\n");
    first.expect_remark("the monitor has ended");
    second.send("still here");
    second.expect("still here");
    let mut third = vm.connect("con1");
    third.send("here, too");
    third.expect("here, too");
    is_quiet(&injector);
    assert!(injector.faults() > 0);
    drop(injector);
    third.leave();
    second.leave();
    vm.kill();
}

/// The sockets that the monitor has, as /proc names them.
fn sockets(vm: &Vm<'_>) -> Vec<String> {
    let fds = fs::read_dir(format!("/proc/{}/fd", vm.monitor_pid())).unwrap();
    let links = fds.flatten().flat_map(|fd| fs::read_link(fd.path()));
    let names = links.map(|link| link.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("socket:")).collect()
}
