//! The network namespace of a VM, in which its kernel attaches to its taps, and how that is joined to the network of
//! the host. Made by the monitor, as root.
//!
//! ```text
//! kernel == tap -- bridge -- veth | veth (proxy_if) -- the host: addresses, a bridge, filters
//!           the VM's namespace    | the host's
//! ```
//!
//! The bridge works as a cable: it has two ports, learns no addresses, and also forwards frames that bridges normally
//! do not forward. When the namespace ends, its end of the pair ends, and with it the one on the host.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use sys::open_tap;

use crate::host::{Change, Host, Link};
use crate::sysctl;

/// The namespace.
#[derive(Debug)]
pub(crate) struct Apart {
    namespace: OwnedFd,
    /// The interfaces in it.
    links: RefCell<Host>,
}

impl Apart {
    /// Makes it; there is nothing in it.
    pub(crate) fn new() -> io::Result<Apart> {
        let namespace = sys::new_network()?;
        let links = sys::in_network(&namespace, || {
            // No interface in it belongs to this side.
            sysctl::without_ipv6("default")?;
            Host::open()
        })?;
        Ok(Apart {
            namespace,
            links: RefCell::new(links),
        })
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Makes the tap `name` in it, which belongs to this user.
    pub(crate) fn add_tap(&self, name: &str, uid: u32) -> io::Result<()> {
        sys::in_network(&self.namespace, || {
            let queue = open_tap(name)?;
            queue.owned_by(uid)?;
            queue.keep()
        })
    }

    /// Makes the interface `name` on the host, too, and joins it to the tap.
    pub(crate) fn join(
        &self,
        host: &mut Host,
        name: &str,
        number: u8,
        mtu: Option<u32>,
    ) -> io::Result<Link> {
        host.add_veth(name, self.namespace())?;
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let link = host.link(name)?.ok_or_else(missing)?;
        let mut links = self.links.borrow_mut();
        // No interface of the configuration can have this name.
        let bridge = format!("+{number}");
        links.add_cable(&bridge)?;
        let bridge = links.link(&bridge)?.ok_or_else(missing)?;
        let tap = links.link(name)?.ok_or_else(missing)?;
        let port = Change {
            mtu,
            bridge: Some(bridge.index),
            ..Change::default()
        };
        for index in [tap.index, link.peer] {
            links.change(index, &port)?;
        }
        links.change(bridge.index, &Change::default())?;
        Ok(link)
    }

    /// The tap of this name, as it is now.
    pub(crate) fn tap(&self, name: &str) -> io::Result<Option<Link>> {
        self.links.borrow_mut().link(name)
    }
}
