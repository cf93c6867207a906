//! What bytes mean while UTF-8 is off, or control characters are displayed. Part of the screen model in the umlmon
//! daemon.

/// A table of 256 characters, which ESC ( and ESC ) choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    /// `B`: ISO 8859-1.
    Latin1,
    /// `0`: the line drawing characters of the VT100.
    Graphics,
    /// `U`: code page 437.
    Ibm,
    /// `K`: a table that the user may load. It cannot be loaded here; it means the positions of the font.
    User,
}

impl Map {
    /// The map that a letter after ESC ( or ESC ) stands for.
    pub(super) fn of(letter: u8) -> Option<Self> {
        match letter {
            b'B' => Some(Self::Latin1),
            b'0' => Some(Self::Graphics),
            b'U' => Some(Self::Ibm),
            b'K' => Some(Self::User),
            _ => None,
        }
    }

    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Latin1 => b'B',
            Self::Graphics => b'0',
            Self::Ibm => b'U',
            Self::User => b'K',
        }
    }

    pub(super) fn translate(self, byte: u8) -> u32 {
        match self {
            Self::Latin1 => byte.into(),
            Self::Graphics => graphics(byte).map_or(byte.into(), u32::from),
            Self::Ibm => ibm(byte).into(),
            Self::User => DIRECT | u32::from(byte),
        }
    }
}

/// Characters from here on, 256 of them, are positions in the font.
pub(super) const DIRECT: u32 = 0xf000;

fn graphics(byte: u8) -> Option<char> {
    Some(match byte {
        b'+' => '→',
        b',' => '←',
        b'-' => '↑',
        b'.' => '↓',
        b'0' => '█',
        b'_' => '\u{a0}',
        b'`'..=b'~' => {
            let shapes = "◆▒␉␌␍␊°±░␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·";
            shapes.chars().nth(usize::from(byte - b'`'))?
        }
        _ => return None,
    })
}

fn ibm(byte: u8) -> char {
    let shapes = match byte {
        0..=0x1f => "\0☺☻♥♦♣♠•◘○◙♂♀♪♫☼▶◀↕‼¶§▬↨↑↓→←∟↔▲▼",
        0x20..=0x7e => return char::from(byte),
        0x7f => return '⌂',
        0x80..=0x9f => "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ",
        0xa0..=0xbf => "áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
        0xc0..=0xdf => "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀",
        0xe0..=0xff => "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
    };
    shapes.chars().nth(usize::from(byte & 0x1f)).unwrap_or(' ')
}

/// The character to show for what the console looks up in its font: itself, unless it is a control character or a
/// position in the font. `byte`: it was a byte, not UTF-8.
pub(super) fn visible(translated: u32, byte: bool) -> char {
    let shown = match translated {
        DIRECT..0xf100 => Some(ibm(translated.to_le_bytes()[0])),
        0..0x20 | 0x7f..0xa0 if byte => Some(ibm(translated.to_le_bytes()[0])),
        0..0x20 | 0x7f..0xa0 => None,
        // A soft hyphen; the console shows it, as it does not hyphenate.
        0xad if byte => Some('-'),
        _ => char::from_u32(translated),
    };
    match shown {
        Some('\0') => ' ',
        Some(character) => character,
        None => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_that_can_be_shown() {
        for map in [Map::Latin1, Map::Graphics, Map::Ibm, Map::User] {
            assert_eq!(Map::of(map.letter()), Some(map));
            for byte in 0..=255 {
                let shown = visible(map.translate(byte), true);
                assert!(!shown.is_control(), "{map:?} {byte}");
            }
        }
        assert_eq!(ibm(0xff), '\u{a0}');
        assert_eq!(ibm(0x1f), '▼');
        assert_eq!(graphics(b'~'), Some('·'));
        assert_eq!(visible(Map::User.translate(0xc4), true), '─');
    }
}
