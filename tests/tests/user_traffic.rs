//! Tier real: what a guest reaches, and what reaches it, by the process that makes the connections of its VM.
#![allow(clippy::unwrap_used, reason = "all of it is test")]

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use e2e::host::cover;
use e2e::lan::{BY_DHCP, Background, Neighbour};
use e2e::network::{enter, ip};
use e2e::{Console, Login, Vm, World, free_port, wait_for};

/// What comes to UDP port 5001 is sent back. It is for perl, as busybox has nothing for it; its argument is 4 or 6, the
/// IP version.
const ECHO: &str = "use Socket; $| = 1; \
     my ($family, $address) = $ARGV[0] == 6 ? (AF_INET6, pack_sockaddr_in6(5001, qq(\\0) x 16)) : \
     (AF_INET, pack_sockaddr_in(5001, INADDR_ANY)); \
     socket(S, $family, SOCK_DGRAM, 0) && bind(S, $address) or die $!; \
     print qq(up\\n); while (my $who = recv(S, my $said, 9000, 0)) { send(S, $said, 0, $who) }";

/// Sends a word to a UDP port until it comes back. The arguments are address, port and word.
const ASK: &str = "use IO::Socket::IP; my $said = qq(); \
     my $s = IO::Socket::IP->new(PeerHost => $ARGV[0], PeerPort => $ARGV[1], Type => SOCK_DGRAM) or die $@; \
     for (1 .. 10) { $s->send($ARGV[2]); vec(my $ready = qq(), fileno($s), 1) = 1; \
     last if select($ready, undef, undef, 1) && defined $s->recv($said, 9000) && $said } print $said";

/// A guest with such a line, which sees the programs of the host.
fn guest<'w>(world: &'w World, line: &str) -> Vm<'w> {
    let vm = world.vm("vm1").line(line).line("share0 = /usr:ro");
    let vm = vm.guest(Login::RootShell).monitor();
    vm.start();
    run(
        &vm,
        "mount -o remount,rw / && ln -s usr/lib /lib && ln -s usr/lib64 /lib64",
    );
    run(&vm, BY_DHCP);
    vm
}

/// Runs a script in the guest; gives what it says.
#[track_caller]
fn run(vm: &Vm<'_>, script: &str) -> String {
    let script = format!("exec 2>&1; {script}");
    vm.umlwatch(&["-exec", "sh", "-c", &script]).ok()
}

/// The guest asks port 5001 of an address, and gets the answer.
#[track_caller]
fn is_answered_from(vm: &Vm<'_>, address: &str) {
    let words = ["-exec", "perl", "-e", ASK, address, "5001", "a word"];
    assert_eq!(vm.umlwatch(&words).ok(), "a word", "{address}");
}

fn end(vm: &Vm<'_>) {
    vm.umlwatch(&["-halt"]).ok();
    vm.wait_inactive();
}

#[test]
fn udp_goes_out_and_comes_in() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let neighbour = Neighbour::join();
    let _outside = neighbour.begin(&format!("exec perl -e '{ECHO}' 4"));
    let port = free_port();
    let line = format!("eth0 = user(forward=udp:10.8.0.1:{port}:5001)");
    let vm = guest(&world, &line);
    is_answered_from(&vm, "10.8.0.2");

    let mut server = Console::of(&mut vm.command(&["-exec", "perl", "-e", ECHO, "4"]));
    server.expect("up");
    let socket = UdpSocket::bind("10.8.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut answer = [0; 20];
    let length = wait_for("an answer", || {
        socket.send_to(b"in", ("10.8.0.1", port)).ok()?;
        socket.recv(&mut answer).ok()
    });
    assert_eq!(answer.get(..length), Some(&b"in"[..]));
    let from_outside = format!("test \"$(perl -e '{ASK}' 10.8.0.1 {port} x)\" = x");
    assert!(neighbour.begin(&from_outside).wait().success());
    end(&vm);
}

#[test]
fn names_are_asked_for_where_the_host_does() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let _scratch = cover();
    enter();
    let _neighbour = Neighbour::join();
    // A server on the host itself, as systemd-resolved is one, which guests reach by no other way.
    let words = "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces \
                 --pid-file= --local=/umlmon.example/ --listen-address=127.0.0.53 --address=/umlmon.example/192.0.2.7";
    let _server = Background::run("/usr/sbin/dnsmasq", &words.split(' ').collect::<Vec<_>>());
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.53\n").unwrap();
    let vm = guest(&world, "eth0 = user()");
    let said = run(
        &vm,
        "cat /etc/resolv.conf; busybox nslookup host.umlmon.example",
    );
    assert!(
        said.starts_with("nameserver 10.0.2.3\n") && said.contains("192.0.2.7"),
        "{said}"
    );
    // Another server is asked when the host asks another one.
    let words = words
        .replace("127.0.0.53", "10.8.0.1")
        .replace("192.0.2.7", "192.0.2.8");
    let _server = Background::run("/usr/sbin/dnsmasq", &words.split(' ').collect::<Vec<_>>());
    fs::write("/etc/resolv.conf", "nameserver 10.8.0.1\n").unwrap();
    run(
        &vm,
        "until busybox nslookup host.umlmon.example | grep 192.0.2.8; do sleep 0.1; done",
    );
    vm.umlwatch(&["-halt", "-wait", "60"]).ok();
}

/// Loads the module of the guest's kernel for IP version 6, where it is one; false if there is none for this kernel.
fn has_ipv6(vm: &Vm<'_>) -> bool {
    run(
        vm,
        "if ! test -e /proc/net/if_inet6; then cd /usr/lib/uml/modules/$(uname -r)/kernel && \
         insmod lib/crc-ccitt.ko && insmod net/ipv6/ipv6.ko; fi 2> /dev/null; test -e /proc/net/if_inet6; echo $?",
    ) == "0\n"
}

#[test]
fn ip_version_6_goes_out_if_the_host_has_it() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let neighbour = Neighbour::join();
    ip("addr add fd08::1/64 dev lan0 nodad");
    neighbour.run("ip addr add fd08::2/64 dev lan1 nodad");
    ip("-6 route add default via fd08::2 dev lan0");
    let _outside = neighbour.begin(&format!("exec perl -e '{ECHO}' 6"));
    let vm = guest(&world, "eth0 = user()");
    if !has_ipv6(&vm) {
        // A kernel of another release may come without its modules.
        assert!(std::env::var_os("UMLMON_TEST_KERNEL").is_some());
        vm.kill();
        return;
    }
    // The module came after the interface: the router is to tell its prefix.
    run(
        &vm,
        "nic=$(basename /sys/class/net/[ve]*0); ip link set $nic down; ip link set $nic up; \
         until ip -6 route show default | grep via && ip -6 addr show $nic | grep 'fd00:.*global'; do sleep 0.1; done",
    );
    is_answered_from(&vm, "fd08::2");
    let beyond = neighbour.begin("echo beyond | busybox nc -l -p 5002");
    let said = run(
        &vm,
        "until busybox nc -w 5 fd08::2 5002 < /dev/null; do sleep 0.1; done",
    );
    assert_eq!(said, "beyond\n");
    drop(beyond);
    // The router answers; of other hosts the process passes no echo on.
    run(&vm, "ping6 -c 1 -W 10 fd00::2 && ! ping6 -c 1 -W 1 fd08::2");
    end(&vm);
}
