//! Tier root: the process that makes the connections of a VM, with a fake kernel: what it is on the host, and when it
//! ends.
#![allow(clippy::unwrap_used, reason = "all of it is test")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use e2e::network::{enter, join_lan, snapshot};
use e2e::{Vm, World, can_be_had, free_port, is_gone, kill_with_vm, wait_for};
use rustix::process::{Pid, Signal, kill_process};

fn world() -> Option<World> {
    let world = World::new()?;
    enter();
    join_lan();
    Some(world)
}

fn line(port: u16) -> String {
    format!("eth0 = user(forward={port}:22, forward=udp:10.8.0.1:{port}:53, guest_hwaddr=pool)")
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The child of a monitor that is this program.
fn connector(monitor: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children"));
    let children = children.unwrap_or_default();
    let mut pids = children.split_whitespace();
    let is_it = |pid: &&str| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name == "slirp4netns\n")
    };
    pids.find(is_it)?.parse().ok()
}

fn wait_for_connector(vm: &Vm<'_>) -> i32 {
    let monitor = vm.monitor_pid();
    wait_for("the process", || connector(monitor))
}

#[test]
fn it_has_no_power_and_ends_with_the_vm() {
    let Some(world) = world() else { return };
    let before = snapshot();
    let port = free_port();
    let vm = world.vm("vm1").con(1).line(&line(port)).monitor();
    let mut console = vm.connect("con1");
    for end in ["poweroff", "crash", "panic:x"] {
        vm.start();
        let process = wait_for_connector(&vm);
        assert!(!can_be_had(port));
        console.send(&format!("{end}\n"));
        vm.wait_inactive();
        is_gone(process);
        assert!(can_be_had(port));
    }
    vm.start();
    let process = wait_for_connector(&vm);
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    for wanted in [
        "Uid:\t65534\t65534\t65534",
        "Groups:\t \n",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(wanted), "{wanted}: {status}");
    }
    let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["user", "pid", "mnt", "ipc"] {
        assert_ne!(namespace(process, kind), namespace(vm.monitor_pid(), kind));
        if kind != "user" {
            assert_ne!(
                namespace(process, kind),
                namespace(vm.pid("kernel_pid"), kind)
            );
        }
    }
    let list = world.umladmin(&["list"]).ok();
    assert!(list.contains("vec0 10.0.2.15"), "{list}");
    // Nothing is on the host, and a guest that reboots keeps the process.
    assert_eq!(snapshot(), before);
    console.send("reboot\n");
    wait_for("a reboot", || (vm.info()["reboots"] == 1).then_some(()));
    assert_eq!(wait_for_connector(&vm), process);
    vm.kill();
    is_gone(process);
    assert_eq!(snapshot(), before);
    console.leave();
}

#[test]
fn it_is_started_again_and_does_not_outlive_the_vm() {
    let Some(world) = world() else { return };
    let port = free_port();
    let vm = world.vm("vm1").line(&line(port)).monitor();
    vm.start();
    let first = wait_for_connector(&vm);
    kill(first);
    vm.expect_log("monitor", "the VM has its connections again", b"");
    let second = wait_for_connector(&vm);
    assert_ne!(first, second);
    assert!(!can_be_had(port));
    kill_with_vm(&vm);
    is_gone(second);
    wait_for("the port", || can_be_had(port).then_some(()));
    vm.start_monitor().ok();
    vm.start();
    vm.kill();
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let Some(world) = world() else { return };
    let (port, other) = (free_port(), free_port());
    let refused = |vm: &Vm<'_>, words: &[&str]| {
        let said = vm.umlwatch(&["-start"]).fails(1);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(connector(vm.monitor_pid()).is_none());
    };
    let vm = world.vm("vm1").line(&line(port)).monitor();
    let second = world.vm("vm2").line(&line(port)).monitor();
    let low = world.vm("vm3").line("eth0 = user(forward=80:80)").monitor();
    let third = world.vm("vm4").line(&line(other)).monitor();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let own = format!("process {} ", std::process::id());
    refused(&vm, &["eth0: forward:", &port.to_string(), &own]);
    drop(taken);
    vm.start();
    refused(&second, &["in use by vm1 as forward of eth0"]);
    refused(&low, &["only root can have it"]);
    third.start();
    third.kill();
    vm.kill();
}
