//! Tier real: real kernels on networks. The host, its LAN with one more host, and guests that reach all of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Instant;

use e2e::lan::{BY_DHCP, Background, Neighbour};
use e2e::network::{enter, ip, snapshot};
use e2e::{Login, Shell, Vm, World, free_port, run, wait_for};

/// What is transferred in each direction: so many megabytes as `UMLMON_TEST_TRANSFER` says.
fn load() -> Vec<u8> {
    let set = std::env::var("UMLMON_TEST_TRANSFER").ok();
    let megabytes: usize = set.map_or(16, |megabytes| megabytes.parse().unwrap());
    e2e::flood(megabytes << 20)
}

/// The host reaches the guest.
#[track_caller]
fn host_reaches(address: &str, size: &str) {
    let words = ["ping", "-c", "3", "-W", "10", "-s", size, address];
    run(Command::new("busybox").args(words)).ok();
}

/// Transfers what is on the guest's disk ubd1 from it and to it, and compares each byte.
fn transfers(shell: &mut Shell, bytes: &[u8]) {
    let listener = TcpListener::bind("10.9.0.1:5001").unwrap();
    let line = "nc 10.9.0.1 5001 < /dev/ubdb";
    shell.begin(line);
    arrives("from", listener.accept().unwrap().0, bytes);
    shell.end(line);

    // Nothing typed goes to nc: the other end would answer it with a reset, and what is under way would be lost.
    let line = "nc -l -p 5000 < /dev/null | cmp - /dev/ubdb";
    shell.begin(line);
    let connect = || TcpStream::connect("10.9.0.2:5000").ok();
    let mut stream = wait_for("nc in the guest", connect);
    let began = Instant::now();
    stream.write_all(bytes).unwrap();
    drop(stream);
    shell.end(line);
    report("to", bytes, began);
}

fn report(direction: &str, bytes: &[u8], began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let rate = bytes.len() as f64 * 8.0 / seconds / 1e6;
    eprintln!(
        "{} bytes {direction} the guest: {rate:.0} Mbit/s",
        bytes.len()
    );
}

/// The guest has the address that the form says, by this name of its interface.
fn host_to_host(transport: &str, nic: &str, mtu: &str) {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let neighbour = Neighbour::join();
    let before = snapshot();
    let load = load();
    let vm = world
        .vm("vm1")
        .con(1)
        .line(&format!("transport = {transport}"))
        .line(&format!(
            "eth0 = host_to_host(proxy_if=h0,proxy_addr=10.9.0.1,guest_addr=10.9.0.2,host_if=lan0,\
             guest_hwaddr=pool,mtu={mtu})"
        ))
        .disk(1, load.clone())
        .guest(Login::RootShell)
        .monitor();
    if transport == "tuntap" && !vm.info()["nics"][0]["note"].to_string().contains("eth0") {
        // Kernels from 6.16 on do not have it.
        return;
    }
    vm.start();
    let mut shell = Shell::of(&vm);
    let up = format!("ip link set {nic} up && ip addr add 10.9.0.2 peer 10.9.0.1 dev {nic}");
    shell.run(&up);
    shell.run("ip route add default via 10.9.0.1");
    let said = shell.run(&format!(
        "cat /sys/class/net/{nic}/mtu /sys/class/net/{nic}/address"
    ));
    assert!(
        said.contains(mtu) && said.contains("0a:12:bc:af:32:00"),
        "{said}"
    );
    shell.run("ping -c 3 -W 10 10.9.0.1");
    shell.reaches("ping", "10.8.0.2");
    neighbour.run("busybox ping -c 3 -W 10 10.9.0.2");
    host_reaches("10.9.0.2", "56");
    let link = |member: &str| vm.info()["nics"][0]["link"][member].as_u64().unwrap();
    let packets = link("sent_packets");
    if mtu == "9000" {
        host_reaches("10.9.0.2", "8900");
        // Three replies in one piece each, and perhaps a few words about addresses.
        assert!(link("sent_packets") - packets < 10);
    }
    transfers(&mut shell, &load);
    let carried = [link("received_bytes"), link("sent_bytes")];
    let all = carried.iter().all(|bytes| *bytes > load.len() as u64);
    assert!(all, "{carried:?} of {} bytes each", load.len());
    assert_eq!(vm.info()["nics"][0]["link"]["open"], true);
    if transport != "fd" {
        down_and_up(&vm, &mut shell, nic, &up);
    }
    shell.leave();
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
    assert_eq!(snapshot(), before);
}

