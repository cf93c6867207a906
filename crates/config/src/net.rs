//! Virtual network interfaces as types. Used by every program.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result, did_you_mean, quoted};
use crate::form::Form;
use crate::forward::{Forward, Protocol};
use crate::mac::HwAddr;
use crate::names::{InterfaceName, NetworkName, number};
use crate::values::{absolute_path, one_of, unknown_form};

/// How the kernel is to be connected with the interface on the host, the parameter `transport`. It is a preference: the
/// driver that is used also depends on the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// The best that the kernel has: `vec`, else `tuntap`.
    #[default]
    Auto,
    /// The vector driver at a tap: the fastest. The guest sees `vecN`.
    Vec,
    /// The driver of former kernels at a tap. The guest sees `ethN`.
    Tuntap,
    /// The vector driver with an open tap that it inherits, in a network namespace that has nothing else. The guest
    /// sees `vecN`.
    Fd,
}

impl FromStr for Transport {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [
            ("auto", Transport::Auto),
            ("vec", Transport::Vec),
            ("tuntap", Transport::Tuntap),
            ("fd", Transport::Fd),
        ];
        one_of("a transport", text, &words)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Auto => "auto",
            Transport::Vec => "vec",
            Transport::Tuntap => "tuntap",
            Transport::Fd => "fd",
        })
    }
}

/// The largest packet of an interface, without its Ethernet header: 576 (RFC 791) to 16384 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu(u32);

impl Mtu {
    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl FromStr for Mtu {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        number(text, 576, 16384).map(Mtu)
    }
}

/// A virtual network interface of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nic {
    /// `host_to_host`: a point-to-point connection of the VM and the host, IPv4 only.
    HostToHost {
        /// The host's end, a tap interface the monitor creates.
        proxy_if: InterfaceName,
        /// Address of the host's end.
        proxy_addr: Ipv4Addr,
        /// Hardware address of the host's end.
        proxy_hwaddr: Option<HwAddr>,
        /// Address the VM must use.
        guest_addr: Ipv4Addr,
        /// Hardware address of the VM's end.
        guest_hwaddr: Option<HwAddr>,
        /// Where to announce `guest_addr` (proxy ARP).
        host_if: Option<InterfaceName>,
        /// Largest packet in bytes, of both ends.
        mtu: Option<Mtu>,
    },
    /// `bridged`: the VM's end is a port of an existing bridge.
    Bridged {
        /// The bridge.
        bridge_if: InterfaceName,
        /// The tap interface that the monitor creates and adds to the bridge.
        proxy_if: InterfaceName,
        /// Hardware address of the host's end.
        proxy_hwaddr: Option<HwAddr>,
        /// Hardware address of the VM's end.
        guest_hwaddr: Option<HwAddr>,
        /// Largest packet in bytes, of both ends.
        mtu: Option<Mtu>,
    },
    /// `user`: connections of the VM are made by a process of its user on the host, without an interface there.
    User {
        /// Ports of the host that are forwarded to the VM.
        forwards: Vec<Forward>,
        /// Hardware address of the VM's end.
        guest_hwaddr: Option<HwAddr>,
        /// Largest packet in bytes.
        mtu: Option<Mtu>,
    },
    /// `nat`: an interface in a network of the host's VMs, which the host connects with the outside (masquerade).
    Nat {
        /// The network.
        network: NetworkName,
        /// Ports of the host that are forwarded to the VM.
        forwards: Vec<Forward>,
        /// Hardware address of the VM's end.
        guest_hwaddr: Option<HwAddr>,
        /// Largest packet in bytes, of both ends.
        mtu: Option<Mtu>,
    },
    /// `netns`: an interface of a network namespace that somebody else has made becomes that of the VM.
    Netns {
        /// The file of the namespace (ip-netns(8)).
        path: PathBuf,
        /// The interface in it.
        interface: InterfaceName,
    },
    /// Anything else: text passed to the kernel as `ethN=TEXT`.
    Raw(String),
}

impl Nic {
    /// The interface that the monitor creates on the host.
    pub fn proxy_if(&self) -> Option<&InterfaceName> {
        match self {
            Nic::HostToHost { proxy_if, .. } | Nic::Bridged { proxy_if, .. } => Some(proxy_if),
            Nic::Nat { .. } | Nic::User { .. } | Nic::Netns { .. } | Nic::Raw(_) => None,
        }
    }

