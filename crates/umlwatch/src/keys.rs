//! The only key of a connected terminal that is not for the guest: the escape key, CTRL-] unless the user has chosen
//! another.
//!
//! Alone, it ends the session, as the manual of 2005 says. A key typed right after it changes its meaning.

use std::time::{Duration, Instant};

use cli::Failure;

/// For how long the escape key waits for the key after it.
const WAITS: Duration = Duration::from_millis(500);

/// Which key it is; None: there is none, and every key is for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escape(Option<u8>);

impl Default for Escape {
    fn default() -> Self {
        Escape(Some(0x1d))
    }
}

impl Escape {
    /// Reads `^]`, `^A` and the like, or `none`.
    ///
    /// # Errors
    /// A usage failure.
    pub fn parse(text: &str) -> Result<Escape, Failure> {
        match text.as_bytes() {
            b"none" => Ok(Escape(None)),
            [b'^', key @ (b'@'..=b'_' | b'a'..=b'z')] => Ok(Escape(Some(key & 0x1f))),
            _ => Err(Failure::usage(format_args!(
                "-escape: '{text}' is not a key such as ^] or ^A, nor 'none'"
            ))),
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> String {
        self.0.map_or_else(
            || "no key".to_owned(),
            |key| format!("CTRL-{}", char::from(key | 0x40)),
        )
    }
}

/// What the user wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To type this.
    Type(Vec<u8>),
    /// To end the session.
    Leave,
    /// To see which keys there are.
    Help,
}

/// The earlier keys, as far as they matter.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    escape: Escape,
    /// When the escape key was typed, as long as the key after it may still come.
    escaped: Option<Instant>,
}

impl Keys {
    pub(crate) fn new(escape: Escape) -> Keys {
        Keys {
            escape,
            escaped: None,
        }
    }

    /// What the keys mean, in their order. Nothing comes after [`Wish::Leave`].
    pub(crate) fn take(&mut self, keys: &[u8]) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut typed = Vec::new();
        for key in keys {
            match (self.escaped.take(), *key) {
                (None, key) if Some(key) == self.escape.0 => self.escaped = Some(Instant::now()),
                (None, key) => typed.push(key),
                (Some(_), key) if Some(key) == self.escape.0 => typed.push(key),
                (Some(_), b'?') => {
                    wishes.push(Wish::Type(std::mem::take(&mut typed)));
                    wishes.push(Wish::Help);
                }
                // A full stop, or a key that was typed before the wait was over.
                (Some(_), _) => {
                    wishes.push(Wish::Type(std::mem::take(&mut typed)));
                    wishes.push(Wish::Leave);
                    break;
                }
            }
        }
        wishes.push(Wish::Type(typed));
        wishes.retain(|wish| *wish != Wish::Type(Vec::new()));
        wishes
    }

    /// How long to wait for the key after the escape key; None: it was not typed.
    pub(crate) fn waits(&self) -> Option<Duration> {
        self.escaped
            .map(|since| WAITS.saturating_sub(since.elapsed()))
    }

    /// The escape key was typed, and none after it in time.
    pub(crate) fn leaves(&self) -> bool {
        self.waits() == Some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Wish {
        Wish::Type(text.into())
    }

    #[test]
    fn the_key_after_the_escape_key_says_what_it_means() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ls\r"), [typed("ls\r")]);
        assert_eq!(keys.waits(), None);
        assert_eq!(keys.take(b"a\x1d"), [typed("a")]);
        assert!(keys.waits().is_some_and(|left| left > Duration::ZERO));
        assert_eq!(keys.take(b"\x1d"), [typed("\x1d")], "across two reads");
        assert_eq!(keys.take(b"x\x1d\x1dy"), [typed("x\x1dy")]);
        assert_eq!(keys.take(b"a\x1d?b"), [typed("a"), Wish::Help, typed("b")]);
        assert_eq!(keys.take(b"a\x1d.b"), [typed("a"), Wish::Leave]);
        assert_eq!(keys.take(b"a\x1db"), [typed("a"), Wish::Leave]);
    }

    #[test]
    fn the_escape_key_alone_leaves() {
        let mut keys = Keys::default();
        keys.take(b"\x1d");
        assert!(!keys.leaves());
        keys.escaped = Instant::now().checked_sub(WAITS);
        assert!(keys.leaves());
    }

    #[test]
    fn it_can_be_another_key_or_none() {
        let mut keys = Keys::new(Escape::parse("^a").unwrap());
        assert_eq!(keys.take(b"\x1d\x01."), [typed("\x1d"), Wish::Leave]);
        let mut keys = Keys::new(Escape::parse("none").unwrap());
        assert_eq!(keys.take(b"\x1d."), [typed("\x1d.")]);
        assert_eq!(Escape::parse("^]").unwrap(), Escape::default());
        for bad in ["", "^", "]", "^1", "^]x", "escape"] {
            assert!(Escape::parse(bad).is_err(), "{bad}");
        }
    }
}