/// The interface goes down in the guest, and comes up again.
fn down_and_up(vm: &Vm<'_>, shell: &mut Shell, nic: &str, up: &str) {
    shell.run(&format!(
        "ip link set {nic} down && ip addr flush dev {nic}"
    ));
    wait_for("no carrier", || {
        (vm.info()["nics"][0]["link"]["open"] == false).then_some(())
    });
    shell.run(up);
    shell.reaches("ping", "10.9.0.1");
}

/// What a process of the VM's user connects: the guest reaches other hosts, and the host a port of the guest. What
/// listens on 127.0.0.1 of the host is out of reach.
#[test]
fn by_a_process_without_an_interface_of_the_host() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let _neighbour = Neighbour::join();
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
    let (before, load, port) = (snapshot(), e2e::flood(2 << 20), free_port());
    let vm = world
        .vm("vm1")
        .con(1)
        .line(&format!("eth0 = user(forward={port}:7,mtu=9000)"))
        .disk(1, load.clone())
        .guest(Login::RootShell)
        .monitor();
    vm.start();
    let mut shell = Shell::of(&vm);
    shell.run("nic=$(basename /sys/class/net/[ve]*0); ip link set $nic up");
    shell.run("ip addr add 10.0.2.15/24 dev $nic && ip route add default via 10.0.2.2");
    for address in ["10.0.2.2", "10.8.0.1", "10.8.0.2"] {
        shell.reaches("ping", address);
    }
    let outside = TcpListener::bind("10.8.0.1:5001").unwrap();
    let line = "nc 10.8.0.1 5001 < /dev/ubdb";
    shell.begin(line);
    arrives("from", outside.accept().unwrap().0, &load);
    shell.end(line);
    let private = TcpListener::bind("127.0.0.1:5002").unwrap();
    for address in ["10.0.2.2", "10.0.2.3"] {
        shell.run(&format!("! nc -w 3 {address} 5002 < /dev/null"));
    }
    private.set_nonblocking(true).unwrap();
    assert!(private.accept().is_err());
    let line = "nc -l -p 7 < /dev/ubdb";
    shell.begin(line);
    let first = || {
        // The process takes a connection before it knows whether the guest does.
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        matches!(stream.peek(&mut [0]), Ok(1)).then_some(stream)
    };
    arrives(
        "at a forwarded port from",
        wait_for("nc in the guest", first),
        &load,
    );
    shell.end(line);
    shell.leave();
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
    assert_eq!(snapshot(), before);
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
}

/// A guest in a network that the suite makes, with another one that has 10.86.0.2, cannot do everything.
fn is_kept_apart(db: &mut Shell) {
    // Whatever listens on the host.
    let private = TcpListener::bind("0.0.0.0:5002").unwrap();
    for address in ["10.86.0.1", "10.8.0.1", "127.0.0.1"] {
        db.run(&format!("! nc -w 2 {address} 5002 < /dev/null"));
    }
    private.set_nonblocking(true).unwrap();
    assert!(private.accept().is_err());

    // The address of another one, and a hardware address that is not its own.
    db.run("ip addr add 10.86.0.77/24 dev $nic; ! ping -c 2 -W 1 -I 10.86.0.77 web.uml");
    db.run("ip addr del 10.86.0.77/24 dev $nic; ping -c 1 -W 10 web.uml");
    db.run("mac=$(cat /sys/class/net/$nic/address)");
    for (mac, reaches) in [("02:00:00:00:00:07", "!"), ("$mac", "")] {
        db.run(&format!(
            "ip link set $nic down; ip link set $nic address {mac} && ip link set $nic up; \
             {reaches} ping -c 3 -W 1 10.86.0.2"
        ));
    }
}

