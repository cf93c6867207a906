//! How connections from other hosts are protected: values of `[GLOBAL]`. Used by umlmon.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Must clients seal what they send?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPolicy {
    /// Those that do not are not let in.
    Require,
    /// They may.
    Allow,
}

impl FromStr for SealPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "require" => Ok(SealPolicy::Require),
            "allow" => Ok(SealPolicy::Allow),
            _ => Err(Error::value(
                "a rule for seals",
                text,
                "it must be require or allow",
            )),
        }
    }
}

/// Is there TLS around connections from other hosts?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// It is not offered.
    Off,
    /// Clients may ask for it.
    Allow,
    /// Those that do not are not let in.
    Require,
}

impl FromStr for TlsPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(TlsPolicy::Off),
            "allow" => Ok(TlsPolicy::Allow),
            "require" => Ok(TlsPolicy::Require),
            _ => Err(Error::value(
                "a rule for TLS",
                text,
                "it must be off, allow or require",
            )),
        }
    }
}
