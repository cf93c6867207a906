//! Interfaces, addresses, routes and neighbours of the host, with the types of this crate.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

use config::MacAddr;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage, Stats64,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::netlink::Netlink;

/// How much of a directory is in an alias; the kernel accepts 255 bytes in all (IFALIASZ).
const MAX_DIRECTORY: usize = 240;

/// Frames to link-local groups that a bridge can be set to forward: all but those of spanning trees, pauses and bonds,
/// which the kernel never forwards (group_fwd_mask of ip-link(8)).
const PASSED_ON: u16 = 0xfff8;

/// The traffic of an interface, as the VM sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes that the VM was sent, without those that were dropped.
    pub received_bytes: u64,
    /// Packets of these.
    pub received_packets: u64,
    /// Packets for the VM that it was too slow for.
    pub received_dropped: u64,
    /// Bytes that the VM has sent.
    pub sent_bytes: u64,
    /// Packets of these.
    pub sent_packets: u64,
    /// Packets of the VM that the host has dropped.
    pub sent_dropped: u64,
}

/// An interface of the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// It is a tap, or an end of a pair: the kinds of interfaces that VMs have on the host.
    pub(crate) is_of_a_kind: bool,
    /// The other end of a pair, in its namespace.
    pub(crate) peer: u32,
    pub(crate) is_bridge: bool,
    /// It carries frames of Ethernet.
    pub(crate) is_ethernet: bool,
    pub(crate) is_up: bool,
    /// The largest packet in bytes.
    pub(crate) mtu: u32,
    /// Free text, set by the program that made it.
    pub(crate) alias: String,
    pub(crate) mac: Option<MacAddr>,
    /// The kernel of the VM has it open.
    pub(crate) carrier: bool,
    pub(crate) counters: Counters,
}

/// The kind of an interface of the host, for checks that change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One that interfaces of VMs can be ports of.
    Bridge,
    /// Any other.
    Other,
}

/// What the interface of this name is; None if the host has none.
///
/// # Errors
/// If the host's kernel does not answer.
pub fn kind(interface: &str) -> io::Result<Option<Kind>> {
    let link = Host::open()?.link(interface)?;
    Ok(link.map(|link| match link.is_bridge {
        true => Kind::Bridge,
        false => Kind::Other,
    }))
}

/// Switches an interface on and gives it an address, with a route to the one at its other end, as on a point-to-point
/// line.
///
/// # Errors
/// If there is none of this name, and those of the kernel.
pub fn configure(interface: &str, own: Ipv4Addr, peer: Ipv4Addr) -> io::Result<()> {
    let mut host = Host::open()?;
    let link = host.link(interface)?.ok_or(Errno::NODEV)?;
    host.change(link.index, &Change::default())?;
    host.add_address(link.index, own, peer)
}

/// Puts the calling thread, and what it starts from now on, into a network namespace of its own, which is empty.
///
/// # Errors
/// Those of unshare(2).
pub fn leave_host() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?)
}

/// Changes of an interface; None leaves it as it is.
#[derive(Debug, Default)]
pub(crate) struct Change<'a> {
    pub(crate) alias: &'a str,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) bridge: Option<u32>,
}

/// How the host would send to an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The address is its own.
    Itself,
    /// There is a route to exactly this address.
    Exact,
    /// By other routes, or not at all.
    Other,
}

/// A route of the host.
#[derive(Debug)]
pub(crate) struct Route {
    /// The addresses that it leads to: the first bits, and how many.
    pub(crate) to: (Ipv4Addr, u8),
    /// The interfaces that it leads through.
    pub(crate) through: Vec<u32>,
}

/// The host's network.
#[derive(Debug)]
pub(crate) struct Host(Netlink);

impl Host {
    pub(crate) fn open() -> io::Result<Host> {
        Netlink::open().map(Host)
    }