/// In a network that the suite makes: addresses by DHCP, names, what is beyond the masquerade, forwarded ports; and
/// what guests cannot reach.
#[test]
fn by_a_network_of_the_suite() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let neighbour = Neighbour::join();
    ip("route add default via 10.8.0.2");
    let (before, load, port) = (snapshot(), e2e::flood(2 << 20), free_port());
    let forwards = format!("forward={port}:7,forward=10.8.0.1:{port}:8");
    let lines = [
        ("web", format!("eth0 = nat({forwards})")),
        ("db", "eth0 = nat()".to_owned()),
    ];
    let vms = lines.map(|(name, line)| {
        let vm = world.vm(name).con(1).line(&line).disk(1, load.clone());
        vm.guest(Login::RootShell).monitor()
    });
    let mut shells = vms.each_ref().map(|vm| {
        vm.start();
        let mut shell = Shell::of(vm);
        shell.run(BY_DHCP);
        shell
    });
    let [web, db] = &mut shells;
    for address in ["10.86.0.1", "web.uml", "web", "10.8.0.2"] {
        db.reaches("ping", address);
    }
    web.reaches("ping", "db.uml");

    // The neighbour knows no way to the guests, so it is masqueraded.
    let beyond = neighbour.begin("echo beyond | busybox nc -l -p 5001");
    let said = db.run("until nc -w 5 10.8.0.2 5001 < /dev/null; do :; done");
    assert!(said.contains("beyond"), "{said}");
    drop(beyond);

    is_kept_apart(db);
    let line = "nc -l -p 7 < /dev/ubdb";
    web.begin(line);
    let connect = || TcpStream::connect(("127.0.0.1", port)).ok();
    let stream = wait_for("nc in the guest", connect);
    arrives("at a forwarded port from", stream, &load);
    web.end(line);
    let line = "echo hello | nc -l -p 8";
    web.begin(line);
    let from_outside =
        format!("until busybox nc -w 5 10.8.0.1 {port} < /dev/null | grep hello; do :; done");
    let outcome = neighbour.begin(&from_outside).wait();
    assert!(outcome.success());
    web.end(line);

    for (vm, shell) in vms.iter().zip(shells) {
        shell.leave();
        vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
        vm.wait_inactive();
    }
    assert_eq!(snapshot(), before);
    assert_eq!(run(Command::new("nft").args(["list", "ruleset"])).ok(), "");
}

/// Reads all that comes, and compares it.
#[track_caller]
fn arrives(direction: &str, mut stream: TcpStream, bytes: &[u8]) {
    let began = Instant::now();
    let mut came = Vec::new();
    stream.read_to_end(&mut came).unwrap();
    assert!(came == bytes, "{} of {} bytes", came.len(), bytes.len());
    report(direction, bytes, began);
}

#[test]
fn host_to_host_by_the_vector_driver() {
    host_to_host("vec", "vec0", "9000");
}

#[test]
fn host_to_host_by_the_former_driver() {
    host_to_host("tuntap", "eth0", "1500");
}

#[test]
fn host_to_host_by_an_inherited_tap() {
    host_to_host("fd", "vec0", "9000");
}

/// The modules of the guest's kernel for IP version 6, where it is not compiled in, in the order in which they are
/// needed.
fn ipv6_modules() -> [Vec<u8>; 2] {
    let directories = fs::read_dir("/usr/lib/uml/modules").into_iter().flatten();
    let directory = directories.flatten().next().map(|entry| entry.path());
    ["lib/crc-ccitt.ko", "net/ipv6/ipv6.ko"].map(|name| {
        let path = directory
            .as_ref()
            .map(|path| path.join("kernel").join(name));
        let mut module = path
            .and_then(|path| fs::read(path).ok())
            .unwrap_or_default();
        // A disk has whole sectors; what follows a module does not matter.
        module.resize(module.len().next_multiple_of(512).max(512), 0);
        module
    })
}

