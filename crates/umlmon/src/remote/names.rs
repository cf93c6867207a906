//! Whether this host is the one that a client means (umlmon, the monitor process).
//!
//! Otherwise a host could have its visitors log in to another one, and command the VM there in their place.

use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;

/// Whether a client that calls the host `called`, and has connected to `address`, means this one. `more` are the names
/// that the administrator gave it.
pub fn is_this_host(called: &str, address: [u8; 16], more: &[String]) -> bool {
    let ip = IpAddr::from(Ipv6Addr::from(address)).to_canonical();
    // A loopback address is that of the client's own host: it, or a tunnel from it to here.
    ip.is_loopback()
        || is_address_of_ours(ip)
        || more
            .iter()
            .any(|name| is_same(called, name) || name.parse() == Ok(ip))
        || hostname().is_some_and(|name| is_name(called, &name))
}

/// Whether somebody who says `called` means the host that calls itself `name`: without a domain, it is in any.
fn is_name(called: &str, name: &str) -> bool {
    let short = name.split('.').next().unwrap_or(name);
    !name.is_empty() && (is_same(called, name) || is_same(called, short))
}

fn is_same(called: &str, name: &str) -> bool {
    called.trim_end_matches('.').eq_ignore_ascii_case(name)
}

fn hostname() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

fn is_address_of_ours(ip: IpAddr) -> bool {
    let Ok(mut addresses) = getifaddrs() else {
        return false;
    };
    addresses.any(|interface| {
        let Some(address) = interface.address else {
            return false;
        };
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let v6 = address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        v4.or(v6) == Some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(text: &str) -> [u8; 16] {
        match text.parse().unwrap() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }

    #[test]
    fn another_host_is_not_this_one() {
        // Documentation addresses, which no host has.
        for (called, address) in [
            ("evil.example", "192.0.2.66"),
            ("192.0.2.66", "192.0.2.66"),
            ("2001:db8::66", "2001:db8::66"),
        ] {
            assert!(!is_this_host(called, mapped(address), &[]), "{called}");
        }
        let more = ["gate.example".to_owned(), "192.0.2.7".to_owned()];
        assert!(is_this_host("Gate.Example.", mapped("192.0.2.66"), &more));
        assert!(is_this_host("other", mapped("192.0.2.7"), &more));
        assert!(!is_this_host("evil.example", mapped("192.0.2.66"), &more));
    }

    #[test]
    fn this_host_knows_itself() {
        for address in ["127.0.0.1", "127.0.0.9", "::1"] {
            assert!(is_this_host("tunnel", mapped(address), &[]));
        }
        let name = hostname().unwrap();
        assert!(is_this_host(&name, mapped("192.0.2.66"), &[]));
    }

    #[test]
    fn a_domain_counts_if_it_is_given() {
        assert!(
            is_name("gate", "gate.example.org") && is_name("GATE.example.org", "gate.example.org")
        );
        assert!(is_name("gate", "gate"));
        assert!(!is_name("gate.evil.org", "gate.example.org"));
        assert!(!is_name("gate.evil.org", "gate"));
        assert!(!is_name("", "") && !is_name("", "gate"));
    }
}
