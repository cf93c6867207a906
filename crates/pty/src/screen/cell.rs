//! A cell of the screen: 8 bytes in memory, and its properties for users of the screen. Part of the screen model in the
//! umlmon daemon.

use super::charset::{self, Map};
use super::glyph;
use super::unicode::{VARIATION_SELECTOR_16, ZERO_WIDTH_SPACE, width};

/// A cell: the first word has the code in bits 0-20, the [`Kind`] in 21-23, and the attribute that the console hardware
/// would get in 24-31. The second is the style that the guest asked for, of which the attribute is what the kernel
/// makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    word: u32,
    style: Packed,
}

/// How the code became what is seen. The kernel keeps code and glyph, from which this can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is the character itself.
    Unicode,
    /// A blank is seen: the second half of a wide character, or what was combined with one.
    Padding,
    /// It is a byte, which was looked up; with [`META`], as if its high bit were set.
    Byte(Map),
    /// DECALN: an `E` is seen, a blank remembered.
    Alignment,
}

/// Stands in the code of a byte that was looked up with its high bit set (SGR 12).
pub(super) const META: u32 = 0x100;

const CODE: u32 = 0x1f_ffff;
const KIND_SHIFT: u32 = 21;
const ATTRIBUTE_SHIFT: u32 = 24;

/// A style in 24 bits: colours in 9 bits each (256 is the default), intensity in 2, and four flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed(u32);

/// A flag of a [`Packed`] style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Italic = 20,
    Underline = 21,
    Blink = 22,
    Reverse = 23,
}

const DEFAULT_COLOUR: u32 = 256;
const COLOUR: u32 = 0x1ff;
const BACKGROUND_SHIFT: u32 = 9;
const INTENSITY_SHIFT: u32 = 18;

/// What a cell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The character to show: never a control character; a blank in the second half of a wide one.
    pub character: char,
    /// What /dev/vcsuN shows. The byte as the guest wrote it, if it stood for another character at that time (line
    /// drawing); U+200B in the second half of a wide character.
    pub code: u32,
    /// The first half of a wide character. The cell after it shows a blank, unless something else was written there.
    pub wide: bool,
    /// The position in the font, as /dev/vcsaN shows it with the kernel's own font.
    pub glyph: u8,
    /// The attribute, as /dev/vcsaN shows it: foreground in bits 0-2, bright in 3, background in 4-6, and 7.
    pub attribute: u8,
    /// What the guest asked for, for terminals that can do more than the console.
    pub style: Style,
}

/// Colours and attributes as the guest asked for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an attribute that is set by itself"
)]
pub struct Style {
    /// Of the character.
    pub foreground: Colour,
    /// Of the cell.
    pub background: Colour,
    /// SGR 1, 2, 22.
    pub intensity: Intensity,
    /// SGR 3.
    pub italic: bool,
    /// SGR 4, and 21, as the console has no double line.
    pub underline: bool,
    /// SGR 5.
    pub blink: bool,
    /// SGR 7.
    pub reverse: bool,
}

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// SGR 39 or 49.
    Default,
    /// One of 256: 16 of the palette, a cube, and greys. Of a true colour, the nearest.
    Indexed(u8),
}

/// How bright characters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intensity {
    /// SGR 22.
    Normal,
    /// SGR 1.
    Bold,
    /// SGR 2.
    Half,
}

impl Stored {
    /// A cell without a character.
    pub(super) fn ink(attribute: u8, style: Packed) -> Self {
        Self {
            word: u32::from(attribute) << ATTRIBUTE_SHIFT,
            style,
        }
    }

    /// The same with a character.
    pub(super) fn with(self, code: u32, kind: Kind) -> Self {
        Self {
            word: self.word | (code & CODE) | (kind.number() << KIND_SHIFT),
            style: self.style,
        }
    }

    /// The same with a character of ASCII.
    pub(super) fn with_ascii(self, byte: u8) -> Self {
        Self {
            word: self.word | u32::from(byte),
            style: self.style,
        }
    }

    /// The same without its character.
    pub(super) fn bare(self) -> Self {
        Self {
            word: self.word >> ATTRIBUTE_SHIFT << ATTRIBUTE_SHIFT,
            style: self.style,
        }
    }

    /// What the kernel remembers.
    pub(super) fn code(self) -> u32 {
        match self.kind() {
            Kind::Byte(_) => self.word & 0xff,
            _ => self.word & CODE,
        }
    }

    pub(super) fn kind(self) -> Kind {
        Kind::of(self.word >> KIND_SHIFT & 7)
    }

    pub(super) fn attribute(self) -> u8 {
        let [.., attribute] = self.word.to_le_bytes();
        attribute
    }

    pub(super) fn style(self) -> Packed {
        self.style
    }

