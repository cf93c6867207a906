//! Where shared directories appear in a guest: arguments of its kernel, which the monitor gives and the helper reads.
//! The kernel ignores them, as they look like those of a module.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// How such an argument begins; the number of the share, `=` and the path follow.
const SHARE: &str = "umlmon.share";

/// The argument for a share of this number. Bytes of the path that could mean something to the kernel are written in
/// hexadecimal.
#[must_use]
pub fn share_argument(number: u8, path: &Path) -> String {
    let mut argument = format!("{SHARE}{number}=");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'+' => {
                argument.push(char::from(*byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(argument, "%{byte:02x}")),
        }
    }
    argument
}

/// The shares that the arguments of a kernel tell, by number. What is malformed is passed over.
#[must_use]
pub fn shares_in(arguments: &str) -> Vec<(u8, PathBuf)> {
    let share = |argument: &str| {
        let (number, path) = argument.strip_prefix(SHARE)?.split_once('=')?;
        let path = PathBuf::from(OsString::from_vec(plain(path)?));
        path.is_absolute().then_some((number.parse().ok()?, path))
    };
    arguments
        .split_ascii_whitespace()
        .filter_map(share)
        .collect()
}

fn plain(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut plain = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (byte, rest) = piece.split_at_checked(2)?;
        plain.push(u8::from_str_radix(byte, 16).ok()?);
        plain.extend_from_slice(rest.as_bytes());
    }
    (!plain.contains(&0)).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_carried_and_nothing_else_is_taken() {
        for path in ["/src", "/a b/%41\"", "/é=,\n"] {
            let argument = share_argument(3, path.as_ref());
            assert!(!argument.contains([' ', '"', ',', '\n']), "{argument}");
            let line = format!("root=/dev/ubda {argument} quiet\n");
            assert_eq!(shares_in(&line), [(3, path.into())]);
        }
        for bad in [
            "x=/a", "0", "0=a", "0=/%4", "0=/%zz", "0=/%00", "256=/a", "=/a",
        ] {
            assert_eq!(shares_in(&format!("{SHARE}{bad}")), [], "{bad}");
        }
    }
}
