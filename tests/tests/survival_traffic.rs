//! Tier real: what a guest sends and receives goes on while its monitor is killed, while there is none, and after the
//! next one has come.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use e2e::lan::{BY_DHCP, Neighbour};
use e2e::network::{enter, ip, snapshot};
use e2e::{
    Login, Shell, Vm, World, adoptions, free_port, kill_monitor, outlives, processes_that_stay,
    run, wait_for,
};
use rustix::process::{Pid, Signal, kill_process};

/// More than all buffers on the way: what is written has arrived, but for the last of it.
const PART: usize = 8 << 20;

/// What happens to the monitor meanwhile.
#[derive(Clone, Copy)]
enum Exchange {
    Killed,
    Upgraded,
}

impl Exchange {
    /// The monitor goes; `while_gone` is done before the next one comes, if that does not come at once.
    fn carry_out(self, vm: &Vm<'_>, while_gone: impl FnOnce()) {
        match self {
            Exchange::Killed => {
                kill_monitor(vm);
                while_gone();
                vm.start_monitor().ok();
            }
            Exchange::Upgraded => {
                let monitor = Pid::from_raw(vm.monitor_pid()).unwrap();
                kill_process(monitor, Signal::USR2).unwrap();
                while_gone();
                wait_for("the next program", || (adoptions(vm) > 0).then_some(()));
            }
        }
    }
}

/// The guest receives what the host writes into one connection, in the course of which the monitor goes. Every byte is
/// compared.
fn receives(vm: &Vm<'_>, shell: &mut Shell, exchange: Exchange, to: &str, load: &[u8]) {
    outlives(vm);
    let stay = processes_that_stay(vm);
    let line = "nc -l -p 5000 < /dev/null | cmp - /dev/ubdb";
    shell.begin(line);
    let connect = || {
        let mut stream = TcpStream::connect(to).ok()?;
        // Who forwards a port may take a connection before the guest does.
        stream.write_all(&load[..PART]).ok()?;
        Some(stream)
    };
    let mut stream = wait_for("nc in the guest", connect);
    exchange.carry_out(vm, || stream.write_all(&load[PART..2 * PART]).unwrap());
    stream.write_all(&load[2 * PART..]).unwrap();
    drop(stream);
    shell.end(line);
    assert_eq!(processes_that_stay(vm), stay);
}

/// It sends the same to an address of the host.
fn sends(shell: &mut Shell, to: &str, load: &[u8]) {
    let listener = TcpListener::bind(to).unwrap();
    let line = format!("nc {} < /dev/ubdb", to.replace(':', " "));
    shell.begin(&line);
    let mut came = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut came).unwrap();
    assert!(came == load, "{} of {} bytes", came.len(), load.len());
    shell.end(&line);
}

/// A host with a neighbour, and a guest with this interface and a disk of what is transferred.
fn with_guest(lines: &[&str], work: impl FnOnce(&Vm<'_>, &mut Shell, &[u8])) {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let _neighbour = Neighbour::join();
    for words in [
        "route add default via 10.8.0.2",
        "link add br0 type bridge",
        "link set br0 up",
        "addr add 10.7.0.1/24 dev br0",
    ] {
        ip(words);
    }
    let before = snapshot();
    let load = e2e::flood(3 * PART);
    let vm = world.vm("vm1").con(1).disk(1, load.clone());
    let vm = lines.iter().fold(vm, |vm, line| vm.line(line));
    let vm = vm.guest(Login::RootShell).monitor();
    if lines[0].ends_with("tuntap") && !vm.info()["nics"][0]["note"].to_string().contains("eth0") {
        // Kernels from 6.16 on do not have it.
        return;
    }
    vm.start();
    let mut shell = Shell::of(&vm);
    shell.run("nic=$(basename /sys/class/net/[ve]*0); ip link set $nic up");
    work(&vm, &mut shell, &load);
    shell.leave();
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
    assert_eq!(snapshot(), before);
    assert_eq!(run(Command::new("nft").args(["list", "ruleset"])).ok(), "");
}

fn host_to_host(transport: &str, exchange: Exchange) {
    let transport = format!("transport = {transport}");
    let nic =
        "eth0 = host_to_host(proxy_if=h0,proxy_addr=10.9.0.1,guest_addr=10.9.0.2,host_if=lan0)";
    with_guest(&[&transport, nic], |vm, shell, load| {
        shell.run("ip addr add 10.9.0.2 peer 10.9.0.1 dev $nic");
        shell.run("ip route add default via 10.9.0.1");
        shell.reaches("ping", "10.8.0.2");
        receives(vm, shell, exchange, "10.9.0.2:5000", load);
        sends(shell, "10.9.0.1:5001", load);
        shell.reaches("ping", "10.8.0.2");
    });
}

#[test]
fn host_to_host_by_the_vector_driver() {
    host_to_host("vec", Exchange::Killed);
}

#[test]
fn host_to_host_by_the_former_driver() {
    host_to_host("tuntap", Exchange::Upgraded);
}

#[test]
fn host_to_host_by_an_inherited_tap() {
    host_to_host("fd", Exchange::Killed);
}

#[test]
fn on_a_bridge() {
    let nic = "eth0 = bridged(bridge_if=br0,proxy_if=b0,guest_hwaddr=pool)";
    with_guest(&["transport = auto", nic], |vm, shell, load| {
        shell.run("ip addr add 10.7.0.2/24 dev $nic");
        shell.reaches("ping", "10.7.0.1");
        receives(vm, shell, Exchange::Upgraded, "10.7.0.2:5000", load);
        sends(shell, "10.7.0.1:5001", load);
    });
}

#[test]
fn by_a_process_that_makes_connections() {
    for exchange in [Exchange::Killed, Exchange::Upgraded] {
        let port = free_port();
        let nic = format!("eth0 = user(forward={port}:5000)");
        with_guest(&["transport = auto", &nic], |vm, shell, load| {
            shell.run("ip addr add 10.0.2.15/24 dev $nic && ip route add default via 10.0.2.2");
            shell.reaches("ping", "10.0.2.2");
            let to = format!("127.0.0.1:{port}");
            receives(vm, shell, exchange, &to, load);
            sends(shell, "10.8.0.1:5001", load);
        });
    }
}

#[test]
fn by_a_network_of_the_suite() {
    let port = free_port();
    let nic = format!("eth0 = nat(forward={port}:5000)");
    with_guest(&["transport = auto", &nic], |vm, shell, load| {
        shell.run(BY_DHCP);
        shell.reaches("ping", "10.86.0.1");
        let to = format!("127.0.0.1:{port}");
        receives(vm, shell, Exchange::Killed, &to, load);
        shell.reaches("ping", "10.8.0.2");
        shell.run("udhcpc -i $nic -n -q -s /tmp/dhcp");
    });
}
