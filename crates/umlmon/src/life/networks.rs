//! How the kernel is connected with the networks of the host, and its arguments about that (umlmon, the monitor
//! process).
//!
//! The crate `net` sets up what is needed on the host. This file decides which of its drivers the kernel uses: the
//! configuration asks for a [`Transport`], the kernel has its [`Drivers`], and the result is a [`Driver`].

use std::collections::BTreeMap;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use config::{InterfaceName, MacAddr, Nic, Transport, Vm};
use jail::Features;
use net::{Connected, Connection, Counters, Driver, Drivers, Eth, Networks, Owner};
use sys::Network;

use crate::failure::Failure;
use crate::life::attendance::Attendance;
use crate::life::connections::{Connections, Ends};
use crate::life::kernels::{Seen, is_connected};
use crate::reading::Reading;
use crate::setup::Setup;

/// The largest packet of the driver `tuntap`.
const TUNTAP_MTU: u32 = 1500;

/// The connections of a kernel. Dropping it undoes them.
#[derive(Debug)]
pub struct Wiring {
    /// These first, because they use the networks.
    connections: Option<Connections>,
    _attendance: Option<Attendance>,
    networks: Option<Networks>,
    /// The kernel opens taps itself.
    pub tun: bool,
    /// The kernel is in the network of the host, because the administrator has given network arguments of the kernel.
    pub on_host: bool,
}

impl Wiring {
    /// Connects the kernel with the networks that are configured.
    ///
    /// # Errors
    /// [`Failure::Failed`] with what is wrong; nothing is left behind.
    pub fn set_up(
        setup: &Rc<Setup>,
        reading: &Reading,
        drivers: Drivers,
    ) -> Result<Wiring, Failure> {
        let vm = &reading.vm;
        let namespaces = namespaces(vm)?;
        let interfaces: Vec<Eth<'_>> = vm
            .eth
            .iter()
            .map(|(number, nic)| Eth {
                number: *number,
                nic,
                namespace: namespaces.get(number).map(OwnedFd::as_fd),
            })
            .collect();
        let driver = match is_connected(vm) {
            true => Some(choose(vm, drivers).map_err(Failure::Failed)?),
            false => None,
        };
        let own_text = vm.is_in_network_of_host();
        let networks = match driver {
            Some(driver) => {
                let owner = Owner {
                    vm_dir: &reading.vm_dir,
                    uid: setup.jail.account().uid,
                    gid: setup.jail.account().gid,
                    pool: reading.pool,
                    nat_pool: reading.nat_pool,
                    driver,
                    on_host: own_text,
                };
                Networks::set_up(&setup.records, &owner, &interfaces)?
            }
            None => None,
        };
        let end = networks.as_ref().and_then(Networks::user_end);
        let connections = end.map(|end| Connections::begin(setup, &end));
        Ok(Wiring::of(setup, vm, connections.transpose()?, networks))
    }

    /// That of a kernel which another monitor has started: what is recorded of its networks, and what was held of them.
    /// After an error they are as before.
    ///
    /// # Errors
    /// [`Failure::Failed`] with what is missing, or is not what was recorded.
    pub fn adopt(
        setup: &Rc<Setup>,
        vm: &Vm,
        connected: Option<Connected>,
        mut held: BTreeMap<String, OwnedFd>,
    ) -> Result<Wiring, Failure> {
        let Some(connected) = connected else {
            return Ok(Wiring::of(setup, vm, None, None));
        };
        let networks = Networks::adopt(&setup.records, connected, |name| held.remove(name))?;
        let networks = ManuallyDrop::new(networks);
        let connections = networks.user_end().map(|end| {
            let ends = Ends::NAMES.map(|name| {
                let missing =
                    || Failure::Failed(format!("the second process does not hold {name}"));
                held.remove(name).ok_or_else(missing)
            });
            let [ours, its] = ends;
            Connections::adopt(setup, &end, Ends::held([ours?, its?]))
        });
        let connections = connections.transpose()?;
        let networks = ManuallyDrop::into_inner(networks);
        Ok(Wiring::of(setup, vm, connections, Some(networks)))
    }

