//! What a guest is to be told of an interface that becomes its own: its addresses and the routes through it, as they
//! are in a namespace. Used by the monitor, as root.

use std::io;
use std::net::IpAddr;

use guest_line::{Interface, Prefix, Route};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::host::Host;

/// Scopes of addresses beyond this one are those of one link or of the host (RT_SCOPE_LINK).
const LINK: u8 = 253;

impl Host {
    /// What the interface of this index has, by this name.
    pub(crate) fn interface(&mut self, index: u32, name: &str) -> io::Result<Interface> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let said = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            routes.extend(said.into_iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message) => route(&message, index),
                _ => None,
            }));
        }
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addresses = self.ask(addresses, NLM_F_DUMP)?.into_iter();
        let addresses = addresses.filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(it) if it.header.index == index => address(&it),
            _ => None,
        });
        Ok(Interface {
            name: Some(name.to_owned()),
            addresses: addresses.collect(),
            routes,
            name_servers: Vec::new(),
        })
    }
}

/// An address that others reach.
fn address(message: &AddressMessage) -> Option<Prefix> {
    let is_far = match message.header.scope {
        AddressScope::Universe | AddressScope::Site => true,
        AddressScope::Other(scope) => scope < LINK,
        _ => false,
    };
    let (mut own, mut end, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => end = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // With version 6 there is no own one unless it differs from that of the other end.
    let own = own.or(end)?;
    // IFA_F_TEMPORARY has the same value; the guest makes such addresses itself.
    let passing = own.is_ipv6() && flags.contains(AddressFlags::Secondary);
    let fits = is_far && !passing && !flags.contains(AddressFlags::Dadfailed);
    Prefix::new(own, message.header.prefix_len).filter(|_| fits)
}

/// A route through the interface, if the guest does not have it by itself.
fn route(message: &RouteMessage, index: u32) -> Option<Route> {
    let header = &message.header;
    let usual = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
    // Routers announce these to the guest, too.
    if !usual || header.protocol == RouteProtocol::Ra {
        return None;
    }
    let anywhere: IpAddr = match header.address_family {
        AddressFamily::Inet => [0; 4].into(),
        AddressFamily::Inet6 => [0; 16].into(),
        _ => return None,
    };
    let (mut to, mut gateway, mut source, mut through) = (anywhere, None, None, None);
    let mut is_odd = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => through = Some(*index),
            RouteAttribute::MultiPath(hops)
                if hops.iter().any(|it| it.interface_index == index) =>
            {
                through = Some(index);
                is_odd = true;
            }
            RouteAttribute::Via(_) | RouteAttribute::Encap(_) => is_odd = true,
            _ => {}
        }
    }
    let to = Prefix::new(to, header.destination_prefix_length)?;
    if through != Some(index) || is_of_link(to.address) {
        return None;
    }
    if is_odd {
        tracing::warn!(
            "the guest is not told the route to {to}: it has a router of another kind, or several"
        );
        return None;
    }
    Some(Route {
        to,
        gateway,
        source,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A guest has its own addresses of the link, by its MAC address.
fn is_of_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
    }
}
