//! What `VM@HOST` means. Runs in the clients.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use cli::Failure;
use config::VmName;

/// The longest name that DNS allows, in bytes.
const MAX_NAME: usize = 253;

/// A VM and the host it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The VM.
    pub vm: VmName,
    /// None for this host, which is reached through Unix Domain sockets.
    pub host: Option<Host>,
}

impl FromStr for Target {
    type Err = Failure;

    /// Takes `VM`, `VM@localhost` and `VM@HOST`.
    fn from_str(text: &str) -> Result<Target, Failure> {
        let (vm, host) = match text.split_once('@') {
            None => (text, None),
            Some((vm, host)) => (vm, Host::parse(host)?),
        };
        let vm = vm.parse().map_err(Failure::usage)?;
        Ok(Target { vm, host })
    }
}

/// Another host: a name, or an address as text, without the brackets of an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// Takes a name, an IPv4 address, and an IPv6 address in brackets or without; None is `localhost`.
    ///
    /// # Errors
    /// If it is none of these: a mistake in the command line.
    pub fn parse(text: &str) -> Result<Option<Host>, Failure> {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = inner {
            return match is_ipv6(address) {
                true => Ok(Some(Host(address.to_ascii_lowercase()))),
                false => Err(wrong(text, "the text in brackets is not an IPv6 address")),
            };
        }
        if is_ipv6(text) {
            return Ok(Some(Host(text.to_ascii_lowercase())));
        }
        let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if text.is_empty() {
            Err(wrong(text, "the name of a host is missing after the '@'"))
        } else if text.contains(':') {
            let why = "a port cannot be given here; set it in /etc/services, or with umldir_port and umlredir_port in [GLOBAL] of the file that -config names";
            Err(wrong(text, why))
        } else if !text.bytes().all(is_name) || text.starts_with('-') || text.len() > MAX_NAME {
            Err(wrong(
                text,
                "this is neither the name of a host nor an address",
            ))
        } else if text.eq_ignore_ascii_case("localhost") {
            Ok(None)
        } else {
            Ok(Some(Host(text.to_ascii_lowercase())))
        }
    }

    /// As text that a resolver takes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an address of this host, where a tunnel to another one may begin.
    pub fn is_loopback(&self) -> bool {
        self.0.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Accepts a zone, too: `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        None => (text, None),
        Some((address, zone)) => (address, Some(zone)),
    };
    let is_zone = |zone: &str| {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        !zone.is_empty() && zone.len() < 16 && zone.bytes().all(fits)
    };
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

fn wrong(text: &str, why: &str) -> Failure {
    Failure::usage(format_args!("'@{text}': {why}"))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::Exit;

    fn host(text: &str) -> Option<String> {
        let target: Target = text.parse().unwrap();
        assert_eq!(target.vm.as_str(), "vm1");
        target.host.map(|host| host.to_string())
    }

    #[test]
    fn this_host_and_others() {
        for here in ["vm1", "vm1@localhost", "vm1@LocalHost"] {
            assert_eq!(host(here), None, "{here}");
        }
        for (text, expected) in [
            ("vm1@Host.Example.org", "host.example.org"),
            ("vm1@host_2", "host_2"),
            ("vm1@127.0.0.1", "127.0.0.1"),
            ("vm1@::1", "::1"),
            ("vm1@[2001:DB8::1]", "2001:db8::1"),
            ("vm1@[fe80::1%eth0]", "fe80::1%eth0"),
            ("vm1@fe80::1%eth0", "fe80::1%eth0"),
        ] {
            assert_eq!(host(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = format!("vm1@{}", "a".repeat(254));
        for bad in [
            "vm1@",
            "vm1@host:4711",
            "vm1@[host]",
            "vm1@[::1",
            "vm1@::1]",
            "vm1@a@b",
            "vm1@-host",
            "vm1@a b",
            "vm1@a/b",
            "vm1@fe80::1%",
            "vm1@fe80::1%a/b",
            "@host",
            "../x@host",
            &long,
        ] {
            let failure = bad.parse::<Target>().unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}: {failure}");
        }
        let failure = "vm1@host:4711".parse::<Target>().unwrap_err();
        assert!(failure.message.contains("umldir_port"), "{failure}");
    }

    #[test]
    fn a_tunnel_begins_at_a_loopback_address() {
        let is_loopback = |text: &str| Host::parse(text).unwrap().unwrap().is_loopback();
        assert!(is_loopback("127.0.0.2") && is_loopback("[::1]"));
        assert!(!is_loopback("10.0.0.1") && !is_loopback("host"));
    }
}
