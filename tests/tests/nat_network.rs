//! Tier root: the networks of `nat(...)` with a fake kernel: what is made on the host, by which of several monitors,
//! and that nothing of it is left.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use e2e::network::{enter, everything, ip, join_lan, rules};
use e2e::{Vm, World, free_port, is_gone, kill_with_vm, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A world on a host with a way to the outside.
fn world() -> Option<World> {
    let world = World::new()?;
    enter();
    join_lan();
    ip("route add default via 10.8.0.2");
    Some(world)
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn networks(world: &World) -> Vec<Value> {
    let list = world.umladmin(&["-json", "network", "list"]).ok();
    serde_json::from_str::<Vec<Value>>(&list).unwrap()
}

/// The process that serves the network `uml`.
fn server(world: &World) -> Option<i32> {
    let networks = networks(world);
    let pid = networks.iter().find(|it| it["name"] == "uml")?["server_pid"].as_i64()?;
    i32::try_from(pid).ok()
}

/// All that the host has for two VMs and a forwarded port.
#[track_caller]
fn is_made(web: &Vm<'_>, db: &Vm<'_>, port: u16) {
    let addresses = ip("-o addr show br-uml");
    assert!(addresses.contains("inet 10.86.0.1/24"), "{addresses}");
    for (vm, address) in [(web, "10.86.0.2"), (db, "10.86.0.3")] {
        let info = vm.info();
        assert_eq!(info["nics"][0]["link"]["guest_addr"], address);
        assert_eq!(info["nics"][0]["link"]["bridge_if"], "br-uml");
    }
    assert!(ip("link show uml-2").contains("master br-uml"));
    let said = rules();
    for part in [
        "table bridge umlmon_uml",
        "table ip umlmon_uml",
        "iifname \"uml-3\" jump from_uml-3",
        "masquerade",
        &format!("ip daddr 127.0.0.1 tcp dport {port} dnat to 10.86.0.2:80"),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for name in ["br-uml", "lan0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
        assert_eq!(fs::read_to_string(path).unwrap(), "1\n");
    }
    assert_eq!(
        fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
        "0\n"
    );
}

#[test]
fn a_network_is_there_with_its_vms_and_gone_after_them() {
    let Some(world) = world() else { return };
    // No monitor was there yet.
    assert!(networks(&world).is_empty());
    world.umladmin(&["network", "delete", "uml"]).ok();
    let before = everything();
    let port = free_port();
    let web = world
        .vm("web")
        .line(&format!("eth0 = nat(forward={port}:80)"));
    let web = web.monitor();
    let db = world.vm("db").line("eth0 = nat()").monitor();
    assert!(networks(&world).is_empty());
    web.start();
    let first = server(&world).unwrap();
    db.start();
    // The first one does not know the second VM.
    is_gone(first);
    let second = server(&world).unwrap();
    is_made(&web, &db, port);
    let status = fs::read_to_string(format!("/proc/{second}/status")).unwrap();
    assert!(!status.contains("Uid:\t0"), "{status}");
    let list = world.umladmin(&["network", "list"]).ok();
    assert!(
        list.contains("web 10.86.0.2") && list.contains("db 10.86.0.3"),
        "{list}"
    );
    let list = world.umladmin(&["list"]).ok();
    assert!(list.contains("vec0 10.86.0.3"), "{list}");

    let refused = world.umladmin(&["network", "delete", "uml"]).fails(1);
    assert!(refused.contains("in use by db, web"), "{refused}");
    // Of a VM that comes back nothing is new to it.
    for _ in 0..2 {
        web.kill();
        assert!(!rules().contains("uml-2"));
        web.start();
        assert_eq!(server(&world), Some(second));
    }
    web.kill();
    db.kill();
    is_gone(second);
    assert_eq!(everything(), before);

    // Each VM gets its address again, whoever is first.
    db.start();
    assert_eq!(db.info()["nics"][0]["link"]["guest_addr"], "10.86.0.3");
    db.kill();
    for _ in 0..2 {
        world.umladmin(&["network", "delete", "uml"]).ok();
        assert!(networks(&world).is_empty());
    }
    assert_eq!(everything(), before);
}

#[test]
fn monitors_that_start_at_once_make_one_network() {
    let Some(world) = world() else { return };
    let before = everything();
    let names = ["a", "b", "c", "d"];
    let vms: Vec<Vm<'_>> = names
        .map(|name| {
            // The last one opens no tap itself.
            let transport = if name == "d" { "fd" } else { "auto" };
            let vm = world.vm(name).line(&format!("transport = {transport}"));
            vm.line("eth0 = nat(network=lab)").monitor()
        })
        .into();
    for _ in 0..3 {
        let starts: Vec<_> = vms
            .iter()
            .map(|vm| vm.command(&["-start"]).spawn())
            .collect();
        for start in starts {
            assert!(start.unwrap().wait().unwrap().success());
        }
        let seen = networks(&world);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0]["vms"].as_array().unwrap().len(), 4);
        let ports = ip("-o link show master br-lab");
        assert_eq!(ports.lines().count(), 4, "{ports}");
        let ends: Vec<_> = vms
            .iter()
            .map(|vm| vm.command(&["-kill"]).spawn())
            .collect();
        for end in ends {
            assert!(end.unwrap().wait().unwrap().success());
        }
        for vm in &vms {
            vm.wait_inactive();
        }
        assert_eq!(everything(), before);
    }
}

#[test]
fn a_vm_that_ends_without_a_monitor_takes_nothing_from_the_others() {
    let Some(world) = world() else { return };
    let before = everything();
    let web = world.vm("web").line("eth0 = nat()").monitor();
    let db = world.vm("db").line("eth0 = nat()").monitor();
    web.start();
    db.start();
    let process = server(&world).unwrap();
    kill_with_vm(&web);
    assert_eq!(server(&world), Some(process));
    assert!(ip("link show uml-3").contains("master br-uml"));
    db.kill();
    assert_eq!(everything(), before);

    // The last one leaves everything, until the next one comes or an administrator.
    db.start();
    let process = server(&world).unwrap();
    kill_with_vm(&db);
    assert_eq!(server(&world), Some(process));
    let said = world.umladmin(&["network", "delete", "uml"]).ok();
    assert!(said.contains("uml"), "{said}");
    is_gone(process);
    assert_eq!(everything(), before);
    db.start_monitor().ok();
    db.start();
    let process = server(&world).unwrap();
    kill_with_vm(&db);
    web.start_monitor().ok();
    web.start();
    is_gone(process);
    assert!(!rules().contains("uml-2"));
    web.kill();
    assert_eq!(everything(), before);
    db.start_monitor().ok();
}

#[test]
fn a_server_that_ends_is_started_again() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line("eth0 = nat()").monitor();
    let other = world.vm("vm2").line("eth0 = nat()").monitor();
    vm.start();
    other.start();
    let first = server(&world).unwrap();
    kill(first);
    let second = wait_for("another one", || server(&world).filter(|pid| *pid != first));
    // The monitor that had no part in it looks after it, too.
    vm.kill();
    assert_eq!(server(&world), Some(second));
    kill(second);
    wait_for("another one", || {
        server(&world).filter(|pid| *pid != second)
    });
    other.kill();
    assert_eq!(server(&world), None);
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let Some(world) = world() else { return };
    let refused = |vm: &Vm<'_>, words: &[&str]| {
        let said = vm.umlwatch(&["-start"]).fails(1);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    let port = free_port();
    let line = format!("eth0 = nat(forward={port}:80)");
    let vm = world.vm("vm1").line(&line).monitor();
    let second = world.vm("vm2").line(&line).monitor();
    let foreign = world.vm("vm3").line("eth0 = nat(network=lab)").monitor();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    refused(&vm, &["eth0: forward:", &port.to_string()]);
    drop(taken);
    vm.start();
    refused(&second, &["in use by vm1 as forward of eth0"]);
    ip("link add br-lab type bridge");
    let before = everything();
    refused(&foreign, &["the network lab", "br-lab, not made by"]);
    assert_eq!(everything(), before);
    vm.kill();
}

#[test]
fn addresses_that_the_host_uses_are_left_alone() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line("eth0 = nat()").monitor();
    ip("addr add 10.86.0.77/32 dev lan0");
    ip("route add 10.86.1.0/25 via 10.8.0.2");
    vm.start();
    let address = |vm: &Vm<'_>| vm.info()["nics"][0]["link"]["guest_addr"].to_string();
    assert_eq!(address(&vm), "\"10.86.2.2\"");
    vm.kill();
    // They are kept when the others are free again, and given up when somebody else has them.
    ip("addr del 10.86.0.77/32 dev lan0");
    vm.start();
    assert_eq!(address(&vm), "\"10.86.2.2\"");
    vm.kill();
    ip("route add 10.86.0.0/16 via 10.8.0.2");
    let said = vm.umlwatch(&["-start"]).fails(1);
    assert!(said.contains("nat_pool"), "{said}");
    world.global("nat_pool = 10.99.4.0/24");
    vm.start();
    assert_eq!(address(&vm), "\"10.99.4.2\"");
    vm.kill();
}