    /// Largest packet in bytes, if it is configured.
    pub fn mtu(&self) -> Option<Mtu> {
        match self {
            Nic::HostToHost { mtu, .. }
            | Nic::Bridged { mtu, .. }
            | Nic::Nat { mtu, .. }
            | Nic::User { mtu, .. } => *mtu,
            Nic::Netns { .. } | Nic::Raw(_) => None,
        }
    }

    /// Ports of the host that are forwarded to the VM.
    pub fn forwards(&self) -> &[Forward] {
        match self {
            Nic::Nat { forwards, .. } | Nic::User { forwards, .. } => forwards,
            _ => &[],
        }
    }
}

/// What text for the kernel begins with: `ethN=TRANSPORT,...` (the `*_kern.c` of arch/um/drivers).
const OF_ETH: [&str; 9] = [
    "daemon", "ethertap", "mcast", "pcap", "slip", "slirp", "tuntap", "ucast", "vde",
];
/// And `vecN:transport=TRANSPORT,...` (vector_user.h there).
const OF_VEC: [&str; 8] = ["bess", "fd", "gre", "hybrid", "l2tpv3", "raw", "tap", "vde"];

impl Nic {
    /// What is odd about text for the kernel, which is passed on nevertheless: no kernel that is known understands it.
    pub fn doubt(&self) -> Option<String> {
        let Nic::Raw(text) = self else { return None };
        let (rest, known, others) = match text.strip_prefix("transport=") {
            Some(rest) => (rest, &OF_VEC[..], &[][..]),
            None => (text.as_str(), &OF_ETH[..], &FORMS[..]),
        };
        let word = rest.split(',').next().unwrap_or_default();
        if known.contains(&word) {
            return None;
        }
        let hint = did_you_mean(word, known.iter().chain(others).copied());
        Some(format!(
            "{} is no network transport of the kernel{hint}",
            quoted(word)
        ))
    }
}

/// The names of the forms.
const FORMS: [&str; 5] = ["host_to_host", "bridged", "nat", "user", "netns"];

impl FromStr for Nic {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if !Form::is_form(text) {
            return raw(text);
        }
        let mut form = Form::parse(text)?;
        let nic = match form.name {
            "host_to_host" => Nic::HostToHost {
                proxy_if: form.required("proxy_if")?,
                proxy_addr: ipv4(&mut form, "proxy_addr")?,
                proxy_hwaddr: form.optional("proxy_hwaddr")?,
                guest_addr: ipv4(&mut form, "guest_addr")?,
                guest_hwaddr: form.optional("guest_hwaddr")?,
                host_if: form.optional("host_if")?,
                mtu: form.optional("mtu")?,
            },
            "bridged" => Nic::Bridged {
                bridge_if: form.required("bridge_if")?,
                proxy_if: form.required("proxy_if")?,
                proxy_hwaddr: form.optional("proxy_hwaddr")?,
                guest_hwaddr: form.optional("guest_hwaddr")?,
                mtu: form.optional("mtu")?,
            },
            "nat" => Nic::Nat {
                network: form.optional("network")?.unwrap_or_else(NetworkName::usual),
                forwards: form.every("forward")?,
                guest_hwaddr: form.optional("guest_hwaddr")?,
                mtu: form.optional("mtu")?,
            },
            "user" => Nic::User {
                forwards: for_user(form.every("forward")?)?,
                guest_hwaddr: form.optional("guest_hwaddr")?,
                mtu: form.optional("mtu")?,
            },
            "netns" => {
                let path = form.read("path", absolute_path)?;
                Nic::Netns {
                    path: form.present("path", path)?,
                    interface: form.required("if")?,
                }
            }
            other => return Err(unknown_form(other, &FORMS)),
        };
        form.finish()?;
        check_ends(nic)
    }
}

/// What slirp4netns(1) can forward. The guest would answer UDP from 127.0.0.1 to the router, which stands for
/// 127.0.0.1 of the host, and so is out of reach for guests.
fn for_user(forwards: Vec<Forward>) -> Result<Vec<Forward>> {
    let cannot_be_answered = |forward: &&Forward| {
        let address = forward.host.ip();
        forward.protocol == Protocol::Udp && (address.is_loopback() || address.is_unspecified())
    };
    let Some(forward) = forwards.iter().find(cannot_be_answered) else {
        return Ok(forwards);
    };
    let why = "the guest could not answer UDP at 127.0.0.1 or 0.0.0.0: give another address of the host, as in \
               udp:192.168.1.5:5353:53, or use nat(...)";
    Err(Error::value("forward", &forward.to_string(), why))
}

