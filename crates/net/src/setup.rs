//! Setting networks up: everything is checked, then everything is done. By the monitor, as root.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use config::{InterfaceName, MacAddr, NetworkName};
use rustix::io::Errno;
use sys::open_tap;

use crate::apart::Apart;
use crate::connection::{Connection, Eth, Owner};
use crate::error::Error;
use crate::host::{self, Change, Host};
use crate::kernel::Driver;
use crate::nat;
use crate::plan::{Planning, alias};
use crate::records::{All, Record, Records};
use crate::sysctl;
use crate::undo::{clean, undo};
use crate::user::{self, UserEnd};

/// The first octet of a bridge port's address, if none is configured: a local one that is higher than those of other
/// ports, of which the bridge takes the lowest.
const HIGH: u8 = 0xfe;

/// The connections of a VM. Dropping it undoes them.
#[derive(Debug)]
pub struct Networks {
    pub(crate) driver: Driver,
    /// The network of the kernel, if it attaches to its taps there.
    pub(crate) apart: Option<Rc<Apart>>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) records: Rc<Records>,
    pub(crate) record: Record,
    /// Locked as long as the record is valid.
    pub(crate) lease: File,
}

impl Networks {
    /// Connects the VM with the host. If none of its `interfaces` is to be connected, nothing is checked or left
    /// behind.
    ///
    /// # Errors
    /// The first fault that was found, before anything is changed; or what could not be done, and then all is undone.
    pub fn set_up(
        records: &Rc<Records>,
        owner: &Owner<'_>,
        interfaces: &[Eth<'_>],
    ) -> Result<Option<Networks>, Error> {
        if interfaces
            .iter()
            .all(|eth| Connection::configured(eth).is_none())
        {
            return Ok(None);
        }
        let _mutex = records.mutex()?;
        let mut host = Host::open().map_err(Error::host("open a netlink socket"))?;
        let mut all = records.read()?;
        clean(&mut host, records, &mut all)?;

        // Validate everything ...
        let mut planning = Planning::new(records, owner, &mut host, &all);
        planning.reserve(interfaces);
        let mut connections = Vec::new();
        for eth in interfaces {
            connections.extend(planning.plan(eth)?);
        }
        let (record, memories, book) = (planning.record, planning.memories, planning.book);

        // ... then do everything. From the first line on, the guard undoes it.
        let apart = separate(owner, &mut connections)?;
        let mut networks = Networks {
            driver: owner.driver,
            apart,
            connections,
            lease: records.write(&record)?,
            records: Rc::clone(records),
            record,
        };
        records.remember(&memories);
        records.write_book(&book);
        let made = join_networks(&mut host, records, &networks.record, &all).and_then(|()| {
            let mut connections = networks.connections.iter_mut();
            connections.try_for_each(|connection| connect(&mut host, owner, connection))
        });
        match made {
            Ok(()) => Ok(Some(networks)),
            Err(error) => {
                networks.release(&mut host, &all);
                Err(error)
            }
        }
    }

    /// The driver by which the kernel is connected.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// The network namespace of the kernel, if it attaches to its taps in one of its own.
    pub fn own(&self) -> Option<BorrowedFd<'_>> {
        let apart = self.apart.as_ref().filter(|_| self.driver.attaches());
        apart.map(|apart| apart.namespace())
    }