    /// Sends a request, with further flags, and returns the kernel's messages.
    pub(crate) fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.0.ask(message, flags)
    }

    /// The interface of this name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.look(message)
    }

    /// The interface of this number.
    pub(crate) fn link_at(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.look(message)
    }

    fn look(&mut self, message: LinkMessage) -> io::Result<Option<Link>> {
        let asked = self.0.ask(RouteNetlinkMessage::GetLink(message), 0);
        let said = match asked {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => return Ok(None),
            said => said?,
        };
        Ok(said.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(read(link)),
            _ => None,
        }))
    }

    /// Changes an interface, and switches it on.
    pub(crate) fn change(&mut self, index: u32, change: &Change<'_>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let alias = LinkAttribute::IfAlias(change.alias.to_owned());
        let mac = change
            .mac
            .map(|mac| LinkAttribute::Address(mac.octets().to_vec()));
        let mtu = change.mtu.map(LinkAttribute::Mtu);
        let bridge = change.bridge.map(LinkAttribute::Controller);
        let all = [Some(alias), mac, mtu, bridge];
        message.attributes.extend(all.into_iter().flatten());
        self.0
            .ask(RouteNetlinkMessage::SetLink(message), 0)
            .map(drop)
    }

    /// Makes a pair of interfaces: one of this name here, and one in another namespace.
    pub(crate) fn add_veth(&mut self, name: &str, namespace: BorrowedFd<'_>) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        let there = LinkAttribute::NetNsFd(namespace.as_raw_fd());
        peer.attributes.push(there);
        let data = InfoData::Veth(InfoVeth::Peer(peer));
        self.add(
            name,
            vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)],
        )
    }

    /// Makes a bridge that only works as a cable between two ports.
    pub(crate) fn add_cable(&mut self, name: &str) -> io::Result<()> {
        let data = InfoData::Bridge(vec![
            // Nothing is learned, so a guest cannot fill a table.
            InfoBridge::AgeingTime(0),
            InfoBridge::MulticastSnooping(false),
            InfoBridge::GroupFwdMask(PASSED_ON),
        ]);
        self.add(
            name,
            vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)],
        )
    }

    /// Makes a bridge between VMs. The frames that arrive at it are filtered, so it can learn addresses.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: Option<MacAddr>) -> io::Result<()> {
        let data = InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)]);
        let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)];
        self.add_with(name, info, mac)
    }

    fn add(&mut self, name: &str, info: Vec<LinkInfo>) -> io::Result<()> {
        self.add_with(name, info, None)
    }

    fn add_with(
        &mut self,
        name: &str,
        info: Vec<LinkInfo>,
        mac: Option<MacAddr>,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(info),
        ];
        let mac = mac.map(|mac| LinkAttribute::Address(mac.octets().to_vec()));
        message.attributes.extend(mac);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.0
            .ask(RouteNetlinkMessage::NewLink(message), flags)
            .map(drop)
    }

    /// Removes an interface.
    pub(crate) fn delete(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.0
            .ask(RouteNetlinkMessage::DelLink(message), 0)
            .map(drop)
    }

    /// Gives an interface an address, and a route to the one at its other end.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        own: Ipv4Addr,
        peer: Ipv4Addr,
    ) -> io::Result<()> {
        self.add_addresses(index, own, peer, 32)
    }

    /// Gives an interface an address, and a route to all addresses with the same first bits.
    pub(crate) fn add_subnet(&mut self, index: u32, own: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.add_addresses(index, own, own, prefix)
    }

    fn add_addresses(
        &mut self,
        index: u32,
        own: Ipv4Addr,
        peer: Ipv4Addr,
        prefix: u8,
    ) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(own.into()),
            AddressAttribute::Address(peer.into()),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.0
            .ask(RouteNetlinkMessage::NewAddress(message), flags)
            .map(drop)
    }

    /// All routes of the host, also those to its own addresses.
    pub(crate) fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let said = self
            .0
            .ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        let routes = said.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(read_route(route)),
            _ => None,
        });
        Ok(routes.collect())
    }

    /// How the host would send to this address.
    pub(crate) fn way_to(&mut self, address: Ipv4Addr) -> io::Result<Way> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 32;
        message.header.flags = RouteFlags::FibMatch;
        let destination = RouteAttribute::Destination(RouteAddress::Inet(address));
        message.attributes.push(destination);
        let said = match self.0.ask(RouteNetlinkMessage::GetRoute(message), 0) {
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL)
                ) =>
            {
                return Ok(Way::Other);
            }
            said => said?,
        };
        let header = said.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(route.header),
            _ => None,
        });
        Ok(match header {
            Some(header) if header.kind == RouteType::Local => Way::Itself,
            Some(header) if header.destination_prefix_length == 32 => Way::Exact,
            _ => Way::Other,
        })
    }

    /// Whether the host is set to answer for this address at an interface, or has a fixed neighbour with it there.
    pub(crate) fn is_fixed(&mut self, index: u32, address: Ipv4Addr) -> io::Result<bool> {
        for flags in [NeighbourFlags::Proxy, NeighbourFlags::empty()] {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.flags = flags;
            let said = self
                .0
                .ask(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
            let found = said.into_iter().any(|message| match message {
                RouteNetlinkMessage::NewNeighbour(neighbour) => {
                    is_for(&neighbour, index, address)
                        && (neighbour.header.flags.contains(NeighbourFlags::Proxy)
                            || neighbour.header.state == NeighbourState::Permanent)
                }
                _ => false,
            });
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the host answer for an address at an interface (proxy ARP).
    pub(crate) fn add_proxy(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(proxy(index, address));
        self.0.ask(message, NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Undoes [`Host::add_proxy`].
    pub(crate) fn remove_proxy(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(proxy(index, address));
        self.0.ask(message, 0).map(drop)
    }
}

fn proxy(index: u32, address: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Proxy;
    let destination = NeighbourAddress::Inet(address);
    message.attributes = vec![NeighbourAttribute::Destination(destination)];
    message
}

fn is_for(neighbour: &NeighbourMessage, index: u32, address: Ipv4Addr) -> bool {
    let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
    neighbour.header.ifindex == index && neighbour.attributes.contains(&destination)
}

fn read_route(message: RouteMessage) -> Route {
    let mut route = Route {
        to: (
            Ipv4Addr::UNSPECIFIED,
            message.header.destination_prefix_length,
        ),
        through: Vec::new(),
    };
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => route.to.0 = address,
            RouteAttribute::Oif(index) => route.through.push(index),
            RouteAttribute::MultiPath(hops) => {
                let indices = hops.iter().map(|hop| hop.interface_index);
                route.through.extend(indices);
            }
            _ => {}
        }
    }
    route
}

fn read(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        is_up: flags.contains(LinkFlags::Up),
        is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        carrier: flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Link(peer) => link.peer = peer,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(bytes) => {
                let octets = <[u8; 6]>::try_from(bytes);
                link.mac = octets
                    .ok()
                    .and_then(|octets| MacAddr::from_octets(octets).ok());
            }
            LinkAttribute::LinkInfo(infos) => {
                let is = |kind| infos.contains(&LinkInfo::Kind(kind));
                link.is_of_a_kind = is(InfoKind::Tun) || is(InfoKind::Veth);
                link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
            }
            LinkAttribute::Stats64(stats) => link.counters = counters(&stats),
            _ => {}
        }
    }
    link
}

/// What a tap receives was sent by the VM.
fn counters(stats: &Stats64) -> Counters {
    Counters {
        received_bytes: stats.tx_bytes,
        received_packets: stats.tx_packets,
        received_dropped: stats.tx_dropped,
        sent_bytes: stats.rx_bytes,
        sent_packets: stats.rx_packets,
        sent_dropped: stats.rx_dropped,
    }
}

/// The beginning of the alias of an interface that belongs to a directory, which tells it from those of others.
pub(crate) fn mark(directory: &Path) -> String {
    let directory = directory.to_string_lossy();
    let excess = directory.len().saturating_sub(MAX_DIRECTORY);
    let cut = directory.ceil_char_boundary(excess);
    format!("umlmon {} ", directory.get(cut..).unwrap_or_default())
}

/// The process that has a tap open, as text for people, if it is known.
pub(crate) fn holder(interface: &str) -> Option<String> {
    let wanted = format!("iff:\t{interface}");
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.into_iter().find_map(|pid| {
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
        let mut texts = entries
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok());
        texts.find(|text| text.lines().any(|line| line == wanted))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!(
            "open in process {pid} ({})",
            name.trim().escape_debug()
        ))
    })
}
