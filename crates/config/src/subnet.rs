//! Addresses for networks that the suite makes, the parameter `nat_pool`. Used by every program.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::names::{as_text, number};

/// An IPv4 network of 256 addresses or more, as 10.86.0.0/16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    first: u32,
    prefix: u8,
}

impl Subnet {
    /// Where networks get their addresses, if nothing else is configured.
    pub(crate) const DEFAULT: &str = "10.86.0.0/16";
    /// The length of the prefix of a network of VMs.
    const OF_ONE: u8 = 24;

    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The address at this distance from the first one.
    pub fn address(self, distance: u8) -> Ipv4Addr {
        Ipv4Addr::from(self.first | u32::from(distance))
    }

    /// The networks of 256 addresses in it, in ascending order.
    pub fn parts(self) -> impl Iterator<Item = Subnet> {
        let count = 1u32 << (Self::OF_ONE - self.prefix);
        (0..count).map(move |n| Subnet {
            first: self.first | n << (32 - Self::OF_ONE),
            prefix: Self::OF_ONE,
        })
    }

    /// Whether an address is in both this and another network, which may be a single address.
    pub fn overlaps(self, other: Ipv4Addr, prefix: u8) -> bool {
        let mask = mask(self.prefix.min(prefix));
        self.first & mask == u32::from(other) & mask
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0)
}

impl Default for Subnet {
    /// The one of umlmon(5).
    fn default() -> Self {
        Subnet {
            first: 10 << 24 | 86 << 16,
            prefix: 16,
        }
    }
}

impl FromStr for Subnet {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why| Error::value("an IPv4 network", text, why);
        let form = "it must be ADDRESS/BITS with 8 to 24 bits, as 10.86.0.0/16";
        let (address, prefix) = text.split_once('/').ok_or_else(|| bad(form))?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad(form))?;
        let prefix = number(prefix, 8, Self::OF_ONE).map_err(|_| bad(form))?;
        let first = u32::from(address);
        if first & !mask(prefix) != 0 {
            return Err(bad("the address must be the first one of the network"));
        }
        if address.is_loopback() || address.is_multicast() || address.octets()[0] == 0 {
            return Err(bad("VMs cannot have these addresses"));
        }
        Ok(Subnet { first, prefix })
    }
}

as_text!(Subnet);

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::refusal;

    #[test]
    fn networks_and_their_parts() {
        let pool: Subnet = Subnet::DEFAULT.parse().unwrap();
        assert_eq!(pool, Subnet::default());
        let parts: Vec<String> = pool.parts().map(String::from).collect();
        assert_eq!(parts.len(), 256);
        assert_eq!(
            (parts[0].as_str(), parts[255].as_str()),
            ("10.86.0.0/24", "10.86.255.0/24")
        );
        let one: Subnet = "10.86.7.0/24".parse().unwrap();
        assert_eq!(one.parts().collect::<Vec<_>>(), [one]);
        assert_eq!(one.address(254), Ipv4Addr::new(10, 86, 7, 254));
    }

    #[test]
    fn what_overlaps() {
        let one: Subnet = "10.86.7.0/24".parse().unwrap();
        let overlaps = |text: &str, prefix| one.overlaps(text.parse().unwrap(), prefix);
        assert!(overlaps("10.86.7.9", 32) && overlaps("10.0.0.0", 8) && overlaps("0.0.0.0", 0));
        assert!(!overlaps("10.86.8.0", 24) && !overlaps("10.86.6.255", 32));
    }

    #[test]
    fn wrong_ones() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/25",
            "10.0.0.0/7",
            "10.0.0.0/+8",
            "10.0/16",
            "::/8",
        ] {
            assert!(refusal::<Subnet>(text).contains("ADDRESS/BITS"), "{text}");
        }
        assert!(refusal::<Subnet>("10.86.0.1/16").contains("first one"));
        for text in ["127.0.0.0/16", "224.0.0.0/24", "0.0.0.0/8"] {
            assert!(refusal::<Subnet>(text).contains("VMs cannot"), "{text}");
        }
    }
}
