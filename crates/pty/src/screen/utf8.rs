//! UTF-8 as the console decodes it. Part of the screen model in the umlmon daemon.

use super::unicode::REPLACEMENT;

/// The character that is being put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Utf8 {
    /// How many bytes are still to come.
    pub(super) left: u8,
    /// How many bytes have come after the first.
    pub(super) come: u8,
    /// The bits of these bytes.
    pub(super) value: u32,
}

/// The effect of a byte of UTF-8.
pub(super) enum Decoded {
    /// More bytes are to come.
    Nothing,
    Character(u32),
    /// An invalid sequence. `again`: the byte does not belong to it.
    Bad {
        again: bool,
    },
}

impl Utf8 {
    /// Takes the next byte.
    pub(super) fn take(&mut self, byte: u8) -> Decoded {
        if byte & 0xc0 == 0x80 {
            return self.take_continuation(byte);
        }
        if self.left > 0 {
            *self = Self::default();
            return Decoded::Bad { again: true };
        }
        let (left, bits) = match byte {
            0..0x80 => return Decoded::Character(byte.into()),
            0xc0..0xe0 => (1, byte & 0x1f),
            0xe0..0xf0 => (2, byte & 0x0f),
            0xf0..0xf8 => (3, byte & 0x07),
            _ => return Decoded::Bad { again: false },
        };
        *self = Self {
            left,
            come: 0,
            value: bits.into(),
        };
        Decoded::Nothing
    }

    fn take_continuation(&mut self, byte: u8) -> Decoded {
        let Some(left) = self.left.checked_sub(1) else {
            return Decoded::Bad { again: false };
        };
        self.value = self.value << 6 | u32::from(byte & 0x3f);
        self.come += 1;
        self.left = left;
        if left > 0 {
            return Decoded::Nothing;
        }
        let whole = std::mem::take(self);
        // Overlong sequences are not accepted.
        let needed = match whole.come {
            1 => 0x80..0x800,
            2 => 0x800..0x1_0000,
            _ => 0x1_0000..0x11_0000,
        };
        match whole.value {
            0xd800..0xe000 => Decoded::Character(REPLACEMENT),
            value if needed.contains(&value) => Decoded::Character(value),
            _ => Decoded::Bad { again: false },
        }
    }
}
