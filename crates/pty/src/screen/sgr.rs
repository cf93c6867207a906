//! Parameters of SGR for what was written. Part of the screen model in the umlmon daemon.

use super::cell::{Colour, Intensity, Style};
use super::pen::Pen;

impl Style {
    /// The parameters of SGR that the guest could have given. All ask for this style, but the console's own idea of
    /// intensity, which colours change, is another with each of them.
    pub(super) fn sgr(&self) -> [String; 3] {
        let intensity = match self.intensity {
            Intensity::Normal => "22",
            Intensity::Bold => "1",
            Intensity::Half => "2",
        };
        let flags = [
            (self.italic, ";3"),
            (self.underline, ";4"),
            (self.blink, ";5"),
            (self.reverse, ";7"),
        ];
        let flags = flags.iter().filter(|(on, _)| *on).map(|(_, text)| *text);
        let rest: String = flags.collect::<String>() + &self.colours();
        let first = match self.intensity {
            Intensity::Normal => format!("0{rest}"),
            _ => format!("0;{intensity}{rest}"),
        };
        [
            first,
            format!("0{rest};{intensity}"),
            format!("0;{intensity};91;39{rest}"),
        ]
    }

    fn colours(&self) -> String {
        let colour = |colour: Colour, base: u32| match colour {
            Colour::Default => String::new(),
            Colour::Indexed(index @ 0..8) => format!(";{}", base + u32::from(index)),
            Colour::Indexed(index @ 8..16) => format!(";{}", base + 52 + u32::from(index)),
            Colour::Indexed(index) => format!(";{};5;{index}", base + 8),
        };
        colour(self.background, 40) + &colour(self.foreground, 30)
    }
}

impl Pen {
    /// The pen after these parameters of SGR, beginning with the default one.
    pub(super) fn with(sgr: &str, default: u8) -> Self {
        let parameters: Vec<u32> = sgr.split(';').filter_map(|p| p.parse().ok()).collect();
        let mut pen = Self::new(default);
        pen.sgr(&parameters, default, |_| {});
        pen
    }

    /// The parameters of SGR that lead from the default pen to this one; if none do, at least what the console would
    /// write is right.
    pub(super) fn sgr_of(&self, default: u8) -> String {
        let asked = self.style().unpacked().sgr();
        let same = asked
            .into_iter()
            .find(|sgr| Self::with(sgr, default) == *self);
        same.unwrap_or_else(|| self.without_style(default))
    }
}
