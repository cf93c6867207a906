//! An interface of a network namespace that somebody else has made, as the one of a VM. Used by the monitor, as root.
//!
//! ```text
//! kernel == tap <-> interface --- whatever it is connected with
//!          the namespace
//! ```
//!
//! What arrives at one of the two leaves by the other one, so the namespace itself sees nothing of it. The kernel
//! inherits the tap, which ends with it. The interface keeps all that it has.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::{OFlags, fstat};
use serde::{Deserialize, Serialize};

use crate::host::{Change, Host, Link};
use crate::redirect::Arrivals;
use crate::sysctl;

/// An interface that packets are taken from, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// The N of ethN.
    pub(crate) number: u8,
    /// The file of the namespace, and the number of what it was (its inode).
    pub(crate) path: PathBuf,
    pub(crate) network: u64,
    /// The index of the interface, and its name.
    pub(crate) index: u32,
    pub(crate) name: String,
}

impl Taken {
    /// Gives it back to its namespace, if that is still there.
    pub(crate) fn give_back(&self) -> io::Result<()> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&self.path)?;
        match fstat(&opened)?.st_ino == self.network {
            true => Netns::of(opened.into(), self.index)?.give_back(),
            // The namespace is gone, and with it all that was in it.
            false => Ok(()),
        }
    }
}

/// The namespace, and the interface in it.
#[derive(Debug)]
pub(crate) struct Netns {
    namespace: OwnedFd,
    /// The index of the interface.
    interface: u32,
    links: RefCell<Host>,
}

impl Netns {
    /// The interface of this index.
    pub(crate) fn of(namespace: OwnedFd, interface: u32) -> io::Result<Netns> {
        let links = sys::in_network(&namespace, Host::open)?;
        Ok(Netns {
            namespace,
            interface,
            links: RefCell::new(links),
        })
    }

    /// The interface of this name; None if there is none.
    pub(crate) fn find(namespace: OwnedFd, name: &str) -> io::Result<Option<(Netns, Link)>> {
        let netns = Netns::of(namespace, 0)?;
        let link = netns.link(name)?;
        Ok(link.map(|link| {
            let interface = link.index;
            (Netns { interface, ..netns }, link)
        }))
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The number of the namespace: of two that exist, it differs.
    pub(crate) fn number(&self) -> io::Result<u64> {
        Ok(fstat(&self.namespace)?.st_ino)
    }

    /// The network of the namespace.
    pub(crate) fn links(&self) -> &RefCell<Host> {
        &self.links
    }

    /// What is called so in the namespace.
    pub(crate) fn link(&self, name: &str) -> io::Result<Option<Link>> {
        self.links.borrow_mut().link(name)
    }

    /// Makes a tap of this name and connects it with the interface.
    pub(crate) fn connect(&self, tap: &str, uid: u32, change: &Change<'_>) -> io::Result<OwnedFd> {
        let queue = sys::in_network(&self.namespace, || {
            let queue = sys::open_tap(tap)?;
            queue.owned_by(uid)?;
            // The namespace itself is not to send anything to the guest.
            sysctl::without_ipv6(tap)?;
            Ok(OwnedFd::from(queue))
        })?;
        let link = self.link(tap)?.ok_or(io::ErrorKind::NotFound)?;
        let mut links = self.links.borrow_mut();
        links.change(link.index, change)?;
        links.redirect(link.index, self.interface)?;
        links.redirect(self.interface, link.index)?;
        Ok(queue)
    }

    /// Whether it is connected with the interface of this name.
    pub(crate) fn is_connected(&self, tap: &str) -> bool {
        let Ok(Some(link)) = self.link(tap) else {
            return false;
        };
        let arrivals = self.links.borrow_mut().arrivals(self.interface);
        arrivals.is_ok_and(|it| {
            it == Arrivals::Redirected {
                to: Some(link.index),
            }
        })
    }

    /// Undoes [`Netns::connect`], if the interface is still there. The tap ends by itself.
    pub(crate) fn give_back(&self) -> io::Result<()> {
        self.links.borrow_mut().receive(self.interface)
    }
}
