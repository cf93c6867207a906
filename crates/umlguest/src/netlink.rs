//! Requests to the kernel about network interfaces (umlguest, as process 1 of a VM).
//!
//! The messages are those of rtnetlink(7): a header, a structure of the kind, and attributes.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use guest_line::{Prefix, Route};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use rustix::io::Errno;

/// The families of IPv4 and IPv6 (AF_INET, AF_INET6).
const INET: u8 = 2;
const INET6: u8 = 10;
/// Flags of requests: NLM_F_REQUEST with NLM_F_ACK, and NLM_F_CREATE with NLM_F_EXCL.
const REQUEST: u16 = 5;
const CREATE: u16 = 0x600;
/// The length of a header (struct nlmsghdr), and that of an attribute (struct rtattr).
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
/// Enough for an answer, which repeats the request.
const BUFFER: usize = 4096;

/// A connection to the kernel for messages about networks.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl Netlink {
    pub(crate) fn open() -> nix::Result<Netlink> {
        let protocol = SockProtocol::NetlinkRoute;
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(AddressFamily::Netlink, kind, flags, protocol)?;
        Ok(Netlink {
            socket,
            sequence: Cell::new(0),
        })
    }

    /// Switches an interface on.
    pub(crate) fn up(&self, interface: u32) -> io::Result<()> {
        const UP: [u8; 4] = 1_u32.to_ne_bytes();
        self.change(interface, UP, &[])
    }

    /// Gives an interface another name; it must be off.
    pub(crate) fn rename(&self, interface: u32, name: &str) -> io::Result<()> {
        const NAME: u16 = 3;
        let name = [name.as_bytes(), b"\0"].concat();
        self.change(interface, [0; 4], &[(NAME, name)])
    }

    fn change(
        &self,
        interface: u32,
        flags: [u8; 4],
        attributes: &[(u16, Vec<u8>)],
    ) -> io::Result<()> {
        const NEW_LINK: u16 = 16;
        // Of struct ifinfomsg: family, type; index, flags, and which of them are to be set.
        let body = [[0; 4], interface.to_ne_bytes(), flags, flags].concat();
        self.ask(NEW_LINK, 0, &body, attributes)
    }

    /// Gives an interface an address, without a route to others like it. It may have it already.
    pub(crate) fn add_address(&self, interface: u32, own: &Prefix) -> io::Result<()> {
        const NEW_ADDRESS: u16 = 20;
        const ADDRESS: u16 = 1;
        const LOCAL: u16 = 2;
        const FLAGS: u16 = 8;
        // IFA_F_NODAD: whoever gave the guest the address knows that it is free. IFA_F_NOPREFIXROUTE.
        const FREE: u32 = 2;
        const ALONE: u32 = 0x200;
        let (family, address) = parts(own.address);
        // Of struct ifaddrmsg: family, length of the prefix, flags, scope; index.
        let body = [[family, own.bits, 0, 0], interface.to_ne_bytes()].concat();
        let flags = (FREE | ALONE).to_ne_bytes().to_vec();
        let attributes = [(LOCAL, address.clone()), (ADDRESS, address), (FLAGS, flags)];
        there_already(self.ask(NEW_ADDRESS, CREATE, &body, &attributes))
    }

    /// Adds a route through an interface. It may be there already.
    pub(crate) fn add_route(&self, interface: u32, route: &Route) -> io::Result<()> {
        const NEW_ROUTE: u16 = 24;
        const MAIN_TABLE: u8 = 254;
        const BY_ADMINISTRATOR: u8 = 4;
        const UNICAST: u8 = 1;
        // RT_SCOPE_UNIVERSE, RT_SCOPE_LINK.
        const FAR: u8 = 0;
        const NEAR: u8 = 253;
        // RTNH_F_ONLINK: a router is at the interface, whatever its address is.
        const ON_LINK: u32 = 4;
        const DESTINATION: u16 = 1;
        const INTERFACE: u16 = 4;
        const GATEWAY: u16 = 5;
        const SOURCE: u16 = 7;
        let (family, to) = parts(route.to.address);
        let scope = if route.gateway.is_none() && family == INET {
            NEAR
        } else {
            FAR
        };
        let flags = if route.gateway.is_some() { ON_LINK } else { 0 };
        // Of struct rtmsg: family, lengths, type of service; table, protocol, scope, type; flags.
        let body = [
            [family, route.to.bits, 0, 0],
            [MAIN_TABLE, BY_ADMINISTRATOR, scope, UNICAST],
            flags.to_ne_bytes(),
        ];
        let mut attributes = vec![(INTERFACE, interface.to_ne_bytes().to_vec())];
        if route.to.bits > 0 {
            attributes.push((DESTINATION, to));
        }
        let others = [(GATEWAY, route.gateway), (SOURCE, route.source)];
        attributes.extend(
            others
                .iter()
                .filter_map(|(kind, it)| Some((*kind, parts((*it)?).1))),
        );
        there_already(self.ask(NEW_ROUTE, CREATE, &body.concat(), &attributes))
    }

    /// Sends a request, and waits for the kernel's answer, which comes at once.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        attributes: &[(u16, Vec<u8>)],
    ) -> io::Result<()> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let message = message((kind, flags), sequence, body, attributes);
        let kernel = NetlinkAddr::new(0, 0);
        let fd = self.socket.as_raw_fd();
        sendto(fd, &message, &kernel, MsgFlags::empty())?;
        let mut buffer = [0; BUFFER];
        loop {
            let length = recv(fd, &mut buffer, MsgFlags::empty())?;
            if let Some(answer) = answer(buffer.get(..length).unwrap_or_default(), sequence) {
                return answer;
            }
        }
    }
}

