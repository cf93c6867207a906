//! How connections from other hosts are protected: values of `[GLOBAL]`. Used by umlmon and umlweb.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::values::one_of;

/// Whether clients must seal their messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPolicy {
    /// Clients that do not are rejected.
    Require,
    /// They may, but need not.
    Allow,
}

impl FromStr for SealPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [
            ("require", SealPolicy::Require),
            ("allow", SealPolicy::Allow),
        ];
        one_of("a rule for seals", text, &words)
    }
}

/// Which versions of the authentication are accepted?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthPolicy {
    /// Both: version 1 gives an eavesdropper data on which to try passwords.
    Any,
    /// Version 2 alone.
    Strong,
}

impl FromStr for AuthPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [("any", AuthPolicy::Any), ("strong", AuthPolicy::Strong)];
        one_of("a rule for logins", text, &words)
    }
}

/// A name of a host as a client may give it: for DNS, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromStr for HostName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"-._:%".contains(&c);
        if text.is_empty() || text.len() > 253 || !text.bytes().all(fits) {
            return Err(Error::value(
                "a name of a host",
                text,
                "it must be a name of DNS or an address, without brackets and port",
            ));
        }
        Ok(HostName(text.to_ascii_lowercase()))
    }
}

/// Where the web interface listens: an address and a port.
pub(crate) fn web_address(text: &str) -> Result<SocketAddr> {
    let why = "it must be like 127.0.0.1:8873 or [::1]:8873";
    let wrong = || Error::value("an address and a port", text, why);
    let address: SocketAddr = text.parse().map_err(|_| wrong())?;
    match address.port() {
        0 => Err(wrong()),
        _ => Ok(address),
    }
}

/// Is there TLS around connections from other hosts?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// It is not offered.
    Off,
    /// Clients may ask for it.
    Allow,
    /// Connections without it are rejected.
    Require,
}

impl FromStr for TlsPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [
            ("off", TlsPolicy::Off),
            ("allow", TlsPolicy::Allow),
            ("require", TlsPolicy::Require),
        ];
        one_of("a rule for TLS", text, &words)
    }
}
