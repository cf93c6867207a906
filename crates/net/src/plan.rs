//! Planning networks: whether everything exists and is free that the configuration names, and which addresses to use.
//! Nothing is changed on the host, except that a tap of a former run of the same VM is removed.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::rc::Rc;

use config::{Forward, HwAddr, InterfaceName, MacAddr, NetworkName, Nic, Subnet};
use guest_line::{MAX_INTERFACE, interface_argument};
use rustix::io::Errno;

use crate::connection::{Connection, Eth, Owner};
use crate::error::Error;
use crate::host::{self, Host, Link, Way};
use crate::member::{Book, Entry, Mapped, Member, for_vms, host_name, router};
use crate::memory::Memories;
use crate::nat;
use crate::netns::{Netns, Taken};
use crate::records::{All, Holding, Proxy, Record, Records, Thing, members, namespace};
use crate::redirect::Arrivals;
use crate::sysctl;
use crate::user;

/// The largest packets that a kernel can have, in bytes, as for a configured one (`config::Mtu`).
const MTUS: RangeInclusive<u32> = 576..=16384;

/// What is planned so far.
pub(crate) struct Planning<'a> {
    records: &'a Records,
    owner: &'a Owner<'a>,
    host: &'a mut Host,
    others: &'a All,
    macs: BTreeSet<MacAddr>,
    /// The addresses of the pool, with those that were chosen.
    pub(crate) memories: Memories<MacAddr>,
    /// The networks of `nat(...)`, with those that are new.
    pub(crate) book: Book,
    /// What the VM is to have.
    pub(crate) record: Record,
}