    fn of(
        setup: &Setup,
        vm: &Vm,
        connections: Option<Connections>,
        networks: Option<Networks>,
    ) -> Wiring {
        let own_text = vm.is_in_network_of_host();
        let attends =
            |networks: &Networks| Attendance::begin(&setup.records, networks.nat_networks());
        Wiring {
            connections,
            _attendance: networks.as_ref().map(attends),
            tun: own_text || networks.as_ref().is_some_and(|it| it.driver().attaches()),
            networks,
            on_host: own_text,
        }
    }

    /// What the next monitor must know, if there is something.
    pub fn connected(&self) -> Option<Connected> {
        self.networks.as_ref().map(Networks::connected)
    }

    /// What must be held until the next monitor comes, each with its name.
    ///
    /// # Errors
    /// As dup(2).
    pub fn held(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        let mut held = Vec::new();
        if let Some(networks) = &self.networks {
            held.extend(networks.held()?);
        }
        if let Some(connections) = &self.connections {
            held.extend(connections.held()?);
        }
        Ok(held)
    }

    /// The network that the kernel is to be in.
    pub fn network(&self) -> Network<'_> {
        let own = self.networks.as_ref().and_then(Networks::own);
        match own {
            _ if self.on_host => Network::Host,
            Some(own) => Network::At(own),
            None => Network::Empty,
        }
    }

    /// Whether it can serve the next kernel too, after a reboot of the guest.
    pub fn is_intact(&self) -> bool {
        self.networks.as_ref().is_none_or(Networks::are_intact)
    }

    /// The connections, each with the driver of the kernel.
    fn connections(&self) -> impl Iterator<Item = (&Connection, Driver)> {
        let networks = self.networks.iter();
        networks.flat_map(|networks| {
            let driver = networks.driver();
            networks
                .connections()
                .iter()
                .map(move |connection| (connection, driver))
        })
    }

    /// The open taps that the kernel inherits, in the order in which [`Wiring::arguments`] numbers them.
    pub fn queues(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.connections()
            .filter_map(|(connection, _)| connection.queue())
    }

    /// The arguments of the kernel; `first_fd` is the number of its first open tap.
    pub fn arguments(&self, vm: &Vm, first_fd: i32) -> Vec<String> {
        let texts = vm.eth.iter().filter_map(|(number, nic)| match nic {
            // That is how the options of the vector driver begin.
            Nic::Raw(text) if text.starts_with("transport=") => Some(format!("vec{number}:{text}")),
            Nic::Raw(text) => Some(format!("eth{number}={text}")),
            Nic::HostToHost { .. }
            | Nic::Bridged { .. }
            | Nic::Nat { .. }
            | Nic::User { .. }
            | Nic::Netns { .. } => None,
        });
        let connections = self.connections().zip(first_fd..);
        let connected =
            connections.map(|((connection, driver), fd)| argument(connection, driver, fd));
        let told = self.connections().filter_map(|(connection, _)| {
            let guest = connection.guest.as_ref()?;
            Some(guest_line::interface_argument(connection.number, guest))
        });
        texts.chain(connected).chain(told).collect()
    }

    /// A look at the connections, by number.
    pub fn looks(&self) -> BTreeMap<u8, NicLook> {
        let look = |(connection, driver): (&Connection, Driver)| {
            let (counters, open) = connection.look().unwrap_or_default();
            let look = NicLook {
                guest_if: driver.guest_if(connection.number),
                driver,
                proxy_if: connection.proxy_if.clone(),
                bridge_if: connection.bridge_if.clone(),
                host_if: connection.host_if.clone(),
                proxy_addr: connection.addresses.map(|(own, _)| own),
                guest_addr: match connection.addresses {
                    Some((_, guest)) => Some(guest.into()),
                    None => connection.guest_addr,
                },
                proxy_mac: connection.proxy_mac,
                guest_mac: connection.guest_mac,
                open,
                counters,
            };
            (connection.number, look)
        };
        self.connections().map(look).collect()
    }
}