    /// The end of the process that makes connections of the VM, if there is to be one.
    pub fn user_end(&self) -> Option<UserEnd<'_>> {
        let apart = self.apart.as_ref()?;
        let mut connections = self.connections.iter();
        connections.find_map(|connection| {
            Some(UserEnd {
                user: apart.user()?,
                network: apart.namespace(),
                tap: user::TAP,
                mtu: connection.mtu,
                forwards: connection.forwards.as_ref()?,
            })
        })
    }

    /// The connections, in the order of the interfaces.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// The networks of `nat(...)` that the VM is on.
    pub fn nat_networks(&self) -> impl Iterator<Item = &NetworkName> {
        self.record.members.iter().map(|member| &member.network)
    }

    /// Whether the next kernel can be connected with them, too: an administrator may have removed an interface. A tap
    /// that the kernel inherits has ended with it, unless this monitor has made it.
    pub fn are_intact(&self) -> bool {
        let mut connections = self.connections.iter();
        if !self.driver.attaches() && connections.any(|connection| connection.queue.is_none()) {
            return false;
        }
        let Ok(mut host) = Host::open() else {
            return false;
        };
        let mut of_others = self.connections.iter();
        let of_others = of_others.all(|connection| {
            let netns = connection.netns.as_ref();
            netns.is_none_or(|netns| netns.is_connected(connection.proxy_if.as_str()))
        });
        of_others
            && self.record.taps.iter().all(|(name, alias)| {
                let link = host.link(name).ok().flatten();
                link.is_some_and(|link| link.is_up && link.alias == *alias)
            })
    }

    /// Undoes everything; with the mutex.
    fn release(&mut self, host: &mut Host, all: &All) {
        for connection in &mut self.connections {
            connection.queue = None;
            // By its path it may be gone, though a process is in it.
            let given = connection.netns.as_ref().map(|netns| netns.give_back());
            if let Some(Err(error)) = given {
                let name = &connection.proxy_if;
                tracing::warn!("cannot disconnect the interface of {name}: {error}");
            }
        }
        let record = std::mem::take(&mut self.record);
        undo(host, &self.records, &record, &all.running);
        if let Err(error) = self.records.remove_own() {
            // It is not locked any more, so it is not valid.
            tracing::warn!("{error}");
        }
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        if self.record == Record::default() {
            return;
        }
        // Whatever the others do, the interfaces of a VM end with it.
        let mutex = self.records.mutex();
        let all = self.records.read();
        if let Some(error) = mutex.as_ref().err().or(all.as_ref().err()) {
            tracing::warn!("{error}");
        }
        if all.is_err() {
            // Whoever else is on its networks must not lose them.
            self.record.members.clear();
        }
        match Host::open() {
            Ok(mut host) => self.release(&mut host, &all.unwrap_or_default()),
            Err(error) => tracing::warn!("cannot remove the interfaces of the VM: {error}"),
        }
    }
}

/// Makes the network of the kernel, if it is to have one, and notes in the connections which taps are there.
fn separate(owner: &Owner<'_>, connections: &mut [Connection]) -> Result<Option<Rc<Apart>>, Error> {
    let has_process = connections.iter().any(|it| it.forwards.is_some());
    let attaches = owner.driver.attaches() && !owner.on_host;
    let (made, what) = match (has_process, attaches) {
        (true, _) => (
            Apart::with_user(owner.uid, owner.gid),
            "make a network in a user namespace, which user(...) needs (see max_user_namespaces in /proc/sys/user)",
        ),
        (false, true) => (Apart::new(), "make a network for the VM"),
        (false, false) => return Ok(None),
    };
    let apart = Rc::new(made.map_err(Error::host(what))?);
    for connection in connections {
        if attaches || connection.forwards.is_some() {
            connection.apart = Some(Rc::clone(&apart));
        }
    }
    Ok(Some(apart))
}

/// Makes the networks that the VM is to be on fit it, too: their filters are there before its interfaces.
fn join_networks(
    host: &mut Host,
    records: &Records,
    record: &Record,
    others: &All,
) -> Result<(), Error> {
    if record.members.is_empty() {
        return Ok(());
    }
    let mut running = others.running.clone();
    running.push((records.vm().to_owned(), record.clone()));
    for member in &record.members {
        nat::fit(host, records, &member.network, &running)?;
    }
    for interface in &record.forwarding {
        let on = sysctl::set_forwarding(interface, true);
        on.map_err(Error::host(format!("cannot forward at {interface}")))?;
    }
    Ok(())
}

