//! A connection of a VM with the host: the interface that is configured, for which VM, and the interface that is made
//! for it. Used by the monitor, as root.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use config::{Forward, InterfaceName, MacAddr, MacPool, Mtu, Nic, Subnet};
use guest_line::Interface;
use serde::{Deserialize, Serialize};

use crate::apart::Apart;
use crate::host::{Counters, Host};
use crate::kernel::Driver;
use crate::netns::Netns;
use crate::user;

/// An interface of the VM, as it is configured.
#[derive(Clone, Copy, Debug)]
pub struct Eth<'a> {
    /// The N of ethN.
    pub number: u8,
    /// What is configured.
    pub nic: &'a Nic,
    /// The network namespace of `netns(...)`, opened.
    pub namespace: Option<BorrowedFd<'a>>,
}

/// The VM for which networks are set up.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The directory of the VM, of which there is one on the host.
    pub vm_dir: &'a Path,
    /// The user that the kernel runs as.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    /// Where addresses come from.
    pub pool: MacPool,
    /// Where the addresses of the networks of `nat(...)` come from.
    pub nat_pool: Subnet,
    /// The driver by which the kernel is connected.
    pub driver: Driver,
    /// Whether the kernel is in the network of the host; else it is in one of its own.
    pub on_host: bool,
}

/// A connection of the VM with the host. In a record of it, nothing is that is open.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The N of ethN.
    pub number: u8,
    /// The interface on the host: the tap, or the end of a cable to it. With a process instead, the tap in its network;
    /// with an interface of a namespace, the tap there.
    pub proxy_if: InterfaceName,
    /// MAC address of that interface.
    pub proxy_mac: Option<MacAddr>,
    /// MAC address that the VM is told to use; None lets its kernel choose.
    pub guest_mac: Option<MacAddr>,
    /// Largest packet in bytes, if it was configured.
    pub mtu: Option<u32>,
    /// Addresses of the host's and of the VM's end, if the host has one.
    pub addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Where the VM's address is announced.
    pub host_if: Option<InterfaceName>,
    /// The bridge of the host that the interface is a port of.
    pub bridge_if: Option<InterfaceName>,
    /// The forwarded ports of the host, if a process there makes the connections of the VM.
    pub forwards: Option<Vec<Forward>>,
    /// The address of the VM, if its interface is one of a namespace that somebody else has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_addr: Option<IpAddr>,
    /// What the guest is to be told of its interface; not if another monitor has told it.
    #[serde(skip)]
    pub guest: Option<Interface>,
    /// It is in a network of `nat(...)`, so the host's address is that of the bridge.
    pub(crate) is_nat: bool,
    #[serde(skip)]
    pub(crate) queue: Option<OwnedFd>,
    /// Where the tap is, if not on the host.
    #[serde(skip)]
    pub(crate) apart: Option<Rc<Apart>>,
    /// The namespace in which the tap and the interface are, if somebody else has made it.
    #[serde(skip)]
    pub(crate) netns: Option<Rc<Netns>>,
}

impl Connection {
    /// The configured values, without those that are determined later; None for text, which is passed to the kernel
    /// unchanged.
    pub(crate) fn configured(eth: &Eth<'_>) -> Option<Connection> {
        let bare = |proxy_if: &InterfaceName, mtu: &Option<Mtu>| Connection {
            number: eth.number,
            proxy_if: proxy_if.clone(),
            proxy_mac: None,
            guest_mac: None,
            mtu: mtu.map(Mtu::bytes),
            addresses: None,
            host_if: None,
            bridge_if: None,
            forwards: None,
            guest_addr: None,
            guest: None,
            is_nat: false,
            queue: None,
            apart: None,
            netns: None,
        };
        match eth.nic {
            Nic::HostToHost {
                proxy_if,
                proxy_addr,
                guest_addr,
                host_if,
                mtu,
                ..
            } => Some(Connection {
                addresses: Some((*proxy_addr, *guest_addr)),
                host_if: host_if.clone(),
                ..bare(proxy_if, mtu)
            }),
            Nic::Bridged {
                bridge_if,
                proxy_if,
                mtu,
                ..
            } => Some(Connection {
                bridge_if: Some(bridge_if.clone()),
                ..bare(proxy_if, mtu)
            }),
            // The names and addresses follow when it is planned.
            Nic::Nat { mtu, .. } => Some(Connection {
                is_nat: true,
                ..bare(&"nat".parse().ok()?, mtu)
            }),
            Nic::User { forwards, mtu, .. } => {
                // No interface of the host is in the same network.
                let tap = format!("tap{}", eth.number).parse().ok()?;
                Some(Connection {
                    addresses: Some((user::ROUTER, user::GUEST)),
                    forwards: Some(forwards.clone()),
                    ..bare(&tap, mtu)
                })
            }
            // What the interface has follows when it is planned.
            Nic::Netns { .. } => Some(bare(&"uml".parse().ok()?, &None)),
            Nic::Raw(_) => None,
        }
    }

    /// As it is recorded.
    pub(crate) fn recorded(&self) -> Connection {
        Connection {
            proxy_if: self.proxy_if.clone(),
            host_if: self.host_if.clone(),
            bridge_if: self.bridge_if.clone(),
            forwards: self.forwards.clone(),
            guest: None,
            queue: None,
            apart: None,
            netns: None,
            ..*self
        }
    }

    /// The open tap that the kernel is to inherit, if it does not attach to it itself.
    pub fn queue(&self) -> Option<BorrowedFd<'_>> {
        self.queue.as_ref().map(AsFd::as_fd)
    }

    /// The traffic of the interface, and whether the kernel of the VM has it open; None if it is gone.
    pub fn look(&self) -> Option<(Counters, bool)> {
        let name = self.proxy_if.as_str();
        let link = match (&self.apart, &self.netns) {
            (Some(apart), _) => apart.tap(name),
            (_, Some(netns)) => netns.link(name),
            (None, None) => Host::open().and_then(|mut host| host.link(name)),
        };
        let link = link.ok().flatten()?;
        Some((link.counters, link.carrier))
    }
}
