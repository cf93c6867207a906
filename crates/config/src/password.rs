//! Passwords of TCP connections, in the three forms in which they can be configured. Clear text is kept as its MD5 sum,
//! and nothing shows any of it by accident. umlmon checks with it, umladmin prints it.

use std::fmt;

use base64ct::{Base64Unpadded, Encoding as _};
use md5::{Digest, Md5};

use crate::error::{Error, Result};

/// What a verifier begins with. Behind it stand the number of its stretching, a `$`, and its bytes in base64.
const PREFIX: &str = "$opaque$";

/// Bytes of a verifier.
const VERIFIER_LENGTH: usize = 320;

/// A password as the configuration has it. `Debug` and `Display` do not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The MD5 sum of a password. It is enough to log in, so it must be kept secret.
    Md5([u8; 16]),
    /// The value with which a password can be checked. It is not enough to log in.
    Verifier(Box<Verifier>),
}

/// What a password can be checked with; the authentication knows what it means.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// The number of the key stretching function.
    pub stretch: u32,
    /// What is stored of OPAQUE.
    pub bytes: [u8; VERIFIER_LENGTH],
}

impl Password {
    /// The password as a person types it, even if it looks like one of the other forms. The empty one is refused.
    pub fn from_clear(clear: &str) -> Result<Password> {
        if clear.is_empty() {
            return Err(Error::Conflict("an empty password is not accepted".into()));
        }
        Ok(Password::Md5(Md5::digest(clear.as_bytes()).into()))
    }

    /// The password as it is configured: 32 hex digits are the MD5 sum, what begins like a verifier is one, anything
    /// else is clear text (umlmon(5)).
    pub fn from_config(text: &str) -> Result<Password> {
        if let Some(rest) = text.strip_prefix(PREFIX) {
            let verifier = verifier(rest).ok_or_else(|| {
                let text = "it begins like a verifier, but is none; umladmin password -verifier prints one";
                Error::Conflict(text.into())
            })?;
            return Ok(Password::Verifier(Box::new(verifier)));
        }
        from_hex(text).map_or_else(|| Password::from_clear(text), |sum| Ok(Password::Md5(sum)))
    }

    /// As the configuration files take it: 32 hex digits, or a verifier. Do not show it.
    pub fn to_text(&self) -> String {
        match self {
            Password::Md5(sum) => sum.iter().map(|byte| format!("{byte:02x}")).collect(),
            Password::Verifier(verifier) => {
                let bytes = Base64Unpadded::encode_string(&verifier.bytes);
                format!("{PREFIX}{}${bytes}", verifier.stretch)
            }
        }
    }
}

/// What stands behind the prefix.
fn verifier(text: &str) -> Option<Verifier> {
    let (stretch, bytes) = text.split_once('$')?;
    let bytes = Base64Unpadded::decode_vec(bytes).ok()?;
    Some(Verifier {
        stretch: stretch.parse().ok()?,
        bytes: bytes.try_into().ok()?,
    })
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let all_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| all_hex)?;
    Some(number.to_be_bytes())
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(set)")
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_and_md5_sum_are_the_same_password() {
        // RFC 1321, A.5
        let sum = "900150983cd24fb0d6963f7d28e17f72";
        let password = Password::from_clear("abc").unwrap();
        assert_eq!(password.to_text(), sum);
        assert_eq!(Password::from_config("abc").unwrap(), password);
        assert_eq!(
            Password::from_config(&sum.to_uppercase()).unwrap(),
            password
        );
        assert_ne!(Password::from_clear(sum).unwrap(), password);
        let plus = format!("+{}", &sum[1..]);
        assert_eq!(
            Password::from_config(&plus).unwrap(),
            Password::from_clear(&plus).unwrap()
        );
    }

    #[test]
    fn a_verifier_is_one_as_a_whole_or_refused() {
        let verifier = Password::Verifier(Box::new(Verifier {
            stretch: 1,
            bytes: std::array::from_fn(|at| at.to_be_bytes()[7]),
        }));
        let text = verifier.to_text();
        assert!(text.starts_with("$opaque$1$AAEC"));
        assert_eq!(Password::from_config(&text).unwrap(), verifier);
        let long = format!("{text}A");
        for bad in [&text[..text.len() - 1], &long, "$opaque$", "$opaque$x$AAEC"] {
            let refused = Password::from_config(bad).unwrap_err().to_string();
            assert!(refused.contains("umladmin password -verifier"), "{refused}");
            assert!(!refused.contains("AAEC"), "{refused}");
        }
        // Typed, it is a password like any other.
        assert!(matches!(
            Password::from_clear(&text).unwrap(),
            Password::Md5(_)
        ));
        assert_eq!(
            Password::from_config("$opaque").unwrap().to_text().len(),
            32
        );
    }

    #[test]
    fn empty_is_refused_and_nothing_is_shown() {
        assert!(Password::from_clear("").is_err());
        assert!(Password::from_config("").is_err());
        let password = Password::from_clear("abc").unwrap();
        assert_eq!(format!("{password:?} {password}"), "Password(set) (set)");
    }
}