/// Makes a connection that was planned.
fn connect(host: &mut Host, owner: &Owner<'_>, connection: &mut Connection) -> Result<(), Error> {
    let name = connection.proxy_if.clone();
    let name = name.as_str();
    let number = connection.number;
    let cannot = |what: &str| Error::host(format!("eth{number}: cannot {what}"));
    let step = format!("set up the interface {name}");
    if connection.forwards.is_some() {
        return connect_process(owner, connection).map_err(cannot(&step));
    }
    if let Some(netns) = &connection.netns {
        let change = Change {
            alias: &alias(owner, number),
            mtu: connection.mtu,
            ..Change::default()
        };
        let queue = netns.connect(name, owner.uid, &change);
        let step = "connect the interface of its network namespace (the host's kernel needs tun, sch_ingress, cls_u32 \
                    and act_mirred for that)";
        connection.queue = Some(queue.map_err(cannot(step))?);
        return Ok(());
    }
    let link = make(host, owner, connection)?;
    let mac = match (connection.proxy_mac, &connection.bridge_if) {
        (None, Some(_)) => link.mac.and_then(high),
        (mac, _) => mac,
    };
    let bridge = match &connection.bridge_if {
        Some(bridge) => host.link(bridge.as_str()).map_err(cannot(&step))?,
        None => None,
    };
    let change = Change {
        alias: &alias(owner, connection.number),
        mac,
        mtu: connection.mtu,
        bridge: bridge.map(|bridge| bridge.index),
    };
    sysctl::without_ipv6(name).map_err(cannot(&step))?;
    host.change(link.index, &change).map_err(cannot(&step))?;
    if let Some((own, guest)) = connection.addresses.filter(|_| !connection.is_nat) {
        let step = format!("give {name} the address {own}");
        host.add_address(link.index, own, guest)
            .map_err(cannot(&step))?;
        if let Some(host_if) = &connection.host_if {
            announce(host, name, host_if, guest)
                .map_err(cannot(&format!("announce {guest} at {host_if}")))?;
        }
    }
    connection.proxy_mac = mac.or(link.mac);
    Ok(())
}

/// Makes the taps of the kernel and of the process that makes its connections.
fn connect_process(owner: &Owner<'_>, connection: &mut Connection) -> io::Result<()> {
    let Some(apart) = &connection.apart else {
        return Ok(());
    };
    let name = connection.proxy_if.as_str();
    match owner.driver.attaches() {
        true => apart.add_tap(name, owner.uid)?,
        false => connection.queue = Some(apart.open_tap(name, owner.uid)?),
    }
    apart.join_process(name, connection.number, connection.mtu)
}

/// Makes the interface on the host, and the tap.
fn make(
    host: &mut Host,
    owner: &Owner<'_>,
    connection: &mut Connection,
) -> Result<host::Link, Error> {
    let (name, number) = (connection.proxy_if.clone(), connection.number);
    let name = name.as_str();
    let cannot = |what: String| Error::host(format!("eth{number}: cannot {what}"));
    let no_tap = |error: io::Error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Error::NoTun(error),
        _ => cannot(format!("make the interface {name}"))(error),
    };
    if let Some(apart) = &connection.apart {
        apart.add_tap(name, owner.uid).map_err(no_tap)?;
        let joined = apart.join(host, name, number, connection.mtu);
        return joined.map_err(cannot(format!(
            "join {name} to the network of the VM (the host's kernel needs veth and bridge for that; with \
             transport = fd it does not)"
        )));
    }
    let queue = open_tap(name).map_err(no_tap)?;
    queue.owned_by(owner.uid).map_err(no_tap)?;
    match owner.driver.attaches() {
        true => queue.keep().map_err(no_tap)?,
        false => connection.queue = Some(queue.into()),
    }
    let link = host.link(name).map_err(cannot(format!("look at {name}")))?;
    Ok(link.unwrap_or_default())
}

/// Makes the host answer for the VM at an interface, and forward packets for it.
fn announce(
    host: &mut Host,
    proxy_if: &str,
    host_if: &InterfaceName,
    guest: Ipv4Addr,
) -> io::Result<()> {
    let link = host.link(host_if.as_str())?;
    let link = link.ok_or(io::ErrorKind::NotFound)?;
    sysctl::set_forwarding(proxy_if, true)?;
    if !sysctl::forwards(host_if.as_str())? {
        sysctl::set_forwarding(host_if.as_str(), true)?;
    }
    host.add_proxy(link.index, guest)
}

/// The address with a first octet that bridges do not choose.
fn high(mac: MacAddr) -> Option<MacAddr> {
    let [_, rest @ ..] = mac.octets();
    let [b, c, d, e, f] = rest;
    MacAddr::from_octets([HIGH, b, c, d, e, f]).ok()
}
