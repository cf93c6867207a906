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
use crate::records::{Records, namespace};
use crate::setup::Networks;

/// The names of what must be held: the locked record, the network of the VM, and the user namespace that it belongs to.
const LEASE: &str = "networks.lease";
const NAMESPACE: &str = "networks.namespace";
const USER: &str = "networks.user";

/// What the next monitor must know of networks, besides their record in `shared/macpool`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connected {
    driver: Driver,
    connections: Vec<Connection>,
    /// The numbers of those whose taps are in the network of the VM.
    apart: BTreeSet<u8>,
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
        let held = all.into_iter().filter_map(|(name, fd)| Some((name, fd?)));
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
