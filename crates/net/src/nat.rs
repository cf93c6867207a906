//! Networks of `nat(...)`: a bridge of the host for VMs, with a server for addresses and names, and masquerade for what
//! leaves it. Used by the monitor and by `umladmin`, as root.
//!
//! ```text
//! VMs == ports -- bridge, router address == the host's routes, masquerade -- the outside
//!                    |
//!                 dnsmasq
//! ```
//!
//! A network consists of what the records of the running VMs say; nothing else has to be kept. It is made with its
//! first VM, made to fit with each one that comes or goes, and removed with the last. All of that happens with the
//! mutex of the records, so it does not matter whose monitor does it, and which one was killed.

mod program;
mod rules;
pub(crate) mod server;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;

use config::{MacAddr, NetworkName, Subnet};
use rustix::io::Errno;

use crate::error::Error;
use crate::host::{self, Change, Host, Link};
use crate::member::{Entry, Known, Member, router};
use crate::records::{All, Record, Records, members};
use crate::sysctl;

/// Addresses for a network: those of the VMs that run on it, else those of the last time, else others that nothing on
/// the host overlaps with.
pub(crate) fn subnet(
    host: &mut Host,
    records: &Records,
    name: &NetworkName,
    pool: Subnet,
    others: &All,
) -> Result<Subnet, Error> {
    if let Some((_, member)) = members(&others.running, name).next() {
        return Ok(member.subnet);
    }
    let own = own_bridge(host, records, name)?.map(|link| link.index);
    let routes = host
        .routes()
        .map_err(Error::host("list the routes of the host"))?;
    let is_own = |index: &u32| Some(*index) == own;
    let is_free = |subnet: Subnet| {
        let mut others = routes
            .iter()
            .filter(|route| route.to.1 > 0 && !route.through.iter().any(is_own));
        !others.any(|route| subnet.overlaps(route.to.0, route.to.1))
    };
    let book = records.book();
    let remembered = book.0.get(name).map(|entry| entry.subnet);
    let fits = |subnet: &Subnet| pool.overlaps(subnet.address(0), subnet.prefix());
    if let Some(subnet) = remembered.filter(|it| fits(it) && is_free(*it)) {
        return Ok(subnet);
    }
    let of_another = |subnet: Subnet| {
        let mut others = book.0.iter().filter(|(other, _)| *other != name);
        others.any(|(_, entry)| entry.subnet == subnet)
    };
    let found = pool
        .parts()
        .find(|subnet| !of_another(*subnet) && is_free(*subnet));
    let found = found.ok_or_else(|| Error::NoSubnet {
        network: name.clone(),
        pool,
    })?;
    if let Some(former) = remembered {
        tracing::warn!(
            "the network {name} has the addresses {found} from now on: {former} is in use on the host, or not in nat_pool"
        );
    }
    Ok(found)
}

/// The interfaces that lead to the outside: those of the default routes.
pub(crate) fn outside(host: &mut Host) -> io::Result<Vec<String>> {
    let routes = host.routes()?;
    let default = routes.iter().filter(|route| route.to.1 == 0);
    let mut names = Vec::new();
    for index in default.flat_map(|route| &route.through) {
        let name = host.link_at(*index)?.map(|link| link.name);
        names.extend(name.filter(|name| !names.contains(name)));
    }
    Ok(names)
}

/// The mark of the bridges of an installation.
fn alias(records: &Records) -> String {
    format!("{}network", host::mark(records.directory()))
}

/// The bridge of a network, if it is there.
///
/// # Errors
/// [`Error::ForeignBridge`] if an interface of that name was not made by us.
pub(crate) fn own_bridge(
    host: &mut Host,
    records: &Records,
    name: &NetworkName,
) -> Result<Option<Link>, Error> {
    let bridge = name.bridge();
    let link = host.link(&bridge);
    let is_new = |link: &Link| link.alias.is_empty() && link.mac == first_mac(records, &bridge);
    let is_own = |link: &Link| link.is_bridge && (link.alias == alias(records) || is_new(link));
    match link.map_err(Error::host(format!("look at {bridge}")))? {
        Some(link) if !is_own(&link) => Err(Error::ForeignBridge {
            network: name.clone(),
            bridge,
        }),
        link => Ok(link),
    }
}

/// The address that a bridge has until it has its alias, by which one is known whose monitor was killed at that moment:
/// the kernel takes no alias together with a new interface.
fn first_mac(records: &Records, bridge: &str) -> Option<MacAddr> {
    let mut hasher = DefaultHasher::new();
    (alias(records), bridge).hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    // A local one.
    MacAddr::from_octets([0xfe, b'n', a, b, c, d]).ok()
}

