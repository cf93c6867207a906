//! Tier root: the networks of a VM outlive its monitor, and the next monitor goes on with them; with a fake kernel.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::network::{BRIDGED, H2H, enter_host, everything, ip, ip_of, of_each_kind};
use e2e::{
    Vm, World, adoptions, can_be_had, exchange_monitor, free_port, is_gone, kill_monitor,
    kill_with_vm, outlives, processes_that_stay, wait_for,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A world on a host with a LAN, a bridge, and a way to the outside.
fn world() -> Option<World> {
    let world = World::new()?;
    enter_host();
    Some(world)
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn lease(world: &World, vm: &Vm<'_>) -> PathBuf {
    let name = format!("var/shared/macpool/{}.lease", vm.name());
    world.path().join(name)
}

/// What is told of the interfaces of the VM, without the counters.
fn links(vm: &Vm<'_>) -> Vec<Value> {
    let mut links = vm.info()["nics"].as_array().unwrap().clone();
    for nic in &mut links {
        let link = nic["link"].as_object_mut().unwrap();
        link.retain(|member, _| !member.starts_with("received_") && !member.starts_with("sent_"));
    }
    links
}

/// The number of an interface of the host: one that is made anew has another one.
fn index(name: &str) -> String {
    let said = ip(&format!("-o link show {name}"));
    said.split(':').next().unwrap().to_owned()
}

fn wait_inactive(world: &World, vm: &Vm<'_>, before: &(String, String)) {
    vm.wait_inactive();
    assert_eq!(everything(), *before);
    assert!(!lease(world, vm).exists());
    for file in ["run", "connections"] {
        assert!(!vm.file(file).exists(), "{file}");
    }
}

#[test]
fn interfaces_stay_as_they_are() {
    let Some(world) = world() else { return };
    let before = everything();
    for transport in ["vec", "fd"] {
        let line = format!("transport = {transport}");
        let vm = world
            .vm(transport)
            .con(1)
            .line(&line)
            .line(H2H)
            .line(BRIDGED);
        let vm = vm.monitor();
        vm.start();
        outlives(&vm);
        let (running, stay) = (everything(), processes_that_stay(&vm));
        let (seen, numbers) = (links(&vm), [index("h0"), index("b0")]);
        let apart = || {
            let said = ip_of(stay.0, "-o link show");
            let names = said
                .lines()
                .map(|line| line.split('<').next().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        let was_apart = apart();
        for _ in 0..2 {
            kill_monitor(&vm);
            assert_eq!(everything(), running, "without a monitor");
            assert_eq!(apart(), was_apart);
            vm.start_monitor().ok();
            assert_eq!(vm.state(), "running");
            assert_eq!(processes_that_stay(&vm), stay);
            assert_eq!((everything(), links(&vm)), (running.clone(), seen.clone()));
        }
        let monitor = vm.monitor_pid();
        signal(monitor, Signal::USR2);
        wait_for("the next program", || (adoptions(&vm) == 3).then_some(()));
        wait_for("it answers", || {
            (vm.umlwatch(&["-info"]).status == Some(0)).then_some(())
        });
        assert_eq!((vm.monitor_pid(), links(&vm)), (monitor, seen.clone()));
        // A guest that reboots keeps them. A tap that was inherited has ended with its kernel, and is made again.
        let mut console = vm.on_con1();
        console.send("reboot\n");
        vm.wait_con0("GUEST-READY", 2);
        assert_eq!(transport == "vec", links(&vm) == seen);
        assert_eq!(transport == "vec", numbers == [index("h0"), index("b0")]);
        drop(console);
        outlives(&vm);
        exchange_monitor(&vm);
        vm.umlwatch(&["-kill"]).ok();
        wait_inactive(&world, &vm, &before);
    }
}

#[test]
fn a_vm_that_ends_without_a_monitor_is_undone_by_the_next() {
    let Some(world) = world() else { return };
    let before = everything();
    let lines = of_each_kind(free_port());
    let vm = lines.iter().fold(world.vm("vm1"), |vm, line| vm.line(line));
    let vm = vm.monitor();
    // The kernel ends: the next monitor hears of it, and undoes all.
    vm.start();
    outlives(&vm);
    let (child, kernel) = processes_that_stay(&vm);
    let process = connector(&vm);
    let running = everything();
    kill_monitor(&vm);
    signal(kernel, Signal::KILL);
    wait_for("the end of the kernel", || {
        let children = fs::read_to_string(format!("/proc/{child}/task/{child}/children"));
        children.unwrap().trim().is_empty().then_some(())
    });
    assert_eq!(everything(), running);
    vm.start_monitor().ok();
    wait_inactive(&world, &vm, &before);
    assert_eq!(vm.last_end().0, "crashed");
    is_gone(process);
    // All of it ends: what it leaves is undone by the next monitor, or by another VM.
    vm.start();
    let process = connector(&vm);
    kill_with_vm(&vm);
    is_gone(process);
    vm.start_monitor().ok();
    wait_inactive(&world, &vm, &before);
    vm.start();
    let process = connector(&vm);
    kill_with_vm(&vm);
    is_gone(process);
    let other = world.vm("vm2").line("eth0 = nat(network=lab)").monitor();
    other.start();
    assert!(!everything().1.contains("umlmon_uml"), "{}", everything().1);
    other.kill();
    vm.start_monitor().ok();
    assert_eq!(vm.state(), "inactive");
    wait_inactive(&world, &vm, &before);
    vm.start();
    vm.umlwatch(&["-kill"]).ok();
    wait_inactive(&world, &vm, &before);
}

/// The process that makes the connections of the VM, as it is recorded.
fn connector(vm: &Vm<'_>) -> i32 {
    let record = fs::read(vm.file("connections")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let pid = record["process"]["pid"].as_i64().unwrap();
    let pid = i32::try_from(pid).unwrap();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert_eq!(name, "slirp4netns\n");
    pid
}

#[test]
fn the_process_that_makes_connections_goes_on() {
    let Some(world) = world() else { return };
    let before = everything();
    let port = free_port();
    for transport in ["vec", "fd"] {
        let vm = world.vm(transport).con(1);
        let vm = vm.line(&format!("transport = {transport}"));
        let vm = vm.line(&format!("eth0 = user(forward={port}:22,guest_hwaddr=pool)"));
        let vm = vm.monitor();
        vm.start();
        outlives(&vm);
        let (process, seen) = (connector(&vm), links(&vm));
        for _ in 0..2 {
            exchange_monitor(&vm);
            assert_eq!((connector(&vm), links(&vm)), (process, seen.clone()));
            assert!(!can_be_had(port));
        }
        // It is started again by a monitor that has adopted it, and by one that finds it gone.
        signal(process, Signal::KILL);
        let second = wait_for("another one", || another(&vm, process));
        exchange_monitor(&vm);
        assert_eq!(connector(&vm), second);
        kill_monitor(&vm);
        signal(second, Signal::KILL);
        is_gone(second);
        vm.start_monitor().ok();
        let third = wait_for("another one", || another(&vm, second));
        wait_for("the port", || (!can_be_had(port)).then_some(()));
        // A guest that reboots can use it.
        exchange_monitor(&vm);
        let mut console = vm.on_con1();
        console.send("reboot\n");
        vm.wait_con0("GUEST-READY", 2);
        assert_eq!(links(&vm), seen);
        assert_eq!(transport == "vec", connector(&vm) == third);
        drop(console);
        let last = connector(&vm);
        vm.umlwatch(&["-kill"]).ok();
        wait_inactive(&world, &vm, &before);
        is_gone(last);
        assert!(can_be_had(port));
    }
}

/// The process, if it is another one that forwards its port already.
fn another(vm: &Vm<'_>, former: i32) -> Option<i32> {
    let log = fs::read_to_string(vm.file("log/monitor")).ok()?;
    let record = fs::read_to_string(vm.file("connections")).ok()?;
    let is_other = !record.contains(&format!("\"pid\":{former},"));
    let last = log.lines().rfind(|line| line.contains("connections"))?;
    (is_other && last.contains("has its connections again")).then(|| connector(vm))
}

#[test]
fn one_that_does_not_end_with_the_vm_is_ended_by_the_next_monitor() {
    let Some(world) = world() else { return };
    let port = free_port();
    let line = format!("eth0 = user(forward={port}:22)");
    let vm = world.vm("vm1").line(&line).monitor();
    vm.start();
    let process = connector(&vm);
    signal(process, Signal::STOP);
    kill_with_vm(&vm);
    assert!(fs::exists(format!("/proc/{process}/exe")).unwrap());
    vm.start_monitor().ok();
    is_gone(process);
    assert!(!vm.file("connections").exists());
    vm.start();
    // Neither does a number that is another process's by now.
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let record = fs::read_to_string(vm.file("connections")).unwrap();
    let number = format!("\"pid\":{},", connector(&vm));
    let forged = record.replace(&number, &format!("\"pid\":{},", bystander.id()));
    assert_ne!(forged, record);
    let process = connector(&vm);
    kill_with_vm(&vm);
    is_gone(process);
    fs::write(vm.file("connections"), forged).unwrap();
    vm.start_monitor().ok();
    assert_eq!(bystander.try_wait().unwrap(), None);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_network_of_several_vms_goes_on() {
    let Some(world) = world() else { return };
    let before = everything();
    let port = free_port();
    let line = format!("eth0 = nat(forward={port}:80)");
    let web = world.vm("web").line(&line).monitor();
    let db = world.vm("db").line("eth0 = nat()").monitor();
    for vm in [&web, &db] {
        vm.start();
        outlives(vm);
    }
    let server = || {
        let list = world.umladmin(&["-json", "network", "list"]).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        i32::try_from(list[0]["server_pid"].as_i64().unwrap()).unwrap()
    };
    let (running, process) = (everything(), server());
    kill_monitor(&web);
    assert_eq!((everything(), server()), (running, process));
    // Others that come and go take nothing from it.
    db.kill();
    assert!(everything().1.contains("from_uml-2"));
    let refused = world.umladmin(&["network", "delete", "uml"]).fails(1);
    assert!(refused.contains("in use by web"), "{refused}");
    db.start();
    assert_eq!(server(), process);
    let running = everything();
    // A server that ends while nobody looks after it is started by the next monitor.
    outlives(&db);
    kill_monitor(&db);
    signal(process, Signal::KILL);
    is_gone(process);
    web.start_monitor().ok();
    let second = wait_for("another server", || {
        let list = world.umladmin(&["-json", "network", "list"]).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        list[0]["server_pid"].as_i64().filter(|pid| *pid > 0)
    });
    assert_ne!(second, i64::from(process));
    assert_eq!(everything(), running);
    db.start_monitor().ok();
    for vm in [&web, &db] {
        assert_eq!(vm.state(), "running");
        vm.kill();
    }
    assert_eq!(everything(), before);
}

#[test]
fn networks_whose_record_is_another_one_are_left_alone() {
    let Some(world) = world() else { return };
    let before = everything();
    let vm = world.vm("vm1").line(H2H).line("eth1 = user()").monitor();
    vm.start();
    outlives(&vm);
    let (running, stay, process) = (everything(), processes_that_stay(&vm), connector(&vm));
    kill_monitor(&vm);
    let (lease, aside) = (lease(&world, &vm), world.path().join("aside"));
    fs::rename(&lease, &aside).unwrap();
    assert!(vm.start_monitor().fails(1).contains("cannot take over"));
    fs::copy(&aside, &lease).unwrap();
    let refused = vm.start_monitor().fails(1);
    assert!(refused.contains("not that of the running VM"), "{refused}");
    fs::rename(&aside, &lease).unwrap();
    let record = fs::read(vm.file("run")).unwrap();
    for name in ["networks.lease", "connections.output"] {
        let mut forged: Value = serde_json::from_slice(&record).unwrap();
        let held = forged["held"].as_array_mut().unwrap();
        held.retain(|held| held["name"] != name);
        fs::write(vm.file("run"), forged.to_string()).unwrap();
        let refused = vm.start_monitor().fails(1);
        assert!(refused.contains("take"), "{name}: {refused}");
    }
    fs::write(vm.file("run"), record).unwrap();
    // None of that has harmed it.
    assert_eq!(everything(), running);
    vm.start_monitor().ok();
    assert_eq!((processes_that_stay(&vm), connector(&vm)), (stay, process));
    assert_eq!(everything(), running);
    vm.umlwatch(&["-kill"]).ok();
    wait_inactive(&world, &vm, &before);
}

#[test]
fn what_is_held_of_networks_gives_no_power() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line(H2H).line("eth1 = user()").monitor();
    vm.start();
    outlives(&vm);
    let record: Value = serde_json::from_slice(&fs::read(vm.file("run")).unwrap()).unwrap();
    let child = vm.pid("child_pid");
    let held = record["held"].as_array().unwrap().iter();
    let number = |name: &str| {
        let found = held.clone().find(|held| held["name"] == name);
        found.unwrap()["number"].as_i64().unwrap()
    };
    // O_RDONLY, by proc_pid_fdinfo(5).
    for name in ["networks.lease", "networks.namespace", "networks.user"] {
        let info = format!("/proc/{child}/fdinfo/{}", number(name));
        let info = fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i64::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_eq!(flags & 3, 0, "{name}: {info}");
    }
    // Neither of the user of the VM nor of root on the host.
    let status = fs::read_to_string(format!("/proc/{}/status", connector(&vm))).unwrap();
    for wanted in ["Uid:\t65534\t", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(wanted), "{wanted}: {status}");
    }
    vm.kill();
}
