//! Colours and attributes: SGR, and what the console makes of them. Part of the screen model in the umlmon daemon.

use super::cell::{Colour, Flag, Intensity, Packed, Stored};
use super::colour::{from_256, hardware, low, nearest, sgr_of_colours};

/// The colour that italic is shown in; nothing changes it.
const ITALIC: u8 = 2;

/// Settings that a reset of the terminal does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colours {
    /// SGR 0.
    pub(super) default: u8,
    /// What underlined text is shown in.
    pub(super) underline: u8,
    /// What half-bright text is shown in.
    pub(super) half: u8,
}

impl Colours {
    pub(super) const NEW: Self = Self {
        default: 7,
        underline: 3,
        half: 8,
    };
}

/// The style in which characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pen {
    /// Foreground in the low half, background in the high one.
    colour: u8,
    /// The kernel's, which colours change, too.
    intensity: Intensity,
    italic: bool,
    underline: bool,
    blink: bool,
    reverse: bool,
    /// What the guest asked for.
    style: Packed,
}

impl Pen {
    /// SGR 0.
    pub(super) fn new(default: u8) -> Self {
        Self {
            colour: default,
            intensity: Intensity::Normal,
            italic: false,
            underline: false,
            blink: false,
            reverse: false,
            style: Packed::PLAIN,
        }
    }

    pub(super) fn style(&self) -> Packed {
        self.style
    }

    /// The attribute of a character.
    pub(super) fn attribute(&self, colours: &Colours, inverse: bool) -> u8 {
        let mut a = self.colour;
        let instead = if self.italic {
            Some(ITALIC)
        } else if self.underline {
            Some(colours.underline)
        } else if self.intensity == Intensity::Half {
            Some(colours.half)
        } else {
            None
        };
        if let Some(colour) = instead {
            a = a & 0xf0 | colour;
        }
        if self.reverse != inverse {
            a = a & 0x88 | a >> 4 & 0x07 | a << 4 & 0x70;
        }
        if self.blink {
            a ^= 0x80;
        }
        if self.intensity == Intensity::Bold {
            a ^= 0x08;
        }
        a
    }

    /// A character is written with this.
    pub(super) fn ink(&self, colours: &Colours, inverse: bool) -> Stored {
        Stored::ink(self.attribute(colours, inverse), self.style)
    }

    /// What is erased becomes this.
    pub(super) fn blank(&self, colours: &Colours, inverse: bool) -> Stored {
        let erased = Self {
            intensity: Intensity::Normal,
            italic: false,
            underline: false,
            reverse: false,
            style: self.style.erased(),
            ..*self
        };
        erased.ink(colours, inverse).with_ascii(b' ')
    }

    /// Parameters of SGR for what the console makes of this, whatever was asked for.
    pub(super) fn without_style(&self, default: u8) -> String {
        let mut sgr = format!("0;{}", sgr_of_colours(self.colour));
        // Only the default colours have more than three bits.
        if self.colour & 0x0f == default & 0x0f {
            sgr += ";39";
        }
        if self.colour & 0xf0 == default & 0xf0 {
            sgr += ";49";
        }
        let on = [
            (self.intensity == Intensity::Bold, ";1"),
            (self.intensity == Intensity::Half, ";2"),
            (self.italic, ";3"),
            (self.underline, ";4"),
            (self.blink, ";5"),
            (self.reverse, ";7"),
        ];
        for (_, text) in on.iter().filter(|(on, _)| *on) {
            sgr += text;
        }
        sgr
    }

    /// Executes SGR; `font` is called for 10, 11 and 12.
    pub(super) fn sgr(&mut self, parameters: &[u32], default: u8, mut font: impl FnMut(u32)) {
        let mut rest = parameters;
        while let Some((&parameter, after)) = rest.split_first() {
            rest = after;
            match parameter {
                10..=12 => font(parameter),
                38 | 48 => rest = self.extended(parameter == 38, after),
                _ => self.set(parameter, default),
            }
        }
    }

    fn set(&mut self, parameter: u32, default: u8) {
        match parameter {
            0 => *self = Self::new(default),
            1 => self.set_intensity(Intensity::Bold),
            2 => self.set_intensity(Intensity::Half),
            22 => self.set_intensity(Intensity::Normal),
            3 | 23 => self.italic = self.flag(Flag::Italic, parameter == 3),
            4 | 21 | 24 => self.underline = self.flag(Flag::Underline, parameter != 24),
            5 | 25 => self.blink = self.flag(Flag::Blink, parameter == 5),
            7 | 27 => self.reverse = self.flag(Flag::Reverse, parameter == 7),
            30..=37 => self.foreground(parameter - 30, 0),
            90..=97 => {
                self.intensity = Intensity::Bold;
                self.foreground(parameter - 90, 8);
            }
            39 => {
                self.colour = default & 0x0f | self.colour & 0xf0;
                self.style.set_foreground(Colour::Default);
            }
            40..=47 => self.background(parameter - 40, 0),
            100..=107 => self.background(parameter - 100, 8),
            49 => {
                self.colour = default & 0xf0 | self.colour & 0x0f;
                self.style.set_background(Colour::Default);
            }
            _ => {}
        }
    }

    fn flag(&mut self, flag: Flag, on: bool) -> bool {
        self.style.set(flag, on);
        on
    }

    fn set_intensity(&mut self, intensity: Intensity) {
        self.intensity = intensity;
        self.style.set_intensity(intensity);
    }

    fn foreground(&mut self, colour: u32, bright: u8) {
        self.colour = hardware(colour) | self.colour & 0xf0;
        self.style
            .set_foreground(Colour::Indexed(low(colour) | bright));
    }

    fn background(&mut self, colour: u32, bright: u8) {
        self.colour = hardware(colour) << 4 | self.colour & 0x0f;
        self.style
            .set_background(Colour::Indexed(low(colour) | bright));
    }

    /// What follows 38 or 48; returns what follows that. Of a colour that is not complete only the first parameter is
    /// skipped.
    fn extended<'a>(&mut self, foreground: bool, parameters: &'a [u32]) -> &'a [u32] {
        let (rgb, index, rest) = match parameters {
            [5, index, rest @ ..] => (from_256(*index), low(*index), rest),
            [2, r, g, b, rest @ ..] => {
                let rgb = [*r, *g, *b].map(low);
                (rgb, nearest(rgb), rest)
            }
            [_, rest @ ..] => return rest,
            [] => return &[],
        };
        if foreground {
            self.rgb_foreground(rgb);
            self.style.set_foreground(Colour::Indexed(index));
        } else {
            let [r, g, b] = rgb;
            let bits = (r & 0x80) >> 1 | (g & 0x80) >> 2 | (b & 0x80) >> 3;
            self.colour = self.colour & 0x0f | bits;
            self.style.set_background(Colour::Indexed(index));
        }
        rest
    }

    fn rgb_foreground(&mut self, rgb: [u8; 3]) {
        let max = rgb.into_iter().max().unwrap_or(0);
        let [r, g, b] = rgb.map(|part| u8::from(part > max / 2));
        let mut hue = r << 2 | g << 1 | b;
        self.intensity = if hue == 7 && max <= 0x55 {
            hue = 0;
            Intensity::Bold
        } else if max > 0xaa {
            Intensity::Bold
        } else {
            Intensity::Normal
        };
        self.colour = self.colour & 0xf0 | hue;
    }
}