/// The family of an address, and its bytes.
fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (INET, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, address.octets().to_vec()),
    }
}

fn there_already(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => Ok(()),
        _ => Err(error),
    })
}

/// A request.
fn message(
    (kind, flags): (u16, u16),
    sequence: u32,
    body: &[u8],
    attributes: &[(u16, Vec<u8>)],
) -> Vec<u8> {
    let mut rest = body.to_vec();
    for (kind, value) in attributes {
        // The longest value is a name.
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(0);
        rest.extend(length.to_ne_bytes());
        rest.extend(kind.to_ne_bytes());
        rest.extend(value);
        rest.resize(rest.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(HEADER + rest.len()).unwrap_or(0);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    // Whose it is.
    message.extend([0; 4]);
    message.extend(rest);
    message
}

/// What the kernel says to the request of this number; None if it is about something else.
fn answer(message: &[u8], sequence: u32) -> Option<io::Result<()>> {
    const ERROR: u16 = 2;
    let word = |at: usize| message.get(at..at + 4)?.try_into().ok();
    let kind = message.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    if kind != ERROR || u32::from_ne_bytes(word(8)?) != sequence {
        return None;
    }
    // 0, or the number of the error with a minus.
    Some(match i32::from_ne_bytes(word(HEADER)?) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_how_long_it_is() {
        let attributes = [(5, vec![1, 2, 3, 4]), (3, b"eth0\0".to_vec())];
        let message = message((24, CREATE), 7, &[0; 12], &attributes);
        assert_eq!(message.len(), 48);
        assert_eq!(message[..12], [48, 0, 0, 0, 24, 0, 5, 6, 7, 0, 0, 0]);
        assert_eq!(message[28..36], [8, 0, 5, 0, 1, 2, 3, 4]);
        assert_eq!(message[36..], *b"\x09\0\x03\0eth0\0\0\0\0");
    }

    #[test]
    fn an_answer_is_to_its_request() {
        let said = |kind: u8, sequence: u8, error: i32| {
            let mut message = vec![36, 0, 0, 0, kind, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0];
            message.extend(error.to_ne_bytes());
            let result = answer(&message, 7)?;
            Some(result.map_err(|error| error.raw_os_error().unwrap()))
        };
        assert_eq!(said(2, 7, 0), Some(Ok(())));
        assert_eq!(said(2, 7, -19), Some(Err(19)));
        assert_eq!(said(2, 6, 0), None);
        assert_eq!(said(3, 7, 0), None);
        assert!(answer(&[0; 18], 7).is_none() && answer(b"", 0).is_none());
    }
}
