//! The connection to the host's kernel for interfaces, addresses, routes and neighbours: rtnetlink(7).
//!
//! It is synchronous, unlike that of the crate `rtnetlink`, because a drop undoes what was set up, and a drop cannot
//! wait for an event loop. The kernel answers at once.

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with, sockopt};

/// The most that the kernel sends at a time (NLMSG_GOODSIZE of a dump is less).
const BUFFER: usize = 64 << 10;
/// How long to wait for an answer of the kernel.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A netlink socket, and the number of its last request.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Netlink> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // Protocol 0 is NETLINK_ROUTE.
            None,
        )?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request, with further `flags`, and returns the kernel's messages until it confirms.
    ///
    /// # Errors
    /// The kernel's own.
    pub(crate) fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        self.answer()
    }

    fn answer(&self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut said = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC)?;
            let mut rest = buffer.get(..length).ok_or_else(|| {
                io::Error::other("the kernel's answer is longer than any that was expected")
            })?;
            while !rest.is_empty() {
                let header = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
                let step = (header.length() as usize).next_multiple_of(4);
                if header.sequence_number() == self.sequence && self.take(rest, &mut said)? {
                    return Ok(said);
                }
                rest = rest.get(step..).unwrap_or_default();
            }
        }
    }

    /// Reads one message; true if it was the last one.
    fn take(&self, bytes: &[u8], said: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes);
        match message.map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => Ok(true),
            NetlinkPayload::InnerMessage(message) => {
                said.push(message);
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}
