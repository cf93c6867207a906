//! The one key of a connected terminal that is not for the guest.

/// CTRL-] leaves.
const LEAVE: u8 = 0x1d;
/// CTRL-V passes the key after it on.
const QUOTE: u8 = 0x16;

/// What has been typed before, as far as it matters.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    quoted: bool,
}

impl Keys {
    /// The part of the keys that is for the guest, and whether the user leaves after it.
    pub(crate) fn take<'k>(&mut self, keys: &'k [u8]) -> (&'k [u8], bool) {
        for (n, key) in keys.iter().enumerate() {
            let quoted = self.quoted;
            self.quoted = *key == QUOTE && !quoted;
            if *key == LEAVE && !quoted {
                return (keys.get(..n).unwrap_or_default(), true);
            }
        }
        (keys, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_can_be_quoted() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(keys.take(b"a\x1db"), (&b"a"[..], true));
        assert_eq!(keys.take(b"\x16\x1d"), (&b"\x16\x1d"[..], false));
        assert_eq!(keys.take(b"x\x16"), (&b"x\x16"[..], false));
        assert_eq!(
            keys.take(b"\x1dy"),
            (&b"\x1dy"[..], false),
            "quoted across two reads"
        );
        assert_eq!(
            keys.take(b"\x16\x16\x1d"),
            (&b"\x16\x16"[..], true),
            "a quoted CTRL-V quotes nothing"
        );
    }
}
