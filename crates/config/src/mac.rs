//! Hardware addresses of network interfaces, and the pool of them, as types. Used by every program.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::form::Form;
use crate::names::{as_text, number};
use crate::values::unknown_form;

/// A hardware (Ethernet) address of one interface, never a group address. Displays as `0A:12:BC:AF:32:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The six bytes in transmission order.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The address so many after this one; `None` where there is no such address of an interface.
    pub fn after(self, distance: u32) -> Option<MacAddr> {
        let bytes = (self.to_u64() + u64::from(distance)).to_be_bytes();
        let [0, 0, octets @ ..] = bytes else {
            return None;
        };
        MacAddr::from_octets(octets).ok()
    }

    /// An address from the six bytes in transmission order.
    ///
    /// # Errors
    /// If the bytes are not a valid address of an interface.
    pub fn from_octets(octets: [u8; 6]) -> Result<MacAddr> {
        let bad = |why| {
            Err(Error::value(
                "a MAC address",
                &MacAddr(octets).to_string(),
                why,
            ))
        };
        match octets {
            [0, 0, 0, 0, 0, 0] => bad("an interface cannot have it"),
            // The group bit of IEEE 802.
            [first, ..] if first & 1 != 0 => bad("it is a group address"),
            _ => Ok(MacAddr(octets)),
        }
    }

    fn to_u64(self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

impl FromStr for MacAddr {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why| Error::value("a MAC address", text, why);
        let form = || bad("it must have the form XX:XX:XX:XX:XX:XX with hex digits");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = part
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(form)?;
        }
        if parts.next().is_some() {
            return Err(form());
        }
        MacAddr::from_octets(octets)
    }
}

as_text!(MacAddr);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

/// How the hardware address of an interface is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HwAddr {
    /// `pool`: one from the pool.
    Pool,
    /// This one.
    Mac(MacAddr),
}

impl FromStr for HwAddr {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text == "pool" {
            Ok(HwAddr::Pool)
        } else {
            text.parse().map(HwAddr::Mac)
        }
    }
}

/// A range of hardware addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacPool {
    /// The lowest one.
    pub first: MacAddr,
    /// How many, 1 to 2^24; the last one has the same first octet.
    pub number: u32,
}

impl MacPool {
    /// The addresses in ascending order.
    pub fn addresses(self) -> impl Iterator<Item = MacAddr> {
        (0..self.number).filter_map(move |n| self.first.after(n))
    }

    /// Whether it contains this address.
    pub fn contains(self, address: MacAddr) -> bool {
        let distance = address.to_u64().checked_sub(self.first.to_u64());
        distance.is_some_and(|distance| distance < u64::from(self.number))
    }

    /// The range of umlmon(5), if no other is configured.
    pub(crate) const DEFAULT: &str = "mac_pool(first_mac_address=0A:12:BC:AF:32:00,number=256)";
}

impl Default for MacPool {
    /// The range of umlmon(5).
    fn default() -> Self {
        MacPool {
            first: MacAddr([0x0a, 0x12, 0xbc, 0xaf, 0x32, 0]),
            number: 256,
        }
    }
}

impl FromStr for MacPool {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut form = Form::parse(text)?;
        if form.name != "mac_pool" {
            return Err(unknown_form(form.name, &["mac_pool"]));
        }
        let first: MacAddr = form.required("first_mac_address")?;
        let count = form.read("number", |n| number(n, 1u32, 1 << 24))?;
        let number = form.present("number", count)?;
        form.finish()?;
        let last = first.to_u64() + u64::from(number) - 1;
        if last >> 40 != first.to_u64() >> 40 {
            return Err(Error::Conflict(
                "the pool would contain addresses of another kind".into(),
            ));
        }
        Ok(MacPool { first, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::refusal;

    #[test]
    fn addresses() {
        assert_eq!(
            "0a:12:BC:af:32:00".parse::<MacAddr>().unwrap().to_string(),
            "0A:12:BC:AF:32:00"
        );
        let bad = [
            "",
            "0A:12:BC:AF:32",
            "0A:12:BC:AF:32:00:00",
            "A:12:BC:AF:32:00",
            "+A:12:BC:AF:32:00",
            "0A-12-BC-AF-32-00",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
        ];
        for text in bad {
            refusal::<MacAddr>(text);
        }
    }

    #[test]
    fn pools() {
        let pool: MacPool = MacPool::DEFAULT.parse().unwrap();
        assert_eq!(pool, MacPool::default());
        assert_eq!(
            (pool.first.to_string().as_str(), pool.number),
            ("0A:12:BC:AF:32:00", 256)
        );
        assert_eq!(pool.addresses().count(), 256);
        assert!(pool.addresses().all(|address| pool.contains(address)));
        assert!(!pool.contains("0A:12:BC:AF:33:00".parse().unwrap()));
        assert!(
            refusal::<MacPool>("mac_pool(first_mac_address=0A:12:BC:AF:32:00)")
                .contains("needs number=")
        );
        assert!(
            refusal::<MacPool>("mac_pool(first_mac_address=0A:12:BC:AF:32:00,number=0)")
                .contains("number:")
        );
        assert!(
            refusal::<MacPool>("mac_pool(first_mac_address=0A:FF:FF:FF:FF:FF,number=2)")
                .contains("another kind")
        );
    }
}
