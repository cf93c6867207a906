//! Tier real: a real User Mode Linux kernel and a small guest, from start to shutdown.

use std::time::{Duration, Instant};

use e2e::{Login, Vm, World, processes_of, processors_of, run, wait_for};

#[test]
fn the_walk_through_of_the_manual() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world
        .vm("vm1")
        .con(1)
        .con(2)
        .con(3)
        .con(4)
        .guest(Login::Password)
        .monitor();
    let page = vm.umlwatch(&["-info"]).ok();
    assert!(page.starts_with("vm1 is inactive"), "{page}");

    vm.umlwatch(&["-start"]).ok();
    let mut terminal = vm.terminal("-connect", "con1", 30, 90);
    terminal.dialogue.log_in(e2e::PATIENCE).unwrap();
    terminal.send("stty size; tty\r");
    terminal.expect("30 90\r\n/dev/tty1\r\n");
    terminal.resize(40, 100);
    terminal.expect("# ");
    terminal.send("stty size\r");
    terminal.expect("40 100\r\n");
    terminal.send("\x1d");
    assert_eq!(terminal.wait(), Some(0));

    // The session is where it was left.
    let mut console = vm.connect("con1");
    console.expect("# ");
    // There are no terminals of the old kind, which would make the boot longer.
    console.send("echo $((6*7)) /dev/ttyp*; whoami\n");
    console.expect("42 /dev/ttyp*\r\nroot\r\n");
    console.leave();

    assert!(
        vm.umlwatch(&["-tail", "con0,100"])
            .ok()
            .contains("GUEST-READY")
    );
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
    let log = vm.con0();
    assert!(
        log.contains("GUEST-SHUTDOWN"),
        "the guest shut down by itself"
    );
    assert!(!log.contains("failed for device"), "{log}");
}

#[test]
fn ctrl_alt_del_right_after_the_start_shuts_down_once_and_properly() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").guest(Login::RootShell).monitor();
    vm.umlwatch(&["-start", "-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
    let log = vm.con0();
    assert_eq!(log.matches("Linux version").count(), 1, "it booted twice");
    assert!(log.contains("GUEST-SHUTDOWN"), "{log}");
}

#[test]
fn every_way_a_guest_can_end_is_told() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).monitor();
    // What was typed last stays on the console, so the prompts are read one after the other.
    let mut console = vm.connect("con1");
    for (typed, how, text) in [
        ("poweroff -f", "halted", ""),
        ("halt -f", "halted", ""),
        (
            "echo c > /proc/sysrq-trigger",
            "panicked",
            "sysrq triggered crash",
        ),
    ] {
        vm.start();
        console.expect("# ");
        console.send(&format!("{typed}\n"));
        vm.wait_inactive();
        let (said_how, said) = vm.last_end();
        assert!(
            said_how == how && said.contains(text),
            "{typed}: {said_how}: {said}"
        );
    }
    console.leave();
    vm.start();
    vm.umlwatch(&["-halt"]).ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
    vm.start();
    vm.kill();
    assert_eq!(vm.last_end().0, "killed");
}

#[test]
fn a_guest_reboots_under_its_session() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("# ");
    console.send("reboot\n");
    vm.wait_con0("GUEST-READY", 2);
    console.expect("# ");
    assert_eq!(vm.info()["reboots"], 1);
    console.leave();
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
}

#[test]
fn a_suspended_guest_goes_on_where_it_was() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("# ");
    console.send("x=before\n");
    console.expect("# ");
    vm.umlwatch(&["-suspend"]).ok();
    assert_eq!(vm.state(), "suspended");
    vm.umlwatch(&["-continue"]).ok();
    console.send("echo it is $x\n");
    console.expect("it is before\r\n");
    console.leave();
    vm.umlwatch(&["-suspend"]).ok();
    let said = world.umladmin(&["stop"]);
    assert_eq!(said.status, Some(0), "{said:#?}");
    assert!(
        vm.con0().contains("GUEST-SHUTDOWN"),
        "it was resumed and shut down"
    );
}

/// How often the flood is repeated: a terminal loses wake-ups by chance.
const FLOODS: u32 = 15;