impl<'a> Planning<'a> {
    pub(crate) fn new(
        records: &'a Records,
        owner: &'a Owner<'a>,
        host: &'a mut Host,
        others: &'a All,
    ) -> Planning<'a> {
        Planning {
            records,
            owner,
            host,
            others,
            macs: others.macs(),
            memories: records.memories(),
            book: records.book(),
            record: Record {
                namespace: namespace(),
                ..Record::default()
            },
        }
    }

    /// What is configured as an address must not come from the pool for another interface of the VM.
    pub(crate) fn reserve(&mut self, interfaces: &[Eth<'_>]) {
        let wanted = interfaces.iter().flat_map(|eth| hardware(eth.nic));
        self.macs.extend(wanted.filter_map(|wanted| match wanted {
            Some(HwAddr::Mac(mac)) => Some(mac),
            _ => None,
        }));
    }

    pub(crate) fn plan(&mut self, interface: &Eth<'_>) -> Result<Option<Connection>, Error> {
        let eth = format!("eth{}", interface.number);
        let Some(mut connection) = Connection::configured(interface) else {
            return Ok(None);
        };
        let [proxy, guest] = hardware(interface.nic);
        if let Some(forwards) = &connection.forwards {
            user::check_program(&eth)?;
            for forward in forwards {
                self.hold(&eth, "forward", Thing::Port(user::port(forward)))?;
                user::check_port(&eth, forward)?;
            }
            connection.guest_mac = self.mac(&eth, "guest", guest)?;
            return Ok(Some(connection));
        }
        if let Nic::Netns {
            path,
            interface: of,
        } = interface.nic
        {
            self.plan_netns(interface, &mut connection, path, of)?;
            return Ok(Some(connection));
        }
        if let Nic::Nat {
            network, forwards, ..
        } = interface.nic
        {
            self.plan_nat(interface, &mut connection, network, forwards)?;
            return Ok(Some(connection));
        }
        self.plan_interface(&eth, interface.number, &connection.proxy_if)?;
        if let Some(bridge) = &connection.bridge_if {
            self.check_bridge(&eth, bridge)?;
        }
        if let Some((own, guest)) = connection.addresses {
            self.hold(&eth, "proxy_addr", Thing::Address(own))?;
            self.hold(&eth, "guest_addr", Thing::Address(guest))?;
            self.check_address(&eth, "proxy_addr", own)?;
            self.check_address(&eth, "guest_addr", guest)?;
            if let Some(host_if) = &connection.host_if {
                self.plan_proxy(&eth, host_if, guest)?;
            }
        }
        connection.proxy_mac = self.mac(&eth, "proxy", proxy)?;
        connection.guest_mac = self.mac(&eth, "guest", guest)?;
        Ok(Some(connection))
    }

    /// The interface on the host.
    fn plan_interface(&mut self, eth: &str, number: u8, name: &InterfaceName) -> Result<(), Error> {
        self.hold(eth, "proxy_if", Thing::Interface(name.to_string()))?;
        self.check_name(eth, name)?;
        let tap = (name.to_string(), alias(self.owner, number));
        self.record.taps.push(tap);
        Ok(())
    }

    /// An interface of a namespace that somebody else has made.
    fn plan_netns(
        &mut self,
        interface: &Eth<'_>,
        connection: &mut Connection,
        path: &Path,
        name: &InterfaceName,
    ) -> Result<(), Error> {
        let number = interface.number;
        let eth = format!("eth{number}");
        let refuse = |problem: String| Error::Netns {
            eth: eth.clone(),
            path: path.to_owned(),
            problem,
        };
        let failed = |error: io::Error| refuse(format!("cannot be examined: {error}"));
        let namespace = interface.namespace.ok_or(io::ErrorKind::NotFound.into());
        let namespace = namespace.and_then(|namespace| namespace.try_clone_to_owned());
        let found = Netns::find(namespace.map_err(failed)?, name.as_str()).map_err(failed)?;
        let advice = "give one that exists there (nsenter --net=FILE ip link)";
        let Some((netns, link)) = found else {
            return Err(refuse(format!(
                "the network namespace has no interface {name}; {advice}"
            )));
        };
        let network = netns.number().map_err(failed)?;
        if network == self.record.namespace {
            let why = "this is the network of the host; give the namespace of a container, or use bridged(...)";
            return Err(refuse(why.to_owned()));
        }
        let taken = Taken {
            number,
            path: path.to_owned(),
            network,
            index: link.index,
            name: name.to_string(),
        };
        self.hold(&eth, "if", taken.thing())?;
        let tap = format!("uml{}", link.index);
        check_netns(&netns, &link, &tap, &alias_of(self.owner)).map_err(refuse)?;
        let guest = netns
            .links()
            .borrow_mut()
            .interface(link.index, name.as_str());
        let guest = guest.map_err(failed)?;
        if interface_argument(number, &guest).len() > MAX_INTERFACE {
            let why = format!(
                "{name} has more addresses and routes than the guest can be told; remove some"
            );
            return Err(refuse(why));
        }
        if !link.is_up {
            tracing::warn!("{eth}: the interface {name} in {} is down", path.display());
        }
        self.macs.extend(link.mac);
        self.record.taken.push(taken);
        connection.proxy_if = tap.parse().map_err(|error| refuse(format!("{error}")))?;
        connection.guest_mac = link.mac;
        connection.mtu = Some(link.mtu);
        connection.guest_addr = guest.addresses.first().map(|own| own.address);
        connection.guest = Some(guest);
        connection.netns = Some(Rc::new(netns));
        Ok(())
    }

    /// A place in a network of `nat(...)`, which may have to be made.
    fn plan_nat(
        &mut self,
        interface: &Eth<'_>,
        connection: &mut Connection,
        network: &NetworkName,
        forwards: &[Forward],
    ) -> Result<(), Error> {
        let number = interface.number;
        let eth = format!("eth{number}");
        let [_, hwaddr] = hardware(interface.nic);
        nat::check_programs(&eth)?;
        for forward in forwards {
            self.hold(&eth, "forward", Thing::Port(user::port(forward)))?;
            user::check_free(&eth, forward)?;
        }
        let subnet = nat::subnet(
            self.host,
            self.records,
            network,
            self.owner.nat_pool,
            self.others,
        )?;
        let mac = self.mac(&eth, "guest", hwaddr)?;
        let address = self.address(&eth, network, subnet)?;
        let host_name = host_name(self.records.vm());
        self.hold(&eth, "name", Thing::Name(format!("{host_name}.{network}")))?;
        let port = format!("{network}-{}", address.octets()[3]);
        let (port, bridge) = match (port.parse(), network.bridge().parse()) {
            (Ok(port), Ok(bridge)) => (port, bridge),
            (Err(error), _) | (_, Err(error)) => {
                return Err(Error::Kernel(format!("{eth}: {error}")));
            }
        };
        self.plan_interface(&eth, number, &port)?;
        nat::own_bridge(self.host, self.records, network)?;
        let outside = nat::outside(self.host);
        let outside = outside.map_err(Error::host(format!("{eth}: list the routes")))?;
        for interface in outside {
            self.plan_forwarding(&eth, &interface)?;
        }
        self.record.members.extend(mac.map(|mac| Member {
            network: network.clone(),
            subnet,
            address,
            mac,
            host_name,
            port: port.to_string(),
            forwards: forwards.iter().map(Mapped::from).collect(),
        }));
        connection.guest_mac = mac;
        connection.proxy_if = port;
        connection.bridge_if = Some(bridge);
        connection.addresses = Some((router(subnet), address));
        Ok(())
    }

    /// An address in a network: that of the last time, if it is free.
    fn address(
        &mut self,
        eth: &str,
        network: &NetworkName,
        subnet: Subnet,
    ) -> Result<Ipv4Addr, Error> {
        let others = members(&self.others.running, network);
        let taken = others.map(|(_, member)| member.address).collect();
        let entry = self.book.0.entry(network.clone());
        let entry = entry.or_insert_with(|| Entry::new(subnet));
        entry.subnet = subnet;
        let contains = |address| subnet.overlaps(address, 32);
        let key = self.records.vm();
        let chosen = entry
            .addresses
            .choose(for_vms(subnet), contains, &taken, key);
        let address = chosen.ok_or_else(|| Error::NetworkFull {
            eth: eth.to_owned(),
            network: network.clone(),
        })?;
        self.hold(eth, "address", Thing::Address(address))?;
        Ok(address)
    }

    fn check_bridge(&mut self, eth: &str, bridge: &InterfaceName) -> Result<(), Error> {
        let advice = "make it first (ip link add br0 type bridge; ip link set br0 up)";
        let link = self.existing(eth, "bridge_if", bridge, advice)?;
        if !link.is_bridge {
            let (eth, name) = (eth.to_owned(), bridge.clone());
            return Err(Error::NoBridge { eth, name });
        }
        if !link.is_up {
            tracing::warn!("{eth}: the bridge {bridge} is down (ip link set {bridge} up)");
        }
        Ok(())
    }

    /// Notes that the VM has a thing, which no other VM may have.
    fn hold(&mut self, eth: &str, role: &str, thing: Thing) -> Result<(), Error> {
        let others = self.others.running.iter();
        let theirs = others.map(|(vm, record)| (vm.as_str(), record));
        let everybody = theirs.chain([(self.records.vm(), &self.record)]);
        let found = { everybody }.find_map(|(vm, record)| Some((vm, record.has(&thing)?)));
        if let Some((vm, holding)) = found {
            return Err(Error::OtherVm {
                eth: eth.to_owned(),
                what: thing.to_string(),
                vm: vm.to_owned(),
                role: holding.role.clone(),
            });
        }
        let role = format!("{role} of {eth}");
        self.record.holdings.push(Holding { thing, role });
        Ok(())
    }

    fn existing(
        &mut self,
        eth: &str,
        param: &'static str,
        name: &InterfaceName,
        advice: &'static str,
    ) -> Result<Link, Error> {
        let link = self.host.link(name.as_str());
        let link = link.map_err(Error::host(format!("{eth}: look at {name}")))?;
        link.ok_or_else(|| Error::Missing {
            eth: eth.to_owned(),
            param,
            name: name.clone(),
            advice,
        })
    }

    /// The name must be free. A tap of ours was left by a killed monitor of this VM whose record is gone.
    fn check_name(&mut self, eth: &str, name: &InterfaceName) -> Result<(), Error> {
        let look = || format!("{eth}: look at {name}");
        let Some(link) = self.host.link(name.as_str()).map_err(Error::host(look()))? else {
            return Ok(());
        };
        if link.is_of_a_kind && link.alias.starts_with(&alias_of(self.owner)) {
            let what = format!("{eth}: remove {name}, which a former run has left");
            return match self.host.delete(link.index) {
                // It may disappear at any time, with the network of its VM.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(()),
                deleted => deleted.map_err(Error::host(what)),
            };
        }
        let made = match link.alias.as_str() {
            "" => "not made by UMLMON".to_owned(),
            alias => format!("not made by UMLMON ({})", alias.escape_debug()),
        };
        let holder = host::holder(name.as_str()).unwrap_or(made);
        let (eth, name) = (eth.to_owned(), name.clone());
        Err(Error::Foreign { eth, name, holder })
    }

    fn check_address(
        &mut self,
        eth: &str,
        param: &'static str,
        address: Ipv4Addr,
    ) -> Result<(), Error> {
        let way = self.host.way_to(address);
        let what = match way.map_err(Error::host(format!("{eth}: find the route to {address}")))? {
            Way::Itself => format!("the host itself has the address {address}"),
            Way::Exact => format!("the host already has a route to the address {address}"),
            Way::Other => return Ok(()),
        };
        let eth = eth.to_owned();
        Err(Error::AddressInUse { eth, param, what })
    }

    /// Plans to answer for the VM's address at `host_if`, and to forward what arrives there.
    fn plan_proxy(
        &mut self,
        eth: &str,
        host_if: &InterfaceName,
        guest: Ipv4Addr,
    ) -> Result<(), Error> {
        let advice = "correct it, or start the VM when it is there";
        let link = self.existing(eth, "host_if", host_if, advice)?;
        let fixed = self.host.is_fixed(link.index, guest);
        if fixed.map_err(Error::host(format!("{eth}: list the neighbours")))? {
            return Err(Error::AddressInUse {
                eth: eth.to_owned(),
                param: "guest_addr",
                what: format!(
                    "{host_if} already has an entry for {guest} (ip neigh show proxy; ip neigh del proxy {guest} dev \
                     {host_if})"
                ),
            });
        }
        self.record.proxies.push(Proxy {
            host_if: host_if.to_string(),
            address: guest,
        });
        self.plan_forwarding(eth, host_if.as_str())
    }

    /// Plans to forward what arrives at an interface, if the host does not do that anyway.
    fn plan_forwarding(&mut self, eth: &str, interface: &str) -> Result<(), Error> {
        let host_if = interface.to_owned();
        let forwards = sysctl::forwards(&host_if);
        let forwards = forwards.map_err(Error::host(format!("{eth}: look at {host_if}")))?;
        let mut running = self.others.running.iter();
        let for_vms = running.any(|(_, record)| record.forwarding.contains(&host_if));
        if (!forwards || for_vms) && !self.record.forwarding.contains(&host_if) {
            self.record.forwarding.push(host_if);
        }
        Ok(())
    }

    fn mac(
        &mut self,
        eth: &str,
        end: &str,
        wanted: Option<HwAddr>,
    ) -> Result<Option<MacAddr>, Error> {
        let mac = match wanted {
            None => return Ok(None),
            Some(HwAddr::Mac(mac)) => mac,
            Some(HwAddr::Pool) => {
                let key = format!("{} {eth} {end}", self.records.vm());
                let pool = self.owner.pool;
                let contains = |mac| pool.contains(mac);
                let addresses = pool.addresses();
                let chosen = self.memories.choose(addresses, contains, &self.macs, &key);
                chosen.ok_or_else(|| Error::PoolExhausted {
                    eth: eth.to_owned(),
                    number: pool.number,
                    first: pool.first,
                })?
            }
        };
        self.hold(eth, &format!("{end}_hwaddr"), Thing::Mac(mac))?;
        self.macs.insert(mac);
        Ok(Some(mac))
    }
}

