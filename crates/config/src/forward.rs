//! A port of the host that is forwarded to a VM, in `user(forward=...)` and `nat(forward=...)`. Used by every program.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::names::{as_text, number};
use crate::values::one_of;

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `tcp`, the usual one.
    Tcp,
    /// `udp`.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// `[tcp:|udp:][ADDRESS:]PORT:PORT`: what comes to a port of the host goes to a port of the guest. Displays with all of
/// its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Forward {
    /// The protocol of both ports.
    pub protocol: Protocol,
    /// The address and the port of the host: 127.0.0.1 unless another address is given.
    pub host: SocketAddrV4,
    /// The port of the guest.
    pub guest: u16,
}

impl FromStr for Forward {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let form = "it must be [tcp:|udp:][ADDRESS:]PORT:PORT, the port of the host first";
        let bad = || Error::value("a forwarded port", text, form);
        let words = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
        let (protocol, rest) = match text.split_once(':') {
            Some((word, rest)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                (one_of("a protocol", word, &words)?, rest)
            }
            _ => (Protocol::Tcp, text),
        };
        let (rest, guest) = rest.rsplit_once(':').ok_or_else(bad)?;
        let (address, port) = match rest.rsplit_once(':') {
            Some((address, _)) if address.contains(':') => {
                let why = "the address must be one of IP version 4, such as 127.0.0.1";
                return Err(Error::value("a forwarded port", text, why));
            }
            Some((address, port)) => (address.parse().map_err(|_| bad())?, port),
            None => (Ipv4Addr::LOCALHOST, rest),
        };
        Ok(Forward {
            protocol,
            host: SocketAddrV4::new(address, number(port, 1, u16::MAX)?),
            guest: number(guest, 1, u16::MAX)?,
        })
    }
}

as_text!(Forward);

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.protocol, self.host, self.guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::refusal;

    #[test]
    fn all_forms_and_none_else() {
        for (text, full) in [
            ("2222:22", "tcp:127.0.0.1:2222:22"),
            ("udp:5353:53", "udp:127.0.0.1:5353:53"),
            ("0.0.0.0:8080:80", "tcp:0.0.0.0:8080:80"),
            ("tcp:10.0.0.1:1:65535", "tcp:10.0.0.1:1:65535"),
        ] {
            let forward: Forward = text.parse().unwrap();
            assert_eq!(forward.to_string(), full);
            assert_eq!(full.parse::<Forward>().unwrap(), forward);
        }
        for bad in [
            "",
            "22",
            "0:22",
            "22:",
            ":22",
            "65536:22",
            "1:2:3",
            "[::1]:1:2",
            "1.2.3:4:5",
        ] {
            refusal::<Forward>(bad);
        }
        assert!(refusal::<Forward>("upd:1:2").contains("tcp or udp"));
        assert!(refusal::<Forward>("22").contains("PORT:PORT"));
        for address in ["[::1]", "::", "fd00::1"] {
            let said = refusal::<Forward>(&format!("udp:{address}:1:2"));
            assert!(said.contains("IP version 4"), "{said}");
        }
    }
}