    /// The same with the colours exchanged, as DECSCNM does.
    pub(super) fn inverted(self) -> Self {
        let a = self.attribute();
        let inverted = (a & 0x88) | (a >> 4 & 0x07) | (a & 0x07) << 4;
        Self {
            word: self.word & !(0xff << ATTRIBUTE_SHIFT) | u32::from(inverted) << ATTRIBUTE_SHIFT,
            style: self.style,
        }
    }

    pub(super) fn is_padding(self) -> bool {
        self.kind() == Kind::Padding
    }

    /// Whether it can have been written together with the first half of a wide character.
    pub(super) fn is_half_of(self, first: Self) -> bool {
        let together = self.bare() == first.bare() || self.code() != ZERO_WIDTH_SPACE;
        self.is_padding() && together
    }

    /// A blank that made an emoji wide.
    pub(super) fn is_selector(self) -> bool {
        self.is_padding() && self.code() == VARIATION_SELECTOR_16
    }

    /// The first half of a wide character.
    pub(super) fn is_wide(self) -> bool {
        self.kind() == Kind::Unicode && width(self.code()) == 2
    }

    /// The character that the console looks up in its font.
    fn translated(self) -> u32 {
        let [low, ..] = self.word.to_le_bytes();
        match self.kind() {
            Kind::Unicode => self.word & CODE,
            Kind::Padding => ' '.into(),
            Kind::Byte(map) if self.word & META == 0 => map.translate(low),
            Kind::Byte(map) => map.translate(low | 0x80),
            Kind::Alignment => 'E'.into(),
        }
    }

    /// The character to show.
    pub(super) fn character(self) -> char {
        charset::visible(self.translated(), matches!(self.kind(), Kind::Byte(_)))
    }

    pub(super) fn glyph(self) -> u8 {
        glyph::glyph(self.translated(), matches!(self.kind(), Kind::Byte(_)))
    }

    pub(super) fn cell(self) -> Cell {
        Cell {
            character: self.character(),
            code: self.code(),
            wide: self.is_wide(),
            glyph: self.glyph(),
            attribute: self.attribute(),
            style: self.style.unpacked(),
        }
    }
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::Unicode => 0,
            Self::Padding => 1,
            Self::Byte(Map::Latin1) => 2,
            Self::Byte(Map::Graphics) => 3,
            Self::Byte(Map::Ibm) => 4,
            Self::Byte(Map::User) => 5,
            Self::Alignment => 6,
        }
    }

    fn of(number: u32) -> Self {
        match number {
            0 => Self::Unicode,
            1 => Self::Padding,
            2 => Self::Byte(Map::Latin1),
            3 => Self::Byte(Map::Graphics),
            4 => Self::Byte(Map::Ibm),
            5 => Self::Byte(Map::User),
            _ => Self::Alignment,
        }
    }
}

impl Packed {
    /// Default colours, nothing special.
    pub(super) const PLAIN: Self = Self(DEFAULT_COLOUR | DEFAULT_COLOUR << BACKGROUND_SHIFT);

    pub(super) fn set_foreground(&mut self, colour: Colour) {
        self.0 = self.0 & !COLOUR | colour.number();
    }

    pub(super) fn set_background(&mut self, colour: Colour) {
        self.0 = self.0 & !(COLOUR << BACKGROUND_SHIFT) | colour.number() << BACKGROUND_SHIFT;
    }

    pub(super) fn set_intensity(&mut self, intensity: Intensity) {
        let number = match intensity {
            Intensity::Normal => 0,
            Intensity::Bold => 1,
            Intensity::Half => 2,
        };
        self.0 = self.0 & !(3 << INTENSITY_SHIFT) | number << INTENSITY_SHIFT;
    }

    pub(super) fn set(&mut self, flag: Flag, on: bool) {
        self.0 = self.0 & !(1 << flag as u32) | u32::from(on) << flag as u32;
    }

    /// What is left of it in a cell that is erased.
    pub(super) fn erased(self) -> Self {
        let colours = COLOUR | COLOUR << BACKGROUND_SHIFT;
        Self(self.0 & (colours | 1 << Flag::Blink as u32))
    }

    pub(super) fn unpacked(self) -> Style {
        let flag = |flag: Flag| self.0 >> flag as u32 & 1 == 1;
        Style {
            foreground: Colour::of(self.0 & COLOUR),
            background: Colour::of(self.0 >> BACKGROUND_SHIFT & COLOUR),
            intensity: match self.0 >> INTENSITY_SHIFT & 3 {
                0 => Intensity::Normal,
                1 => Intensity::Bold,
                _ => Intensity::Half,
            },
            italic: flag(Flag::Italic),
            underline: flag(Flag::Underline),
            blink: flag(Flag::Blink),
            reverse: flag(Flag::Reverse),
        }
    }
}

impl Colour {
    fn number(self) -> u32 {
        match self {
            Self::Default => DEFAULT_COLOUR,
            Self::Indexed(index) => index.into(),
        }
    }

    fn of(number: u32) -> Self {
        u8::try_from(number).map_or(Self::Default, Self::Indexed)
    }
}