/// The configured hardware addresses of the host's and of the VM's end.
fn hardware(nic: &Nic) -> [Option<HwAddr>; 2] {
    match nic {
        Nic::HostToHost {
            proxy_hwaddr,
            guest_hwaddr,
            ..
        }
        | Nic::Bridged {
            proxy_hwaddr,
            guest_hwaddr,
            ..
        } => [*proxy_hwaddr, *guest_hwaddr],
        Nic::Nat { guest_hwaddr, .. } => [None, Some(guest_hwaddr.unwrap_or(HwAddr::Pool))],
        Nic::User { guest_hwaddr, .. } => [None, *guest_hwaddr],
        // It has the address of the interface.
        Nic::Netns { .. } | Nic::Raw(_) => [None, None],
    }
}

/// Whether the interface of a namespace can become that of a VM, by a tap of this name; else why not. What a killed
/// monitor has left whose record is gone is undone: `mark` is on its taps.
fn check_netns(netns: &Netns, link: &Link, tap: &str, mark: &str) -> Result<(), String> {
    let name = &link.name;
    let failed = |error: io::Error| format!("{name} cannot be examined: {error}");
    if !link.is_ethernet || link.mac.is_none() {
        return Err(format!(
            "{name} is not an interface of an Ethernet with an address of its own; use another one"
        ));
    }
    if !MTUS.contains(&link.mtu) {
        return Err(format!(
            "{name} has an mtu of {}; set one from {} to {} (ip link set {name} mtu 1500)",
            link.mtu,
            MTUS.start(),
            MTUS.end()
        ));
    }
    let mut links = netns.links().borrow_mut();
    match links.link(tap).map_err(failed)? {
        Some(left) if left.is_of_a_kind && left.alias.starts_with(mark) => {
            links.delete(left.index).map_err(failed)?;
        }
        Some(_) => {
            return Err(format!(
                "there is already an interface {tap}, which the VM needs for {name}; end the VM that has it, or remove \
                 it (ip link delete {tap})"
            ));
        }
        None => {}
    }
    match links.arrivals(link.index).map_err(failed)? {
        Arrivals::Received => Ok(()),
        // The VM that it was redirected to is gone.
        Arrivals::Redirected { to: None } => links.receive(link.index).map_err(failed),
        Arrivals::Redirected { to: Some(_) } | Arrivals::OfOthers => Err(format!(
            "{name} has a queueing discipline of its own for what arrives (tc qdisc show dev {name}); remove it, or \
             use another interface"
        )),
    }
}

/// The mark of this VM's taps: its directory, of which there is one on the host.
fn alias_of(owner: &Owner<'_>) -> String {
    host::mark(owner.vm_dir)
}

pub(crate) fn alias(owner: &Owner<'_>, number: u8) -> String {
    format!("{}eth{number}", alias_of(owner))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::MacPool;

    use super::*;
    use crate::kernel::Driver;

    #[test]
    fn an_alias_fits_and_tells_the_vm() {
        let of = |vm_dir: &str| {
            let owner = Owner {
                vm_dir: Path::new(vm_dir),
                uid: 1,
                gid: 1,
                pool: MacPool::default(),
                nat_pool: Subnet::default(),
                driver: Driver::Vec,
                on_host: false,
            };
            alias(&owner, 15)
        };
        assert_eq!(
            of("/var/lib/umlmon/vm1"),
            "umlmon /var/lib/umlmon/vm1 eth15"
        );
        let long = of(&format!("/{}/vm1", "\u{e9}".repeat(500)));
        assert!(long.len() <= 255 && long.ends_with("/vm1 eth15"), "{long}");
    }
}
