//! What a VM has in a network of `nat(...)`, and what is remembered of such networks. Used by the monitor and by
//! `umladmin`, as root.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use config::{Forward, MacAddr, NetworkName, Protocol, Subnet};
use serde::{Deserialize, Serialize};

use crate::memory::Memories;

/// A port of the host that is forwarded to a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapped {
    /// It is UDP; else TCP.
    pub(crate) udp: bool,
    pub(crate) host: SocketAddrV4,
    pub(crate) guest: u16,
}

impl From<&Forward> for Mapped {
    fn from(forward: &Forward) -> Mapped {
        Mapped {
            udp: forward.protocol == Protocol::Udp,
            host: forward.host,
            guest: forward.guest,
        }
    }
}

/// What a VM has in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) network: NetworkName,
    /// The addresses of the network.
    pub(crate) subnet: Subnet,
    /// Its own.
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: MacAddr,
    /// Its name in the network, without the domain.
    pub(crate) host_name: String,
    /// The port of the bridge.
    pub(crate) port: String,
    pub(crate) forwards: Vec<Mapped>,
}

/// The address of the router in a network, which is the host.
pub(crate) fn router(subnet: Subnet) -> Ipv4Addr {
    subnet.address(1)
}

/// The addresses for VMs in a network.
pub(crate) fn for_vms(subnet: Subnet) -> impl Iterator<Item = Ipv4Addr> {
    (2..=254).map(move |number| subnet.address(number))
}

/// The name of a VM as one of the Domain Name System (RFC 1035): letters in lower case, digits and hyphens.
pub(crate) fn host_name(vm: &str) -> String {
    let label = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let name: String = vm.chars().map(label).collect();
    name.trim_matches('-').to_owned()
}

/// A VM that is or was on a network: what its server answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) host_name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: MacAddr,
}

/// The process that serves names and addresses in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) pid: i32,
    /// What it was started with.
    pub(crate) configuration: String,
}

/// What is remembered of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) subnet: Subnet,
    pub(crate) server: Option<Server>,
    pub(crate) addresses: Memories<Ipv4Addr>,
    /// At most one for each address, name and hardware address.
    pub(crate) known: Vec<Known>,
}

impl Entry {
    /// A network that is new.
    pub(crate) fn new(subnet: Subnet) -> Entry {
        Entry {
            subnet,
            server: None,
            addresses: Memories::default(),
            known: Vec::new(),
        }
    }

    /// Notes what a VM has. Whoever had some of that before has it no more.
    pub(crate) fn note(&mut self, vm: Known) {
        if self.known.contains(&vm) {
            return;
        }
        let (
            subnet,
            Known {
                host_name,
                address,
                mac,
            },
        ) = (self.subnet, &vm);
        self.known.retain(|it| {
            let differs = it.host_name != *host_name && it.address != *address && it.mac != *mac;
            differs && subnet.overlaps(it.address, 32)
        });
        self.known.push(vm);
    }

    /// No longer keeps an address and a name for this VM.
    pub(crate) fn forget(&mut self, vm: &str) {
        self.addresses.forget(vm);
        let name = host_name(vm);
        self.known.retain(|it| it.host_name != name);
    }
}

/// All networks that were not deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Book(pub(crate) BTreeMap<NetworkName, Entry>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_vm_gets_is_not_remembered() {
        let subnet: Subnet = "10.86.0.0/24".parse().unwrap();
        let known = |name: &str, address: u8, mac: u8| Known {
            host_name: name.to_owned(),
            address: subnet.address(address),
            mac: MacAddr::from_octets([2, 0, 0, 0, 0, mac]).unwrap(),
        };
        let mut entry = Entry::new(subnet);
        for vm in [
            ("a", 2, 2),
            ("b", 3, 3),
            ("c", 4, 4),
            ("a", 2, 2),
            ("d", 3, 4),
            ("a", 5, 5),
        ] {
            entry.note(known(vm.0, vm.1, vm.2));
        }
        assert_eq!(entry.known, [known("d", 3, 4), known("a", 5, 5)]);
        entry.subnet = "10.87.0.0/24".parse().unwrap();
        entry.note(known("e", 6, 6));
        assert_eq!(entry.known, [known("e", 6, 6)]);
    }

    #[test]
    fn names_of_vms_become_names_of_hosts() {
        for (vm, name) in [
            ("web", "web"),
            ("Web_1.example", "web-1-example"),
            ("a-", "a"),
        ] {
            assert_eq!(host_name(vm), name);
        }
    }
}
