//! Tier real: commands in the guest by its helper, umlguest.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::{Login, Outcome, Terminal, Vm, World, pass_through, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime, clock_settime};

fn guest(world: &World) -> Vm<'_> {
    let vm = world.vm("vm1").con(1).guest(Login::Password).monitor();
    vm.umlwatch(&["-start"]).ok();
    vm
}

fn exec(vm: &Vm<'_>, words: &[&str]) -> Outcome {
    vm.umlwatch(&[&["-exec"], words].concat())
}

#[test]
fn a_command_has_its_outputs_its_status_and_its_words() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    // The guest has only begun to boot.
    let outcome = exec(
        &vm,
        &["sh", "-c", "echo $0 $1; echo e >&2; exit 7", "a b", "-info"],
    );
    assert_eq!(outcome.status, Some(7), "{outcome:#?}");
    assert_eq!(outcome.stdout, "a b -info\n");
    assert_eq!(outcome.stderr, "e\n");
    // A single word is for a shell.
    assert_eq!(exec(&vm, &["echo $((6*7)) | tr 4 5"]).ok(), "52\n");
    let outcome = exec(&vm, &["nonexistent"]);
    assert_eq!(outcome.status, Some(127));
    assert!(
        outcome.stderr.contains("No such file or directory"),
        "{outcome:#?}"
    );
    assert_eq!(exec(&vm, &["kill -9 $$"]).status, Some(137));
    // Ours, when there is no guest.
    vm.umlwatch(&["-kill"]).ok();
    vm.wait_inactive();
    let outcome = exec(&vm, &["true"]);
    assert_eq!(outcome.status, Some(125));
    assert_eq!(
        outcome.stderr,
        "umlwatch: vm1: cannot run a command: the VM is not running (-start starts it)\n"
    );
}

#[test]
fn a_guest_that_has_booted_without_a_helper_is_not_waited_for() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    for wish in [&["-exec", "true"][..], &["-pull", "/x", "/nowhere"]] {
        let asked = Instant::now();
        let outcome = vm.umlwatch(wish);
        let waited = asked.elapsed();
        assert!(waited < Duration::from_secs(30), "{waited:?}");
        assert!(
            outcome.stderr.contains("the guest has no helper"),
            "{outcome:#?}"
        );
    }
    vm.kill();
    let vm = world.vm("vm2").line("ssl63 = pty").monitor();
    vm.start();
    let outcome = vm.umlwatch(&["-exec", "true"]);
    assert_eq!(outcome.status, Some(125), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("ssl63 is configured"),
        "{outcome:#?}"
    );
    vm.kill();
}

#[test]
fn what_is_piped_through_a_command_comes_back() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    let sent = e2e::flood(2_000_000);
    let mut command = vm.command(&["-exec", "cat"]);
    let came = pass_through(&mut command, &sent);
    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
}

#[test]
fn a_terminal_is_like_that_of_the_user() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    let script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 3' INT; stty size; tty; \
                  while :; do sleep 0.1; done";
    let mut terminal = Terminal::run(&vm.command(&["-exec", "sh", "-c", script]), 30, 90);
    terminal.expect("30 90\r\n/dev/pts/0\r\n");
    terminal.resize(40, 100);
    terminal.expect("40 100\r\n");
    terminal.send("\x03");
    terminal.expect("interrupted");
    assert_eq!(terminal.wait(), Some(3));
    // As one on a serial line is, which does not know its size.
    let mut terminal = Terminal::run(&vm.command(&["-exec", "tty && echo up"]), 0, 0);
    terminal.expect("/dev/pts/0\r\nup\r\n");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn signals_are_passed_on_and_a_client_that_goes_hangs_its_command_up() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    let begin = |script: &str| {
        let mut command = vm.command(&["-exec", "sh", "-c", script]);
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        assert_eq!(&up, b"up\n");
        child
    };
    let mut child = begin("trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));

    let mut child = begin("trap 'echo hup > /tmp/hup; exit' HUP; echo up; sleep 1000 & wait");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of the command", || {
        let said = exec(&vm, &["cat", "/tmp/hup"]).stdout;
        (said == "hup\n").then_some(())
    });
}

#[test]
fn a_guest_that_ends_ends_its_commands() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    let outcome = exec(&vm, &["poweroff; sleep 1000"]);
    assert_eq!(outcome.status, Some(125), "{outcome:#?}");
    vm.wait_inactive();
}

#[test]
fn the_clock_of_the_guest_follows_that_of_the_host() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    let apart = || {
        let guest: i64 = exec(&vm, &["date", "+%s"]).ok().trim().parse().unwrap();
        (clock_gettime(ClockId::Realtime).tv_sec - guest).abs()
    };
    let set_wrong = || {
        exec(&vm, &["date", "-s", "@1000000000"]).ok();
        assert!(apart() > 1_000_000);
    };
    let is_right = || wait_for("the time of the host", || (apart() <= 1).then_some(()));
    set_wrong();
    vm.umlwatch(&["-suspend", "-continue"]).ok();
    is_right();
    // The host's clock is set to what it is, as good as that can be done; its kernel tells that as any other jump.
    set_wrong();
    clock_settime(ClockId::Realtime, clock_gettime(ClockId::Realtime)).unwrap();
    is_right();
    vm.kill();
}

#[test]
fn a_guest_that_ignores_ctrl_alt_del_is_powered_off_by_its_helper() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    exec(&vm, &["sed -i '/ctrlaltdel/d' /etc/inittab && kill -HUP 1"]).ok();
    let said = world.umladmin(&["-timeout", "120", "stop", "vm1"]).ok();
    assert!(said.contains("(power off)"), "{said}");
}
