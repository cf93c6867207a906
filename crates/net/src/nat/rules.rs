//! The filters of a network, and its masquerade, in the language of nft(8). Applied by the monitor, as root.
//!
//! They are in tables of our own, one of the family `bridge` and one of the family `ip`, which are replaced as a whole
//! when the VMs change. No other table is read or changed.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;

use config::{NetworkName, Subnet};

use crate::member::{Mapped, Member, router};
use crate::nat::program::run;

/// The program.
pub(super) const PROGRAM: &str = "/usr/sbin/nft";

/// Applies a text, all or nothing.
pub(super) fn apply(text: &str) -> io::Result<()> {
    run(PROGRAM, &["-f", "-"], text)
}

/// Removes the tables, whether they are there or not.
pub(super) fn none(name: &NetworkName) -> String {
    let mut text = String::new();
    for family in ["bridge", "ip"] {
        let _ = writeln!(
            text,
            "add table {family} umlmon_{name}\ndelete table {family} umlmon_{name}"
        );
    }
    text
}

/// Replaces the tables.
pub(super) fn text(name: &NetworkName, subnet: Subnet, members: &[&Member]) -> String {
    let ports = ports(name, members);
    let routed = routed(name, subnet, members);
    format!("{}{ports}{routed}", none(name))
}

/// What may come from the ports of the bridge: from each VM only its own addresses, and IPv4 alone.
fn ports(name: &NetworkName, members: &[&Member]) -> String {
    let mut text = format!("table bridge umlmon_{name} {{\n");
    for Member {
        address, mac, port, ..
    } in members
    {
        let _ = write!(
            text,
            " chain from_{port} {{\n  \
               ether saddr != {mac} drop\n  \
               arp saddr ether != {mac} drop\n  \
               arp saddr ip {{ 0.0.0.0, {address} }} accept\n  \
               ip saddr {address} udp sport 67 drop\n  \
               ip saddr {address} accept\n  \
               ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n  \
               drop\n }}\n"
        );
    }
    text += " chain from_vms {\n  type filter hook prerouting priority -300; policy accept;\n";
    for Member { port, .. } in members {
        let _ = writeln!(text, "  iifname \"{port}\" jump from_{port}");
    }
    text + " }\n}\n"
}

/// What the VMs reach beyond the bridge, and who reaches them.
fn routed(name: &NetworkName, subnet: Subnet, members: &[&Member]) -> String {
    let (bridge, router) = (name.bridge(), router(subnet));
    let mut text = format!(
        "table ip umlmon_{name} {{\n \
         chain to_host {{\n  \
           type filter hook input priority 0; policy accept;\n  \
           iifname != \"{bridge}\" return\n  \
           ct state established,related accept\n  \
           ip daddr {router} udp dport {{ 53, 67 }} accept\n  \
           ip daddr {router} tcp dport 53 accept\n  \
           ip daddr {router} icmp type echo-request accept\n  \
           ip daddr 255.255.255.255 udp dport 67 accept\n  \
           reject with icmp type admin-prohibited\n }}\n \
         chain to_others {{\n  \
           type filter hook forward priority 0; policy accept;\n  \
           oifname != \"{bridge}\" return\n  \
           iifname \"{bridge}\" accept\n  \
           ct state established,related accept\n  \
           ct status dnat accept\n  \
           drop\n }}\n \
         chain leaving {{\n  \
           type nat hook postrouting priority 100; policy accept;\n  \
           ip saddr {subnet} oifname != \"{bridge}\" masquerade\n  \
           ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade\n }}\n"
    );
    text += " chain arriving {\n  type nat hook prerouting priority -100; policy accept;\n";
    for (member, mapped) in forwards(members).filter(|(_, it)| !it.host.ip().is_loopback()) {
        let rule = forward(member, mapped);
        let _ = writeln!(text, "  iifname != \"{bridge}\" {rule}");
    }
    text += " }\n chain of_host {\n  type nat hook output priority -100; policy accept;\n";
    for (member, mapped) in forwards(members) {
        let _ = writeln!(text, "  {}", forward(member, mapped));
    }
    text + " }\n}\n"
}

fn forwards<'a>(members: &'a [&Member]) -> impl Iterator<Item = (&'a Member, &'a Mapped)> {
    let members = members.iter();
    members.flat_map(|member| member.forwards.iter().map(|it| (*member, it)))
}

/// Whether ports of 127.0.0.1 are forwarded to a VM.
pub(super) fn has_loopback(member: &Member) -> bool {
    let is_it = |address: &Ipv4Addr| address.is_loopback() || address.is_unspecified();
    member.forwards.iter().any(|it| is_it(it.host.ip()))
}

fn forward(member: &Member, mapped: &Mapped) -> String {
    let host = mapped.host;
    let place = match host.ip().is_unspecified() {
        true => "fib daddr type local".to_owned(),
        false => format!("ip daddr {}", host.ip()),
    };
    let protocol = if mapped.udp { "udp" } else { "tcp" };
    format!(
        "{place} {protocol} dport {} dnat to {}:{}",
        host.port(),
        member.address,
        mapped.guest
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::nat) fn member(name: &str, number: u8) -> Member {
        let subnet: Subnet = "10.86.0.0/24".parse().unwrap();
        Member {
            network: "uml".parse().unwrap(),
            subnet,
            address: subnet.address(number),
            mac: format!("0A:12:BC:AF:32:{number:02X}").parse().unwrap(),
            host_name: name.to_owned(),
            port: format!("uml-{number}"),
            forwards: Vec::new(),
        }
    }

    #[test]
    fn ports_of_the_loopback_are_not_for_what_arrives() {
        let mut web = member("web", 2);
        for (host, guest) in [
            ("127.0.0.1:2222", 22),
            ("192.0.2.1:80", 80),
            ("0.0.0.0:53", 53),
        ] {
            web.forwards.push(Mapped {
                udp: guest == 53,
                host: host.parse().unwrap(),
                guest,
            });
        }
        let text = text(&web.network, web.subnet, &[&web]);
        let (arriving, of_host) = text.split_once("chain of_host").unwrap();
        assert!(!arriving.contains("dport 2222"), "{text}");
        assert!(of_host.contains("ip daddr 127.0.0.1 tcp dport 2222 dnat to 10.86.0.2:22"));
        let arrives = "iifname != \"br-uml\" ip daddr 192.0.2.1 tcp dport 80 dnat to 10.86.0.2:80";
        assert!(arriving.contains(arrives), "{text}");
        assert!(arriving.contains("fib daddr type local udp dport 53 dnat"));
    }
}