/// Makes a network fit the VMs that run: the records of all of them.
pub(crate) fn fit(
    host: &mut Host,
    records: &Records,
    name: &NetworkName,
    running: &[(String, Record)],
) -> Result<(), Error> {
    let members: Vec<&Member> = members(running, name).map(|(_, member)| member).collect();
    match members.first() {
        Some(first) => bring_up(host, records, first.subnet, &members),
        None => tear_down(host, records, name),
    }
}

fn bring_up(
    host: &mut Host,
    records: &Records,
    subnet: Subnet,
    members: &[&Member],
) -> Result<(), Error> {
    let Some(name) = members.first().map(|member| &member.network) else {
        return Ok(());
    };
    let bridge = name.bridge();
    let there = own_bridge(host, records, name)?;
    let made = prepare(host, &bridge, there, subnet, records);
    made.map_err(|error| network_error(name, &format!("set up {bridge}"), error))?;
    if members.iter().any(|member| rules::has_loopback(member)) {
        let set = sysctl::route_loopback(&bridge);
        set.map_err(|error| network_error(name, "forward ports of 127.0.0.1", error))?;
    }
    let filtered = rules::apply(&rules::text(name, subnet, members));
    filtered.map_err(|error| network_error(name, "set its filters", error))?;
    let mut book = records.book();
    let entry = book.0.entry(name.clone());
    let entry = entry.or_insert_with(|| Entry::new(subnet));
    entry.subnet = subnet;
    for member in members {
        entry.note(Known {
            host_name: member.host_name.clone(),
            address: member.address,
            mac: member.mac,
        });
    }
    let started = server::ensure(records, name, entry);
    records.write_book(&book);
    started.map_err(|error| network_error(name, "start its server", error))
}

/// The bridge, with the address of the router.
fn prepare(
    host: &mut Host,
    bridge: &str,
    there: Option<Link>,
    subnet: Subnet,
    records: &Records,
) -> io::Result<()> {
    let link = match there {
        Some(link) => link,
        None => {
            host.add_bridge(bridge, first_mac(records, bridge))?;
            host.link(bridge)?.ok_or(io::ErrorKind::NotFound)?
        }
    };
    let change = Change {
        alias: &alias(records),
        mac: router_mac(subnet),
        ..Change::default()
    };
    // No address that it takes by itself.
    sysctl::without_ipv6(bridge)?;
    host.change(link.index, &change)?;
    match host.add_subnet(link.index, router(subnet), subnet.prefix()) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {}
        added => added?,
    }
    sysctl::set_forwarding(bridge, true)
}

/// The bridge keeps its address whatever its ports are: guests remember it.
fn router_mac(subnet: Subnet) -> Option<MacAddr> {
    let [a, b, c, d] = router(subnet).octets();
    // A local one.
    MacAddr::from_octets([0xfe, b'u', a, b, c, d]).ok()
}

/// Removes everything of a network but the memory of it.
pub(crate) fn tear_down(
    host: &mut Host,
    records: &Records,
    name: &NetworkName,
) -> Result<(), Error> {
    server::end(records, name);
    let mut book = records.book();
    if let Some(entry) = book.0.get_mut(name) {
        entry.server = None;
        records.write_book(&book);
    }
    if let Some(link) = own_bridge(host, records, name)? {
        let deleted = host.delete(link.index);
        deleted.map_err(|error| network_error(name, "remove its bridge", error))?;
    }
    let removed = rules::apply(&rules::none(name));
    removed.map_err(|error| network_error(name, "remove its filters", error))
}

pub(crate) fn network_error(name: &NetworkName, what: &str, error: io::Error) -> Error {
    Error::host(format!("the network {name}: cannot {what}"))(error)
}

/// Whether the programs are there that networks need.
pub(crate) fn check_programs(eth: &str) -> Result<(), Error> {
    match missing() {
        None => Ok(()),
        Some((program, package)) => Err(Error::NoTool {
            eth: eth.to_owned(),
            program,
            package,
        }),
    }
}

/// A program that networks need and that is missing, with the package of Debian that has it.
#[must_use]
pub fn missing() -> Option<(&'static str, &'static str)> {
    let needed = [
        (rules::PROGRAM, "nftables"),
        (server::PROGRAM, "dnsmasq-base"),
    ];
    needed
        .into_iter()
        .find(|(program, _)| !Path::new(program).exists())
}