/// A look at an interface that is connected with the host.
#[derive(Debug)]
pub struct NicLook {
    /// What the guest calls it.
    pub guest_if: String,
    /// The driver that the kernel uses for it.
    pub driver: Driver,
    /// The tap.
    pub proxy_if: InterfaceName,
    /// The bridge that the tap is a port of.
    pub bridge_if: Option<InterfaceName>,
    /// Where the guest's address is announced.
    pub host_if: Option<InterfaceName>,
    /// Address of the host's end.
    pub proxy_addr: Option<Ipv4Addr>,
    /// Address of the guest's end.
    pub guest_addr: Option<IpAddr>,
    /// MAC address of the tap.
    pub proxy_mac: Option<MacAddr>,
    /// MAC address of the guest's end, unless its kernel has chosen one.
    pub guest_mac: Option<MacAddr>,
    /// The guest has brought it up.
    pub open: bool,
    /// Its traffic counters.
    pub counters: Counters,
}

/// What the guest will call an interface at the next start, or why there cannot be one.
pub fn prospect(vm: &Vm, seen: &Result<Seen, Failure>, number: u8) -> String {
    match seen {
        Ok(seen) => match choose(vm, drivers(seen.features)) {
            Ok(driver) => format!("the guest sees {}", driver.guest_if(number)),
            Err(why) => why,
        },
        Err(failure) => failure.to_string(),
    }
}

/// The network drivers among what a kernel can do.
pub fn drivers(features: Features) -> Drivers {
    Drivers {
        vec: features.vec,
        eth: features.eth,
    }
}

/// The network namespaces of interfaces that somebody else has made, by number.
fn namespaces(vm: &Vm) -> Result<BTreeMap<u8, OwnedFd>, Failure> {
    let of_others = vm.eth.iter().filter_map(|(number, nic)| match nic {
        Nic::Netns { path, .. } => Some((*number, path)),
        _ => None,
    });
    let opened = of_others.map(|(number, path)| match jail::network_namespace(path) {
        Ok(namespace) => Ok((number, namespace)),
        Err(error) => Err(Failure::Failed(format!("eth{number}: {error}"))),
    });
    opened.collect()
}

/// The transport to use: a tap in the namespace of somebody else is inherited.
fn transport(vm: &Vm) -> Transport {
    let is_netns = |nic: &Nic| matches!(nic, Nic::Netns { .. });
    match vm.transport {
        Transport::Auto if vm.eth.values().any(is_netns) => Transport::Fd,
        transport => transport,
    }
}

/// The driver to use: the one that is configured, if the kernel has it.
fn choose(vm: &Vm, drivers: Drivers) -> Result<Driver, String> {
    let wanted = transport(vm);
    let (driver, present) = match wanted {
        Transport::Auto if drivers.vec => (Driver::Vec, true),
        Transport::Auto | Transport::Tuntap => (Driver::Tuntap, drivers.eth),
        Transport::Vec => (Driver::Vec, drivers.vec),
        Transport::Fd => (Driver::Fd, drivers.vec),
    };
    let kernel = vm.kernel.as_ref().map_or("", |kernel| kernel.as_str());
    if !present {
        let is_needed = wanted != vm.transport;
        let reason = if is_needed {
            ", which netns(...) needs"
        } else {
            ""
        };
        let advice = match wanted {
            Transport::Tuntap if drivers.vec => "use transport = vec (the guest then sees vec0)",
            Transport::Vec | Transport::Fd if drivers.eth && !is_needed => {
                "use transport = tuntap (the guest then sees eth0)"
            }
            Transport::Auto | Transport::Tuntap | Transport::Vec | Transport::Fd => {
                "use one compiled with CONFIG_UML_NET_VECTOR"
            }
        };
        return Err(format!(
            "the kernel {kernel} has no driver for transport = {wanted}{reason}; {advice}"
        ));
    }
    let large = |nic: &Nic| nic.mtu().is_some_and(|mtu| mtu.bytes() > TUNTAP_MTU);
    let large = vm.eth.iter().find(|(_, nic)| large(nic));
    match large {
        Some((number, _)) if driver == Driver::Tuntap => Err(format!(
            "eth{number}: mtu: the driver tuntap supports packets of at most {TUNTAP_MTU} bytes; use transport = vec"
        )),
        Some(_) | None => Ok(driver),
    }
}