#[test]
fn floods_on_two_consoles_arrive_byte_for_byte() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let flood = e2e::flood(20_000_000);
    let vm = world
        .vm("vm1")
        .line("con1 = pty:con1")
        .disk(1, flood.clone())
        .guest(Login::RootShell)
        .monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("# ");
    // Raw, or the terminals of the guest would make two bytes of some. The shell echoes the line before it runs.
    console.send(
        "stty raw -echo; stty raw < /dev/tty0; while read n; do printf BEGIN$n. | tee /dev/tty0; \
         cat /dev/ubdb > /dev/tty0 & cat /dev/ubdb; wait; done\n",
    );
    for round in 1..=FLOODS {
        // Each in log files of its own, so that they do not fill the disk.
        for channel in ["con0", "con1"] {
            std::fs::remove_file(vm.file("log").join(channel)).unwrap();
        }
        vm.umlwatch(&["-rotate"]).ok();
        console.send(&format!("{round}\n"));
        vm.expect_log("con1", &format!("BEGIN{round}."), &flood);
        vm.expect_log("con0", &format!("BEGIN{round}."), &flood);
    }
    console.leave();
    vm.kill();
}

#[test]
fn a_script_runs_at_boot_and_memory_is_as_configured() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world
        .vm("vm1")
        .mem(96)
        .guest(Login::RootShell)
        .at_boot("grep MemTotal /proc/meminfo; poweroff")
        .monitor();
    vm.umlwatch(&["-start", "-wait", "60"]).ok();
    vm.wait_inactive();
    let log = vm.con0();
    let line = log
        .lines()
        .find(|line| line.starts_with("MemTotal:"))
        .expect("the script has run");
    let kilobytes: u32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    // The kernel keeps some of it for itself, and nothing for address space randomisation.
    assert!((80_000..98_304).contains(&kilobytes), "{line}");
}

#[test]
fn too_little_memory_is_told_in_the_kernels_words() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").mem(8).guest(Login::RootShell).monitor();
    let complaint = run(&mut vm.command(&["-start"])).fails(1);
    assert!(complaint.contains("Too few physical memory"), "{complaint}");
    vm.wait_inactive();
}

#[test]
fn a_guest_and_its_programs_run_on_one_processor() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).line("cpus = 1");
    let vm = vm.guest(Login::RootShell).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("# ");
    // Nothing that is busy: on a host without a free processor, that would run anywhere.
    console.send("sleep 1000 & sleep 1001 &\n");
    wait_for("one processor for all", || {
        let places = processors_of(&vm);
        (places.len() == 1 && places.iter().all(|place| place.parse::<u16>().is_ok())).then_some(())
    });
    assert!(processes_of(&vm).len() > 3);
    console.leave();
    vm.kill();
}

/// The median of what it takes to be told about a VM, the start of umlwatch included.
fn time_to_tell(vm: &Vm<'_>) -> Duration {
    let mut times: Vec<Duration> = (0..31)
        .map(|_| {
            let begun = Instant::now();
            vm.umlwatch(&["-info"]).ok();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times.remove(times.len() / 2)
}

#[test]
fn a_fork_bomb_in_a_guest_leaves_the_others_answering() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = |name| world.vm(name).con(1).guest(Login::RootShell);
    let bombed = vm("vm1").line("pids_limit = 100").monitor();
    let other = vm("vm2").monitor();
    bombed.start();
    other.start();
    let mut prompt = bombed.connect("con1");
    let mut shell = other.connect("con1");
    prompt.expect("# ");
    shell.expect("# ");
    let quiet = time_to_tell(&other);
    prompt.send("bomb() { bomb | bomb & }; bomb\n");
    wait_for("a bomb", || {
        (processes_of(&bombed).len() > 60).then_some(())
    });
    for vm in [&other, &bombed] {
        let time = time_to_tell(vm);
        eprintln!("told within {time:?}, before the bomb {quiet:?}");
        // What the monitor itself may take, in addition to what umlwatch takes to start on a busy host.
        assert!(time < quiet * 5 + Duration::from_millis(10), "{time:?}");
    }
    assert!(
        processes_of(&bombed).len() <= 101,
        "{}",
        processes_of(&bombed).len()
    );
    shell.send("echo $((6*7))\n");
    shell.expect("42\r\n");
    shell.leave();
    for vm in [&bombed, &other] {
        vm.kill();
    }
    // Not before: the shells of the bomb complain without a pause.
    prompt.leave();
}
