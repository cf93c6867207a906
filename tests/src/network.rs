//! The host's network, as a test makes and sees it (the end-to-end tests). Each test is in a network namespace of its
//! own, with the programs that it runs.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::run;

/// Puts the calling thread, and what it starts, into a new network namespace with a loopback interface.
///
/// # Panics
/// If that is not possible.
pub fn enter() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    ip("link set lo up");
}

/// Runs `ip` with these words, and gives what it prints.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn ip(words: &str) -> String {
    run(Command::new("ip").args(words.split(' '))).ok()
}

/// Gives the host a LAN: lan0, with the address 10.8.0.1/24. Its other end is lan1.
///
/// # Panics
/// If that is not possible.
pub fn join_lan() {
    for words in [
        "link add lan0 type veth peer name lan1",
        "link set lan0 up",
        "addr add 10.8.0.1/24 dev lan0",
    ] {
        ip(words);
    }
}

/// For a VM on the host of [`enter_host`]: a connection with the host alone.
pub const H2H: &str = "eth0 = host_to_host(proxy_if=h0,proxy_addr=10.9.0.1,guest_addr=10.9.0.2,host_if=lan0,\
                       guest_hwaddr=pool)";
/// For a VM on the host of [`enter_host`]: a port of its bridge.
pub const BRIDGED: &str = "eth1 = bridged(bridge_if=br0,proxy_if=b0,proxy_hwaddr=pool)";

/// Lines for a VM on the host of [`enter_host`]: a network of each kind. This port of the host is forwarded.
#[must_use]
pub fn of_each_kind(port: u16) -> [String; 4] {
    [
        H2H.to_owned(),
        BRIDGED.to_owned(),
        format!("eth2 = user(forward={port}:22)"),
        "eth3 = nat()".to_owned(),
    ]
}

/// As [`enter`]; the host has a LAN, a bridge, and a way to the outside.
///
/// # Panics
/// If that is not possible.
pub fn enter_host() {
    enter();
    join_lan();
    for words in [
        "link add br0 type bridge",
        "link set br0 up",
        "route add default via 10.8.0.2",
    ] {
        ip(words);
    }
}

/// The filters of the host.
///
/// # Panics
/// If they cannot be told.
#[track_caller]
pub fn rules() -> String {
    run(Command::new("nft").args(["list", "ruleset"])).ok()
}

/// [`snapshot`] and [`rules`].
///
/// # Panics
/// If they cannot be told.
#[track_caller]
pub fn everything() -> (String, String) {
    (snapshot(), rules())
}

/// As [`ip`], in the network of a process.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn ip_of(pid: i32, words: &str) -> String {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "ip"]);
    run(command.args(words.split(' '))).ok()
}

/// All that the suite can change of the network: interfaces, addresses, routes, proxies, forwarding.
///
/// # Panics
/// If it cannot be told.
#[track_caller]
pub fn snapshot() -> String {
    // Without the state of a carrier, which follows later.
    let links = ip("-o link show");
    let link = |line: &str| {
        let port = line
            .split(" master ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let name = line.split('<').next().unwrap_or_default();
        format!("{name} {}", port.unwrap_or_default())
    };
    let mut all: Vec<String> = links.lines().map(link).collect();
    for words in ["-o addr show", "route show table all", "neigh show proxy"] {
        all.push(ip(words).replace(" linkdown", ""));
    }
    for entry in std::fs::read_dir("/proc/sys/net/ipv4/conf").unwrap() {
        let path = entry.unwrap().path().join("forwarding");
        let value = std::fs::read_to_string(&path).unwrap_or_default();
        all.push(format!("{} {value}", path.display()));
    }
    // Addresses of IPv6 become valid when they like, which brings the host's own routes to them, and their prefixes
    // expire.
    let own = |line: &str| line.starts_with("local ") && line.contains("::");
    let lines = all.iter().flat_map(|text| text.lines());
    let lines = lines.filter(|line| !line.contains("inet6") && !line.contains("fe80:"));
    let lines = lines.filter(|line| !own(line));
    let mut lines: Vec<&str> = lines
        .filter(|line| !line.contains("multicast ff00"))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}
