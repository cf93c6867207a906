//! The network of a guest that has no other program for that: lo, and one interface with the addresses that the
//! kernel's command line tells (umlguest, as process 1 of a temporary VM).
//!
//! The messages are those of rtnetlink(7): a header, a structure of the kind, and attributes.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};

/// Before the addresses on the kernel's command line: `10.0.2.15/24,10.0.2.2,10.0.2.3`, those of the guest, of the
/// router and of the name server. The dot keeps the kernel from giving it to programs.
const ARGUMENT: &str = "umlguest.net=";
/// The index of lo.
const LOOPBACK: u32 = 1;

/// The addresses of a guest.
#[derive(Debug, PartialEq, Eq)]
struct Addresses {
    own: Ipv4Addr,
    prefix: u8,
    router: Ipv4Addr,
    name_server: Ipv4Addr,
}

/// Sets up what there is. `/proc` and `/sys` are mounted.
pub(crate) fn set_up() -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    netlink.up(LOOPBACK)?;
    let line = fs::read_to_string("/proc/cmdline")?;
    let Some(addresses) = Addresses::read(&line) else {
        return Ok(());
    };
    let Some(interface) = interface() else {
        return Ok(());
    };
    netlink.up(interface)?;
    netlink.add_address(interface, &addresses)?;
    netlink.add_route(interface, addresses.router)?;
    let text = format!("nameserver {}\n", addresses.name_server);
    let file = Path::new("/etc/resolv.conf");
    if fs::write(file, &text).is_err() {
        // In an initramfs there is no such directory, and in an image it may be a link to nothing.
        fs::create_dir_all("/etc")?;
        let _ = fs::remove_file(file);
        fs::write(file, text)?;
    }
    Ok(())
}

/// The index of the first interface of the kernel's network drivers.
fn interface() -> Option<u32> {
    let index = |name| fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok();
    let text = ["vec0", "eth0"].into_iter().find_map(index)?;
    text.trim().parse().ok()
}

impl Addresses {
    /// The addresses on a kernel's command line, if they are there and make sense.
    fn read(line: &str) -> Option<Addresses> {
        let mut words = line.split_ascii_whitespace();
        let mut parts = words
            .find_map(|word| word.strip_prefix(ARGUMENT))?
            .split(',');
        let (own, prefix) = parts.next()?.split_once('/')?;
        Some(Addresses {
            own: own.parse().ok()?,
            prefix: prefix.parse().ok().filter(|prefix| *prefix <= 32)?,
            router: parts.next()?.parse().ok()?,
            name_server: parts.next()?.parse().ok()?,
        })
    }
}

/// A connection to the kernel for messages about networks.
struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> nix::Result<Netlink> {
        let protocol = SockProtocol::NetlinkRoute;
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        socket(AddressFamily::Netlink, kind, flags, protocol).map(Netlink)
    }

    /// Switches an interface on.
    fn up(&self, interface: u32) -> nix::Result<()> {
        const NEW_LINK: u16 = 16;
        const UP: [u8; 4] = 1_u32.to_ne_bytes();
        // Of struct ifinfomsg: family, type; index, flags, and which of them are to be set.
        let body = [[0; 4], interface.to_ne_bytes(), UP, UP].concat();
        self.send(NEW_LINK, 0, &body, &[])
    }

    fn add_address(&self, interface: u32, addresses: &Addresses) -> nix::Result<()> {
        const NEW_ADDRESS: u16 = 20;
        const LOCAL: u16 = 2;
        const ADDRESS: u16 = 1;
        // Of struct ifaddrmsg: family, length of the prefix, flags, scope; index.
        let body = [[INET, addresses.prefix, 0, 0], interface.to_ne_bytes()].concat();
        let own = addresses.own.octets();
        self.send(NEW_ADDRESS, CREATE, &body, &[(LOCAL, own), (ADDRESS, own)])
    }

    /// The route to everything.
    fn add_route(&self, interface: u32, router: Ipv4Addr) -> nix::Result<()> {
        const NEW_ROUTE: u16 = 24;
        const MAIN_TABLE: u8 = 254;
        const BY_ADMINISTRATOR: u8 = 4;
        const UNICAST: u8 = 1;
        const GATEWAY: u16 = 5;
        const INTERFACE: u16 = 4;
        // Of struct rtmsg: family, lengths, type of service; table, protocol, scope, type; flags.
        let body = [
            [INET, 0, 0, 0],
            [MAIN_TABLE, BY_ADMINISTRATOR, 0, UNICAST],
            [0; 4],
        ];
        let attributes = [
            (GATEWAY, router.octets()),
            (INTERFACE, interface.to_ne_bytes()),
        ];
        self.send(NEW_ROUTE, CREATE, &body.concat(), &attributes)
    }

    fn send(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        attributes: &[(u16, [u8; 4])],
    ) -> nix::Result<()> {
        let message = message(kind, flags, body, attributes);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), &message, &kernel, MsgFlags::empty()).map(drop)
    }
}

/// The family of IPv4 (AF_INET), and flags of requests (NLM_F_REQUEST, NLM_F_CREATE with NLM_F_EXCL).
const INET: u8 = 2;
const REQUEST: u16 = 1;
const CREATE: u16 = 0x600;

/// A message with attributes of four bytes.
fn message(kind: u16, flags: u16, body: &[u8], attributes: &[(u16, [u8; 4])]) -> Vec<u8> {
    const HEADER: usize = 16;
    const ATTRIBUTE: u16 = 8;
    let length = HEADER + body.len() + attributes.len() * usize::from(ATTRIBUTE);
    // It has two attributes at most.
    let mut message = u32::try_from(length).unwrap_or(0).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    // The number of the message, and whose it is.
    message.extend([0; 8]);
    message.extend(body);
    for (kind, value) in attributes {
        message.extend(ATTRIBUTE.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(value);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_or_there_are_none() {
        let line = "mem=64M umlguest.net=10.0.2.15/24,10.0.2.2,10.0.2.3 quiet\n";
        let addresses = Addresses::read(line).unwrap();
        assert_eq!(
            (addresses.own.octets(), addresses.prefix),
            ([10, 0, 2, 15], 24)
        );
        assert_eq!(addresses.name_server.octets(), [10, 0, 2, 3]);
        for text in [
            "",
            "10.0.2.15",
            "10.0.2.15/33,1.1.1.1,1.1.1.1",
            "10.0.2.15/24,x,y",
            "10.0.2.15/24",
        ] {
            assert_eq!(
                Addresses::read(&format!("{ARGUMENT}{text}")),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn a_message_says_how_long_it_is() {
        let message = message(24, CREATE, &[0; 12], &[(5, [1, 2, 3, 4]), (4, [0; 4])]);
        assert_eq!(message.len(), 44);
        assert_eq!(message[..8], [44, 0, 0, 0, 24, 0, 1, 6]);
        assert_eq!(message[28..36], [8, 0, 5, 0, 1, 2, 3, 4]);
    }
}