/// The text becomes one kernel argument, which the kernel would split at white space.
fn raw(text: &str) -> Result<Nic> {
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        let why = "text for the kernel must not contain white space";
        return Err(Error::value("a NIC specification", text, why));
    }
    if FORMS.contains(&text) {
        return Err(Error::value(
            "a NIC specification",
            text,
            "its parameters (...) are missing",
        ));
    }
    Ok(Nic::Raw(text.to_owned()))
}

fn ipv4(form: &mut Form<'_>, key: &'static str) -> Result<Ipv4Addr> {
    let address = form.read(key, |text| match text.parse::<Ipv4Addr>() {
        Ok(ip) if !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()) => Ok(ip),
        _ => Err(Error::value("the IPv4 address of an interface", text, "")),
    })?;
    form.present(key, address)
}

/// The two ends of a connection must differ.
fn check_ends(nic: Nic) -> Result<Nic> {
    let same = |what: &str| Err(Error::Conflict(format!("{what} must not be the same")));
    match &nic {
        Nic::HostToHost {
            proxy_addr,
            guest_addr,
            ..
        } if proxy_addr == guest_addr => same("proxy_addr and guest_addr"),
        Nic::HostToHost {
            proxy_if,
            host_if: Some(host_if),
            ..
        } if proxy_if == host_if => same("proxy_if and host_if"),
        Nic::Bridged {
            proxy_if,
            bridge_if,
            ..
        } if proxy_if == bridge_if => same("proxy_if and bridge_if"),
        Nic::HostToHost {
            proxy_hwaddr: Some(HwAddr::Mac(a)),
            guest_hwaddr: Some(HwAddr::Mac(b)),
            ..
        }
        | Nic::Bridged {
            proxy_hwaddr: Some(HwAddr::Mac(a)),
            guest_hwaddr: Some(HwAddr::Mac(b)),
            ..
        } if a == b => same("proxy_hwaddr and guest_hwaddr"),
        _ => Ok(nic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::refusal;

    #[test]
    fn both_special_forms() {
        let nic = "host_to_host(proxy_if=proxy1, proxy_addr=192.168.2.1, guest_addr=192.168.2.2, host_if=eth0)";
        let nic: Nic = nic.parse().unwrap();
        assert_eq!(nic.proxy_if().unwrap().as_str(), "proxy1");
        assert!(matches!(
            nic,
            Nic::HostToHost {
                proxy_hwaddr: None,
                host_if: Some(_),
                ..
            }
        ));
        let nic: Nic = "bridged(bridge_if=br0, proxy_if=proxy1, guest_hwaddr=pool)"
            .parse()
            .unwrap();
        assert!(matches!(
            nic,
            Nic::Bridged {
                guest_hwaddr: Some(HwAddr::Pool),
                proxy_hwaddr: None,
                ..
            }
        ));
        assert_eq!(
            "tuntap,tap0".parse::<Nic>().unwrap(),
            Nic::Raw("tuntap,tap0".into())
        );
    }

    #[test]
    fn ports_of_the_host() {
        let nic: Nic = "user(forward=2222:22, forward=udp:10.0.0.1:53:53, guest_hwaddr=pool)"
            .parse()
            .unwrap();
        assert_eq!((nic.forwards().len(), nic.proxy_if()), (2, None));
        assert!("user()".parse::<Nic>().unwrap().forwards().is_empty());
        assert!(refusal::<Nic>("user").contains("are missing"));
        assert!(refusal::<Nic>("user(forward=22)").contains("forward:"));
        for address in ["", "127.0.0.2:", "0.0.0.0:"] {
            let said = refusal::<Nic>(&format!("user(forward=udp:{address}53:53)"));
            assert!(said.contains("another address of the host"), "{said}");
            assert!(
                format!("nat(forward=udp:{address}53:53)")
                    .parse::<Nic>()
                    .is_ok()
            );
        }
        assert!(refusal::<Nic>("user(mtu=1500,mtu=1500)").contains("given twice"));
        assert!(refusal::<Nic>("user(forwards=1:2)").contains("did you mean \"forward\""));
    }

    #[test]
    fn networks_of_the_suite() {
        let of = |text: &str| match text.parse::<Nic>().unwrap() {
            Nic::Nat {
                network, forwards, ..
            } => (network.to_string(), forwards.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("nat()"), ("uml".into(), 0));
        assert_eq!(of("nat(network=lab2,forward=2222:22)"), ("lab2".into(), 1));
        for bad in ["a-b", "2a", "Uml", "abcdefghijkl"] {
            let said = refusal::<Nic>(&format!("nat(network={bad})"));
            assert!(said.contains("network:"), "{said}");
        }
    }

    #[test]
    fn an_interface_of_a_namespace() {
        let nic: Nic = "netns(path=/run/netns/pod 1, if=eth0)".parse().unwrap();
        let Nic::Netns { path, interface } = &nic else {
            panic!("{nic:?}")
        };
        assert_eq!(path.as_path(), "/run/netns/pod 1");
        assert_eq!(interface.as_str(), "eth0");
        assert!((nic.proxy_if(), nic.mtu(), nic.forwards().len()) == (None, None, 0));
        for (bad, why) in [
            ("netns()", "needs path="),
            ("netns(path=/run/netns/a)", "needs if="),
            ("netns(path=pod,if=eth0)", "path:"),
            ("netns(path=/run/../a,if=eth0)", "path:"),
            ("netns(path=/a,if=et h0)", "if:"),
            ("netns(path=/a,if=eth0,mtu=1500)", "has no \"mtu\""),
            ("netns", "are missing"),
        ] {
            let said = refusal::<Nic>(bad);
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn transports_and_sizes() {
        for text in ["auto", "vec", "tuntap", "fd"] {
            assert_eq!(text.parse::<Transport>().unwrap().to_string(), text);
        }
        assert!(refusal::<Transport>("tap").contains("auto, vec, tuntap or fd"));
        let nic = |mtu| format!("bridged(bridge_if=br0,proxy_if=p,mtu={mtu})");
        assert!(matches!(
            nic("9000").parse::<Nic>().unwrap(),
            Nic::Bridged { mtu: Some(mtu), .. } if mtu.bytes() == 9000
        ));
        for bad in ["0", "575", "16385", "+9000", "9k"] {
            assert!(refusal::<Nic>(&nic(bad)).contains("mtu:"), "{bad}");
        }
    }

    #[test]
    fn text_that_no_kernel_knows_is_doubted() {
        let doubt = |text: &str| text.parse::<Nic>().unwrap().doubt();
        for known in [
            "tuntap,tap0,,10.0.0.1",
            "daemon",
            "mcast,,224.0.0.1",
            "transport=tap,ifname=tap0",
            "transport=gre,src=a",
            "user()",
        ] {
            assert_eq!(doubt(known), None, "{known}");
        }
        for (text, said) in [
            (
                "tuntpa,tap0",
                "\"tuntpa\" is no network transport of the kernel; did you mean \"tuntap\"?",
            ),
            (
                "usr",
                "\"usr\" is no network transport of the kernel; did you mean \"user\"?",
            ),
            (
                "transport=tab,ifname=t",
                "\"tab\" is no network transport of the kernel; did you mean \"tap\"?",
            ),
            (
                "something",
                "\"something\" is no network transport of the kernel",
            ),
        ] {
            assert_eq!(doubt(text).as_deref(), Some(said));
        }
    }

    #[test]
    fn wrong_ones_are_not_taken_for_raw_text() {
        assert!(
            refusal::<Nic>("host_to_hots(proxy_if=a)").contains("did you mean \"host_to_host\"")
        );
        assert!(refusal::<Nic>("bridged").contains("are missing"));
        assert!(refusal::<Nic>("bridged(bridge_if=br0)").contains("needs proxy_if="));
        assert!(
            refusal::<Nic>("bridged(bridge_if=br0,proxy_if=br0)").contains("must not be the same")
        );
        assert!(refusal::<Nic>("bridged(bridge_if=br0,proxyif=p)").contains("needs proxy_if="));
        assert!(
            refusal::<Nic>("bridged(bridge_if=br0,proxy_if=p,guest_adr=1)")
                .contains("has no \"guest_adr\"")
        );
        assert!(refusal::<Nic>("tuntap,tap0 ubd0=/x").contains("white space"));
        let same = "host_to_host(proxy_if=p,proxy_addr=10.0.0.1,guest_addr=10.0.0.1)";
        assert!(refusal::<Nic>(same).contains("must not be the same"));
        let group = "host_to_host(proxy_if=p,proxy_addr=224.0.0.1,guest_addr=10.0.0.1)";
        assert!(refusal::<Nic>(group).contains("proxy_addr:"));
    }
}
