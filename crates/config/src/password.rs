//! Passwords of TCP connections. Only the MD5 sum is kept, and nothing shows it by accident. umlmon checks with it,
//! umladmin prints it.

use std::fmt;

use md5::{Digest, Md5};

use crate::error::{Error, Result};

/// The MD5 sum of a password, which is the key of the authentication; both ways to configure a password lead to it.
/// `Debug` and `Display` do not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; 16]);

impl Password {
    /// The password as a person types it, even if it looks like an MD5 sum. The empty one is refused.
    pub fn from_clear(clear: &str) -> Result<Password> {
        if clear.is_empty() {
            return Err(Error::Conflict("an empty password is not accepted".into()));
        }
        Ok(Password(Md5::digest(clear.as_bytes()).into()))
    }

    /// The password as it is configured: 32 hex digits are the MD5 sum, anything else is clear text (umlmon(5)).
    pub fn from_config(text: &str) -> Result<Password> {
        from_hex(text).map_or_else(|| Password::from_clear(text), |key| Ok(Password(key)))
    }

    /// The password with this MD5 sum.
    pub fn from_md5(sum: [u8; 16]) -> Password {
        Password(sum)
    }

    /// 32 hex digits, as the configuration files take them. As good as the password: do not show it.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key of the authentication.
    pub fn key(&self) -> &[u8; 16] {
        &self.0
    }
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
        assert_eq!(password.to_hex(), sum);
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
    fn empty_is_refused_and_nothing_is_shown() {
        assert!(Password::from_clear("").is_err());
        assert!(Password::from_config("").is_err());
        let password = Password::from_clear("abc").unwrap();
        assert_eq!(format!("{password:?} {password}"), "Password(set) (set)");
    }
}
