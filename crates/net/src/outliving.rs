//! Networks that outlive the monitor which has set them up: what somebody must hold of them meanwhile, and how the next
//! monitor goes on with them. Used by the monitor, as root.
//!
//! On the host nothing changes: interfaces, filters and servers stay, and what is to be undone is in the record in
//! `shared/macpool`. That is valid as long as its lock is held, so to the monitors of other VMs this one runs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::apart::Apart;
use crate::connection::Connection;
use crate::error::Error;
use crate::kernel::Driver;
use crate::netns::Netns;
use crate::records::{Records, namespace};
use crate::setup::Networks;

/// The names of what must be held: the locked record, the network of the VM, and the user namespace that it belongs to.
const LEASE: &str = "networks.lease";
const NAMESPACE: &str = "networks.namespace";
const USER: &str = "networks.user";
/// Those of the namespaces that somebody else has made, by the number of the interface.
const OF_OTHERS: [&str; 16] = [
    "networks.eth0",
    "networks.eth1",
    "networks.eth2",
    "networks.eth3",
    "networks.eth4",
    "networks.eth5",
    "networks.eth6",
    "networks.eth7",
    "networks.eth8",
    "networks.eth9",
    "networks.eth10",
    "networks.eth11",
    "networks.eth12",
    "networks.eth13",
    "networks.eth14",
    "networks.eth15",
];

/// What the next monitor must know of networks, besides their record in `shared/macpool`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connected {
    driver: Driver,
    connections: Vec<Connection>,
    /// The numbers of those whose taps are in the network of the VM.
    apart: BTreeSet<u8>,
}

fn of_other(number: u8) -> Option<&'static str> {
    OF_OTHERS.get(usize::from(number)).copied()
}

impl Networks {
    /// What the next monitor must know.
    #[must_use]
    pub fn connected(&self) -> Connected {
        let connections = self.connections.iter();
        let apart = connections.clone().filter(|it| it.apart.is_some());
        Connected {
            driver: self.driver,
            apart: apart.map(|connection| connection.number).collect(),
            connections: connections.map(Connection::recorded).collect(),
        }
    }

    /// What must be held until the next monitor comes, each with its name. None of it gives power over anything to a
    /// process that is not root. The open taps that a kernel inherits are not among them: such a tap is the kernel's
    /// until that ends.
    ///
    /// # Errors
    /// As dup(2), open(2) and flock(2).
    pub fn held(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        let apart = self.apart.as_ref();
        let lease = self.records.another(&self.lease)?;
        let all = [
            (LEASE, Some(lease.as_fd())),
            (NAMESPACE, apart.map(|apart| apart.namespace())),
            (USER, apart.and_then(|apart| apart.user())),
        ];
        let all = all.into_iter().filter_map(|(name, fd)| Some((name, fd?)));
        let of_others = self.connections.iter().filter_map(|connection| {
            let netns = connection.netns.as_ref()?;
            Some((of_other(connection.number)?, netns.namespace()))
        });
        let held = all.chain(of_others);
        let copy =
            |(name, fd): (_, std::os::fd::BorrowedFd<'_>)| Ok((name, fd.try_clone_to_owned()?));
        held.map(copy).collect()
    }

    /// Goes on with what another monitor has set up; `take` gives what was held, by its name.
    ///
    /// # Errors
    /// [`Error::Files`] if the record is not what is held; [`Error::Host`].
    pub fn adopt(
        records: &Rc<Records>,
        connected: Connected,
        mut take: impl FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Networks, Error> {
        let unlocked = || Error::host("take over the networks")(io::ErrorKind::NotFound.into());
        let lease = File::from(take(LEASE).ok_or_else(unlocked)?);
        let _mutex = records.mutex()?;
        let (record, lease) = records.take_over(&lease)?;
        if record.namespace != namespace() {
            tracing::warn!(
                "the networks of the VM were set up in another network namespace, and are not removed from there"
            );
        }
        let user = take(USER);
        let apart = take(NAMESPACE).map(|namespace| Apart::of(namespace, user));
        let apart = apart.transpose();
        let apart = apart.map_err(Error::host("look at the network of the VM"))?;
        let apart = apart.map(Rc::new);
        let mut connections = connected.connections;
        for connection in &mut connections {
            let is_apart = connected.apart.contains(&connection.number);
            connection.apart = apart.as_ref().filter(|_| is_apart).map(Rc::clone);
            let taken = record.taken.iter();
            let taken = { taken }.find(|taken| taken.number == connection.number);
            let namespace = of_other(connection.number).and_then(&mut take);
            if let (Some(taken), Some(namespace)) = (taken, namespace) {
                let netns = Netns::of(namespace, taken.index);
                let netns = netns.map_err(Error::host("look at the network of an interface"))?;
                connection.netns = Some(Rc::new(netns));
            }
        }
        Ok(Networks {
            driver: connected.driver,
            apart,
            connections,
            records: Rc::clone(records),
            record,
            lease,
        })
    }
}
