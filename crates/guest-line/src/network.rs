//! What a guest is to do with a network interface: arguments of its kernel, which the monitor gives and the helper
//! reads when it is the first process. The kernel ignores them, as they look like those of a module.

use std::fmt::{self, Display};
use std::net::IpAddr;

/// How such an argument begins; the number of the interface, `=` and the words follow.
const INTERFACE: &str = "umlmon.net";
/// The longest argument that is given, in bytes: the kernel takes 4096 for all of them.
pub const MAX_INTERFACE: usize = 1024;
/// The longest name of an interface (IFNAMSIZ, without the end).
const MAX_NAME: usize = 15;

/// The addresses with the same first bits: one of them, and how many bits. For an interface, its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// How many bits, at most 32 for IPv4 and 128 for IPv6.
    pub bits: u8,
}

/// A route through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to; with 0 bits, everywhere.
    pub to: Prefix,
    /// The router, which is at the interface; None: the addresses themselves are.
    pub gateway: Option<IpAddr>,
    /// The guest's own address for what is sent there; None: the guest chooses.
    pub source: Option<IpAddr>,
}

/// An interface of a guest. As text, it is `WORD:VALUE,...`:
///
/// ```text
/// name:eth0,addr:10.1.0.5/16,route:10.1.0.0/16//10.1.0.5,route:0.0.0.0/0/10.1.0.1,dns:10.1.0.3
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// What it is to be called, if not as the kernel calls it.
    pub name: Option<String>,
    /// Its addresses. They imply no routes.
    pub addresses: Vec<Prefix>,
    /// The routes through it.
    pub routes: Vec<Route>,
    /// The name servers; if there are none, the guest keeps those that it has.
    pub name_servers: Vec<IpAddr>,
}

/// The argument for the interface of this number.
#[must_use]
pub fn interface_argument(number: u8, interface: &Interface) -> String {
    format!("{INTERFACE}{number}={interface}")
}

/// The interfaces that the arguments of a kernel tell, by number. What is malformed is passed over.
#[must_use]
pub fn interfaces_in(arguments: &str) -> Vec<(u8, Interface)> {
    let interface = |argument: &str| {
        let (number, words) = argument.strip_prefix(INTERFACE)?.split_once('=')?;
        Some((number.parse().ok()?, Interface::read(words)?))
    };
    arguments
        .split_ascii_whitespace()
        .filter_map(interface)
        .collect()
}

impl Interface {
    fn read(words: &str) -> Option<Interface> {
        let mut interface = Interface::default();
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let (word, value) = word.split_once(':')?;
            match word {
                "name" => interface.name = Some(name(value)?),
                "addr" => interface.addresses.push(Prefix::read(value)?),
                "route" => interface.routes.push(Route::read(value)?),
                "dns" => interface.name_servers.push(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(interface)
    }
}

impl Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |word: &'static str| move |value: &dyn Display| format!("{word}:{value}");
        let (addr, route, dns) = (word("addr"), word("route"), word("dns"));
        let mut words: Vec<String> = self
            .name
            .iter()
            .map(|name| format!("name:{name}"))
            .collect();
        words.extend(self.addresses.iter().map(|value| addr(value)));
        words.extend(self.routes.iter().map(|value| route(value)));
        words.extend(self.name_servers.iter().map(|value| dns(value)));
        f.write_str(&words.join(","))
    }
}

/// A name that the kernel accepts, and that is no path.
fn name(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_one = (1..=MAX_NAME).contains(&text.len()) && text.chars().all(fits);
    (is_one && !text.starts_with('.')).then(|| text.to_owned())
}

impl Prefix {
    fn read(text: &str) -> Option<Prefix> {
        let (address, bits) = text.split_once('/')?;
        Prefix::new(address.parse().ok()?, bits.parse().ok()?)
    }

    /// None if the address does not have so many bits.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Option<Prefix> {
        let all = if address.is_ipv4() { 32 } else { 128 };
        (bits <= all).then_some(Prefix { address, bits })
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Route {
    /// `ADDRESS/BITS[/[GATEWAY][/SOURCE]]`, all of the same version of IP.
    fn read(text: &str) -> Option<Route> {
        let mut parts = text.splitn(4, '/');
        let to = Prefix::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)?;
        let mut address = || match parts.next() {
            None | Some("") => Some(None),
            Some(part) => {
                let address: IpAddr = part.parse().ok()?;
                (address.is_ipv4() == to.address.is_ipv4()).then_some(Some(address))
            }
        };
        Some(Route {
            to,
            gateway: address()?,
            source: address()?,
        })
    }
}

impl Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |address: Option<IpAddr>| address.map_or_else(String::new, |it| it.to_string());
        let rest = format!("/{}/{}", text(self.gateway), text(self.source));
        write!(f, "{}{}", self.to, rest.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::read(text).unwrap()
    }

    #[test]
    fn an_interface_is_carried_as_it_is() {
        let address = |text: &str| Some(text.parse().unwrap());
        let route = |to, gateway: &str, source: &str| Route {
            to: prefix(to),
            gateway: Some(gateway).filter(|it| !it.is_empty()).and_then(address),
            source: Some(source).filter(|it| !it.is_empty()).and_then(address),
        };
        let interface = Interface {
            name: Some("eth0".into()),
            addresses: vec![prefix("10.1.0.5/16"), prefix("fd00::5/64")],
            routes: vec![
                route("10.1.0.0/16", "", "10.1.0.5"),
                route("fd00::/64", "", ""),
                route("0.0.0.0/0", "10.1.0.1", ""),
                route("::/0", "fe80::1", "fd00::5"),
            ],
            name_servers: vec!["10.1.0.3".parse().unwrap()],
        };
        let argument = interface_argument(3, &interface);
        assert_eq!(
            argument,
            "umlmon.net3=name:eth0,addr:10.1.0.5/16,addr:fd00::5/64,route:10.1.0.0/16//10.1.0.5,route:fd00::/64,\
             route:0.0.0.0/0/10.1.0.1,route:::/0/fe80::1/fd00::5,dns:10.1.0.3"
        );
        let line = format!("mem=64M {argument} umlmon.net4= quiet\n");
        let none = Interface::default();
        assert_eq!(interfaces_in(&line), [(3, interface), (4, none)]);
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        for bad in [
            "0",
            "256=",
            "=addr:10.0.0.1/8",
            "0=addr:10.0.0.1",
            "0=addr:10.0.0.1/33",
            "0=addr:fd00::1/129",
            "0=addr:x/8",
            "0=route:0.0.0.0",
            "0=route:0.0.0.0/0/fd00::1",
            "0=route:0.0.0.0/0/10.0.0.1/10.0.0.2/x",
            "0=dns:10.0.0.1/8",
            "0=name:",
            "0=name:../x",
            "0=name:a/b",
            "0=name:sixteen-letters-",
            "0=mtu:1500",
            "0=addr",
        ] {
            assert_eq!(interfaces_in(&format!("{INTERFACE}{bad}")), [], "{bad}");
        }
    }
}