/// Loads them, if they are needed and there are some; false if the guest knows no IP version 6 then.
fn has_ipv6(shell: &mut Shell) -> bool {
    shell.run(
        "test -e /proc/net/if_inet6 || for disk in ubdb ubdc; do \
         cat /dev/$disk > /tmp/m.ko; insmod /tmp/m.ko; done; true",
    );
    shell
        .run("test ! -e /proc/net/if_inet6; echo v6=$?")
        .contains("v6=1")
}

#[test]
fn two_guests_and_the_host_on_a_bridge() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    for words in [
        "link add br0 type bridge",
        "link set br0 up",
        "addr add 10.7.0.1/24 dev br0",
        "addr add fd07::1/64 dev br0 nodad",
    ] {
        ip(words);
    }
    let before = snapshot();
    let [first, second] = ipv6_modules();
    let vm = |n: u8| {
        let builder = world.vm(&format!("vm{n}")).con(1).line(&format!(
            "eth0 = bridged(bridge_if=br0,proxy_if=b{n},proxy_hwaddr=pool,guest_hwaddr=pool)"
        ));
        builder
            .disk(1, first.clone())
            .disk(2, second.clone())
            .guest(Login::RootShell)
            .monitor()
    };
    let vms = [vm(1), vm(2)];
    let mut shells: Vec<Shell> = vms
        .iter()
        .map(|vm| {
            vm.start();
            Shell::of(vm)
        })
        .collect();
    for (shell, n) in shells.iter_mut().zip(1..) {
        shell.run(&format!(
            "ip link set vec0 up && ip addr add 10.7.0.1{n}/24 dev vec0"
        ));
    }
    shells[0].reaches("ping", "10.7.0.1");
    shells[0].reaches("ping", "10.7.0.12");
    shells[1].reaches("ping", "10.7.0.11");
    host_reaches("10.7.0.11", "56");
    host_reaches("10.7.0.12", "56");
    by_ipv6(&mut shells);
    dhcp(&world, &mut shells[0]);
    for (shell, vm) in shells.into_iter().zip(&vms) {
        shell.leave();
        vm.kill();
    }
    assert_eq!(snapshot(), before);
}

/// The guests and the host reach each other by IP version 6, too.
fn by_ipv6(shells: &mut [Shell]) {
    let ipv6 = shells.iter_mut().all(has_ipv6);
    // A kernel of another release may come without its modules.
    assert!(ipv6 || std::env::var_os("UMLMON_TEST_KERNEL").is_some());
    if ipv6 {
        for (shell, n) in shells.iter_mut().zip(1..) {
            // A module that came late has not yet seen the interface go up.
            shell.run("ip link set vec0 down; ip link set vec0 up");
            shell.run(&format!("ip addr add fd07::1{n}/64 dev vec0"));
        }
        shells[0].reaches("ping6", "fd07::1");
        shells[0].reaches("ping6", "fd07::12");
        shells[1].reaches("ping6", "fd07::11");
    }
}

/// The guest gets an address from a server on the host.
fn dhcp(world: &World, shell: &mut Shell) {
    let path = |name: &str| world.path().join(name).display().to_string();
    let leases = path("leases");
    fs::write(&leases, "").unwrap();
    let settings = format!(
        "start 10.7.0.100\nend 10.7.0.100\ninterface br0\nlease_file {leases}\npidfile {}\n",
        path("udhcpd.pid")
    );
    fs::write(path("udhcpd.conf"), settings).unwrap();
    let _server = Background::run("busybox", &["udhcpd", "-f", &path("udhcpd.conf")]);
    shell.run("ip addr flush dev vec0");
    shell.run(
        "printf '#!/bin/sh\\n[ $1 != bound ] || ip addr add $ip/24 dev $interface\\n' > /tmp/dhcp",
    );
    shell.run("chmod 755 /tmp/dhcp && udhcpc -i vec0 -q -s /tmp/dhcp > /dev/null 2>&1");
    assert!(shell.run("ip addr show vec0").contains("10.7.0.100/24"));
    shell.reaches("ping", "10.7.0.1");
}
