//! The networks of `nat(...)` as an administrator sees them, and the care for their servers. Used by the monitor and by
//! `umladmin`, as root.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use config::{NetworkName, Subnet, VmName};
use rustix::io::Errno;

use crate::error::Error;
use crate::host::Host;
use crate::member::Entry;
use crate::nat::{network_error, own_bridge, server, tear_down};
use crate::records::{Records, members};
use crate::undo::clean;

pub use crate::nat::missing;

/// What is known of a network, for people.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Its bridge, if that is there.
    pub bridge: Option<String>,
    /// Its addresses.
    pub subnet: Subnet,
    /// The process that serves addresses and names, if it runs.
    pub server: Option<u32>,
    /// The VMs that run, and their addresses.
    pub vms: Vec<(String, Ipv4Addr)>,
}

/// The networks that were not deleted, in the order of their names.
///
/// # Errors
/// [`Error::Files`], [`Error::Host`], [`Error::Damaged`].
pub fn list(records: &Records) -> Result<Vec<Network>, Error> {
    let _mutex = records.mutex()?;
    let mut host = open()?;
    let all = records.read()?;
    let book = records.book();
    let mut networks = Vec::new();
    for (name, entry) in book.0 {
        let vms = members(&all.running, &name);
        let vms = vms.map(|(vm, member)| (vm.to_owned(), member.address));
        let bridge = own_bridge(&mut host, records, &name)?;
        networks.push(Network {
            bridge: bridge.map(|link| link.name),
            subnet: entry.subnet,
            server: entry
                .server
                .map(|server| server.pid)
                .filter(|pid| server::is_it(records, &name, *pid))
                .map(i32::unsigned_abs),
            vms: vms.collect(),
            name,
        });
    }
    Ok(networks)
}

/// Removes a network with all that is left of it, and forgets its addresses. It may be gone already.
///
/// # Errors
/// [`Error::InUse`] while VMs run on it; what could not be removed.
pub fn delete(records: &Records, name: &NetworkName) -> Result<(), Error> {
    let _mutex = records.mutex()?;
    let mut host = open()?;
    let mut all = records.read()?;
    clean(&mut host, records, &mut all)?;
    let vms: Vec<String> = members(&all.running, name)
        .map(|(vm, _)| vm.to_owned())
        .collect();
    if !vms.is_empty() {
        return Err(Error::InUse {
            network: name.clone(),
            vms: vms.join(", "),
        });
    }
    tear_down(&mut host, records, name)?;
    let mut book = records.book();
    book.0.remove(name);
    records.write_book(&book);
    Ok(())
}

/// Undoes what a monitor of the VM of these records has left that was killed, for the next one, if there is no run of
/// the kernel to go on with.
///
/// # Errors
/// [`Error::Files`], [`Error::Host`], [`Error::Damaged`].
pub fn clean_up(records: &Records) -> Result<(), Error> {
    let mutex = records.mutex()?;
    records.remove_drafts()?;
    match records.has_own() {
        true => clean_with(&mutex, records),
        false => Ok(()),
    }
}

/// Undoes what monitors that have ended have left.
fn clean_with(_mutex: &File, records: &Records) -> Result<(), Error> {
    let mut all = records.read()?;
    match all.left.is_empty() {
        true => Ok(()),
        false => clean(&mut open()?, records, &mut all),
    }
}

/// Forgets a VM that is gone: undoes what a killed monitor has left of it, and keeps no addresses for it.
///
/// # Errors
/// [`Error::Files`], [`Error::Host`], [`Error::Damaged`].
pub fn forget(records: &Records, vm: &VmName) -> Result<(), Error> {
    let mutex = records.mutex()?;
    clean_with(&mutex, records)?;
    let mut memories = records.memories();
    memories.forget(vm.as_str());
    records.remember(&memories);
    let mut book = records.book();
    for entry in book.0.values_mut() {
        entry.forget(vm.as_str());
    }
    if records.book() != book {
        records.write_book(&book);
    }
    Ok(())
}

/// The process that serves addresses and names in a network, as a pidfd. If it has ended, another one is started, and
/// the second value is true.
///
/// # Errors
/// Why it cannot be started.
pub fn attend(records: &Records, name: &NetworkName) -> Result<(OwnedFd, bool), Error> {
    let _mutex = records.mutex()?;
    let mut book = records.book();
    let cannot = |error| network_error(name, "start its server", error);
    let gone = || cannot(Errno::SRCH.into());
    let entry = book.0.get_mut(name).ok_or_else(gone)?;
    let open = |entry: &Entry| {
        let server = entry.server.as_ref()?;
        server::open(records, name, server.pid)
    };
    if let Some(process) = open(entry) {
        return Ok((process, false));
    }
    server::ensure(records, name, entry).map_err(cannot)?;
    let process = open(entry).ok_or_else(gone)?;
    records.write_book(&book);
    Ok((process, true))
}

fn open() -> Result<Host, Error> {
    Host::open().map_err(Error::host("open a netlink socket"))
}
