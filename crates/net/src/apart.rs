//! The network namespace of a VM, in which its kernel attaches to its taps, and how that is joined to the network of
//! the host. Made by the monitor, as root.
//!
//! ```text
//! kernel == tap -- bridge -- veth | veth (proxy_if) -- the host: addresses, a bridge, filters
//!           the VM's namespace    | the host's
//! ```
//!
//! If a process of the VM's user makes its connections on the host, the other port of the bridge is the tap of that
//! process, and nothing is on the host:
//!
//! ```text
//! kernel == tap -- bridge -- tap == process, whose sockets are in the host's network
//! ```
//!
//! The bridge works as a cable: it has two ports, learns no addresses, and also forwards frames that bridges normally
//! do not forward. When the namespace ends, its end of the pair ends, and with it the one on the host.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::{UserNetwork, open_tap, user_network};

use crate::host::{Change, Host, Link};
use crate::sysctl;
use crate::user;

/// The namespace.
#[derive(Debug)]
pub(crate) struct Apart {
    namespace: OwnedFd,
    /// The user namespace that it belongs to, if that is not the host's.
    user: Option<OwnedFd>,
    /// The interfaces in it.
    links: RefCell<Host>,
}

impl Apart {
    /// Makes it; there is nothing in it.
    pub(crate) fn new() -> io::Result<Apart> {
        Apart::of(sys::new_network()?, None)
    }

    /// Makes one in which a process can be given rights without being root.
    pub(crate) fn with_user(uid: u32, gid: u32) -> io::Result<Apart> {
        let UserNetwork { user, network } = user_network(uid, gid)?;
        Apart::of(network, Some(user))
    }

    /// One that is there.
    pub(crate) fn of(namespace: OwnedFd, user: Option<OwnedFd>) -> io::Result<Apart> {
        let links = sys::in_network(&namespace, || {
            // No interface in it belongs to this side.
            sysctl::without_ipv6("default")?;
            Host::open()
        })?;
        Ok(Apart {
            namespace,
            user,
            links: RefCell::new(links),
        })
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The user namespace that it belongs to, if that is not the host's.
    pub(crate) fn user(&self) -> Option<BorrowedFd<'_>> {
        self.user.as_ref().map(AsFd::as_fd)
    }

    /// Makes the tap `name` in it, which belongs to this user.
    pub(crate) fn add_tap(&self, name: &str, uid: u32) -> io::Result<()> {
        sys::in_network(&self.namespace, || {
            let queue = open_tap(name)?;
            queue.owned_by(uid)?;
            queue.keep()
        })
    }

    /// The same for a kernel that inherits the tap.
    pub(crate) fn open_tap(&self, name: &str, uid: u32) -> io::Result<OwnedFd> {
        sys::in_network(&self.namespace, || {
            let queue = open_tap(name)?;
            queue.owned_by(uid)?;
            Ok(queue.into())
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
        let link = host.link(name)?.ok_or_else(missing)?;
        let tap = self.tap(name)?.ok_or_else(missing)?;
        self.connect([tap.index, link.peer], number, mtu)?;
        Ok(link)
    }

    /// Makes the tap of a process that makes the connections of the VM, and joins it to the other one.
    pub(crate) fn join_process(&self, name: &str, number: u8, mtu: Option<u32>) -> io::Result<()> {
        // Root's: the process has the right to take it in the user namespace, but the kernel has none.
        self.add_tap(user::TAP, 0)?;
        let tap = self.tap(name)?.ok_or_else(missing)?;
        let process = self.tap(user::TAP)?.ok_or_else(missing)?;
        self.connect([tap.index, process.index], number, mtu)
    }

    /// Connects two interfaces like a cable.
    fn connect(&self, ends: [u32; 2], number: u8, mtu: Option<u32>) -> io::Result<()> {
        let mut links = self.links.borrow_mut();
        // No interface of the configuration can have this name.
        let bridge = format!("+{number}");
        links.add_cable(&bridge)?;
        let bridge = links.link(&bridge)?.ok_or_else(missing)?;
        let port = Change {
            mtu,
            bridge: Some(bridge.index),
            ..Change::default()
        };
        for index in ends {
            links.change(index, &port)?;
        }
        links.change(bridge.index, &Change::default())
    }

    /// The tap of this name, as it is now.
    pub(crate) fn tap(&self, name: &str) -> io::Result<Option<Link>> {
        self.links.borrow_mut().link(name)
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}
