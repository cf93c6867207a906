//! Undoing what is set up according to a record: at the end of a VM, and for monitors that could not do it.

use std::io;

use rustix::io::Errno;

use crate::error::Error;
use crate::host::Host;
use crate::nat;
use crate::records::{All, Record, Records, namespace};
use crate::sysctl;

/// Undoes everything in the record that still exists. What cannot be undone is logged, and the rest is undone
/// nevertheless. `others` are the records of the VMs that run.
pub(crate) fn undo(
    host: &mut Host,
    records: &Records,
    record: &Record,
    others: &[(String, Record)],
) {
    for (name, alias) in &record.taps {
        log(
            &format!("remove the interface {name}"),
            remove_tap(host, name, alias),
        );
    }
    for taken in &record.taken {
        let thing = taken.thing();
        let is_in_use = others.iter().any(|(_, other)| other.has(&thing).is_some());
        if !is_in_use {
            let what = format!("give {thing} back ({})", taken.path.display());
            log(&what, taken.give_back());
        }
    }
    if record.namespace != namespace() {
        return;
    }
    for proxy in &record.proxies {
        let what = format!("remove {} at {}", proxy.address, proxy.host_if);
        let removed = match host.link(&proxy.host_if) {
            Ok(Some(link)) => host.remove_proxy(link.index, proxy.address),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        log(&what, removed);
    }
    for interface in &record.forwarding {
        let needed = others
            .iter()
            .any(|(_, other)| other.forwarding.contains(interface));
        if !needed {
            let what = format!("switch forwarding off on {interface}");
            log(&what, sysctl::set_forwarding(interface, false));
        }
    }
    for member in &record.members {
        if let Err(error) = nat::fit(host, records, &member.network, others) {
            tracing::warn!("{error}");
        }
    }
}

/// Removes a tap, if it is the one that was made: no other interface has the alias.
fn remove_tap(host: &mut Host, name: &str, alias: &str) -> io::Result<()> {
    match host.link(name)? {
        Some(link) if link.is_of_a_kind && link.alias == alias => host.delete(link.index),
        _ => Ok(()),
    }
}

/// What is gone already needs no undoing.
fn log(what: &str, result: io::Result<()>) {
    match result {
        Err(error)
            if !matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::NODEV)
            ) =>
        {
            tracing::warn!("cannot {what}: {error}");
        }
        _ => {}
    }
}

/// Undoes what monitors that have ended have left. To be called with the mutex.
pub(crate) fn clean(host: &mut Host, records: &Records, all: &mut All) -> Result<(), Error> {
    for (name, record) in std::mem::take(&mut all.left) {
        undo(host, records, &record, &all.running);
        records.remove(&name)?;
    }
    Ok(())
}