fn argument(connection: &Connection, driver: Driver, fd: i32) -> String {
    let number = connection.number;
    let tap = &connection.proxy_if;
    let mac = |key: &str| match connection.guest_mac {
        Some(mac) => format!(",{key}{}", mac.to_string().to_lowercase()),
        None => String::new(),
    };
    let mtu = match connection.mtu {
        Some(mtu) => format!(",mtu={mtu}"),
        None => String::new(),
    };
    match driver {
        Driver::Tuntap => format!("eth{number}=tuntap,{tap}{}", mac("")),
        // Without vec=0 nothing passes: the frames of an inherited tap have no header for it.
        Driver::Fd => format!("vec{number}:transport=fd,fd={fd},vec=0{}{mtu}", mac("mac=")),
        // Without gro=1 large frames do not fit, and nearly nothing passes from the host to the guest.
        Driver::Vec => format!(
            "vec{number}:transport=tap,ifname={tap},depth=128,gro=1{}{mtu}",
            mac("mac=")
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::Config;

    use super::*;

    fn vm(lines: &str) -> Vm {
        let text =
            format!("[vm1]\nvmuser = nobody\nmem = 64\nkernel = /shared/kernels/linux\n{lines}");
        let config = Config::parse(&text, Path::new("umlmon")).unwrap();
        config.vm(&"vm1".parse().unwrap()).unwrap()
    }

    #[test]
    fn the_kernel_is_asked_for_what_it_can_do() {
        let bridged = "eth0 = bridged(bridge_if=br0,proxy_if=p)";
        let of = |transport: &str, vec, eth| {
            let vm = vm(&format!("transport = {transport}\n{bridged}"));
            choose(&vm, Drivers { vec, eth })
        };
        assert_eq!(of("auto", true, true), Ok(Driver::Vec));
        assert_eq!(of("auto", false, true), Ok(Driver::Tuntap));
        assert_eq!(of("tuntap", true, true), Ok(Driver::Tuntap));
        assert_eq!(of("fd", true, false), Ok(Driver::Fd));
        assert!(
            of("tuntap", true, false)
                .unwrap_err()
                .contains("use transport = vec")
        );
        assert!(
            of("fd", false, true)
                .unwrap_err()
                .contains("use transport = tuntap")
        );
        assert!(
            of("auto", false, false)
                .unwrap_err()
                .contains("CONFIG_UML_NET_VECTOR")
        );
        let netns = vm("eth0 = netns(path=/run/netns/a,if=eth0)");
        let both = Drivers {
            vec: true,
            eth: true,
        };
        assert_eq!(choose(&netns, both), Ok(Driver::Fd));
        let said = choose(&netns, Drivers { vec: false, ..both }).unwrap_err();
        let why = "has no driver for transport = fd, which netns(...) needs; use one compiled";
        assert!(said.contains(why), "{said}");
        let jumbo = vm("transport = tuntap\neth3 = bridged(bridge_if=br0,proxy_if=p,mtu=9000)");
        assert!(choose(&jumbo, both).unwrap_err().starts_with("eth3: mtu:"));
    }

    #[test]
    fn text_for_the_kernel_stays_as_it_is() {
        let vm = vm("eth0 = tuntap,tap0\neth1 = transport=tap,ifname=tap1,depth=64");
        let wiring = Wiring {
            connections: None,
            _attendance: None,
            networks: None,
            tun: true,
            on_host: true,
        };
        assert_eq!(
            wiring.arguments(&vm, 9),
            [
                "eth0=tuntap,tap0",
                "vec1:transport=tap,ifname=tap1,depth=64"
            ]
        );
    }
}
