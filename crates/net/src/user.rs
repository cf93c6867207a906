//! The network of a VM whose connections a process of its user makes on the host: its addresses, and the ports of the
//! host that are forwarded to it. Used by the monitor, as root.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;
use std::path::Path;

use config::{Forward, Protocol};

use crate::error::Error;

/// The program that makes the connections (slirp4netns(1)).
pub const PROGRAM: &str = "/usr/bin/slirp4netns";
/// The address of the router: the program itself, which also offers addresses by DHCP.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The first address that is offered, which is that of the VM.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The first of these addresses, and the length of their prefix.
pub const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 0);
/// See [`NETWORK`].
pub const PREFIX: u8 = 24;
/// The address of the name server: the program, which asks those of the host.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// What the program needs of the network of a VM.
#[derive(Clone, Copy, Debug)]
pub struct UserEnd<'a> {
    /// The user namespace in which it has the rights to take its tap.
    pub user: BorrowedFd<'a>,
    /// The network namespace with its tap.
    pub network: BorrowedFd<'a>,
    /// The name of its tap.
    pub tap: &'static str,
    /// The largest packet in bytes, if it was configured.
    pub mtu: Option<u32>,
    /// The ports of the host that are forwarded to the VM.
    pub forwards: &'a [Forward],
}

/// The tap of the program. No interface of the configuration is in the same network.
pub(crate) const TAP: &str = "slirp0";

/// Whether the program is there.
pub(crate) fn check_program(eth: &str) -> Result<(), Error> {
    match Path::new(PROGRAM).exists() {
        true => Ok(()),
        false => Err(Error::NoProgram {
            eth: eth.to_owned(),
        }),
    }
}

/// Whether the host lets the program have this port.
pub(crate) fn check_port(eth: &str, forward: &Forward) -> Result<(), Error> {
    check_free(eth, forward)?;
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.ok().and_then(|text| text.trim().parse().ok());
    match forward.host.port() >= first.unwrap_or(1024) {
        true => Ok(()),
        false => Err(Error::Port {
            eth: eth.to_owned(),
            port: port(forward),
            why: "only root can have it; give a higher port, or lower the sysctl \
                  net.ipv4.ip_unprivileged_port_start"
                .to_owned(),
        }),
    }
}

/// Whether no program of the host has this port.
pub(crate) fn check_free(eth: &str, forward: &Forward) -> Result<(), Error> {
    let (address, protocol) = (forward.host, forward.protocol);
    let why = match bind(protocol, address) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = holder(protocol, address.port());
            let holder = holder.unwrap_or_else(|| "another program".into());
            format!("{holder} has it; give another port, or end that")
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => format!(
            "the host has no address {}; give one that `ip addr` shows, or 0.0.0.0 for all",
            address.ip()
        ),
        Err(error) => error.to_string(),
    };
    Err(Error::Port {
        eth: eth.to_owned(),
        port: port(forward),
        why,
    })
}

/// The port of the host, for people and as a thing that one VM can have.
pub(crate) fn port(forward: &Forward) -> String {
    format!("{} {}", forward.protocol, forward.host)
}

fn bind(protocol: Protocol, address: SocketAddrV4) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    }
}

/// The process that has a port open, if it is known (proc_pid_net(5), proc_pid_fd(5)).
fn holder(protocol: Protocol, port: u16) -> Option<String> {
    let sockets = ["", "6"].iter().flat_map(|version| {
        let text = fs::read_to_string(format!("/proc/net/{protocol}{version}")).unwrap_or_default();
        let inodes = text.lines().filter_map(|line| inode(line, protocol, port));
        inodes
            .map(|inode| format!("socket:[{inode}]"))
            .collect::<Vec<_>>()
    });
    let sockets: Vec<String> = sockets.collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find_map(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let links = open
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        { links }.find(|link| sockets.iter().any(|socket| Path::new(socket) == link))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim().escape_debug()))
    })
}

/// The inode in a line of /proc/net/tcp or /proc/net/udp, if it is about a socket that waits at this port.
fn inode(line: &str, protocol: Protocol, port: u16) -> Option<&str> {
    // TCP_LISTEN, and TCP_CLOSE, which an unconnected UDP socket is in.
    let waits = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, own) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(own, 16) == Ok(port) && fields.get(3) == Some(&waits);
    fields.get(9).copied().filter(|_| is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_port_is_told() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (tcp, udp) = (
                TcpListener::bind("127.0.0.1:0").unwrap(),
                UdpSocket::bind("127.0.0.1:0").unwrap(),
            );
            let address = match protocol {
                Protocol::Tcp => tcp.local_addr(),
                Protocol::Udp => udp.local_addr(),
            };
            let forward: Forward = format!("{protocol}:{}:22", address.unwrap())
                .parse()
                .unwrap();
            let said = check_port("eth0", &forward).unwrap_err().to_string();
            let own = format!("process {} ", std::process::id());
            assert!(
                said.contains(&own) && said.contains("another port"),
                "{said}"
            );
            drop((tcp, udp));
            check_port("eth0", &forward).unwrap();
        }
        let elsewhere = "192.0.2.77:2222:22".parse().unwrap();
        let said = check_port("eth0", &elsewhere).unwrap_err().to_string();
        assert!(said.contains("no address 192.0.2.77"), "{said}");
    }
}
