//! The bytes that make another terminal show this screen. Part of the screen model in the umlmon daemon.
//!
//! They are written for any ANSI terminal: sequences that all terminals understand are preferred, and none is used that
//! a terminal answers. The result is what is visible: a line that was drawn with bytes of another character set is sent
//! as line drawing characters.

use super::cell::Stored;
use super::charset::Map;
use super::colour::{HARDWARE, sgr_of_attribute};
use super::grid::Grid;
use super::pen::{Colours, Pen};
use super::sequence::{Private, State};
use super::unicode::{ZERO_WIDTH_SPACE, width};
use super::{Mouse, PALETTE, Position, Screen, TABS};

/// Ends unfinished sequences, and switches off all modes that would disturb the drawing.
const BEGIN: &[u8] = b"\x1b[?1049l\x1b%G\x1b[0;10m\x1b(B\x1b)0\x0f\x1b[?25l\x1b[?5l\x1b[?6l\x1b[?7h\x1b[r\x1b[4l\x1b[20l\x1b[H\x1b[2J";

impl Screen {
    /// The bytes that make a terminal of the same size show this screen and go on as this one would: contents,
    /// attributes, palette, scroll region, tab stops, modes, character sets, the saved and the real cursor, and what
    /// there is of a sequence that is not complete. Nothing in it makes a terminal answer.
    pub fn redraw(&self) -> Vec<u8> {
        let mut drawing = Drawing::new(self);
        drawing.colours();
        if let Some(main) = self.other.as_ref().filter(|_| self.alternate) {
            drawing.cells(&self.grid.resized_like(main));
            drawing.add("\x1b[0m\x1b[?1049h");
        }
        drawing.cells(&self.grid);
        drawing.tabs();
        drawing.position(&self.saved);
        drawing.add("\x1b7");
        drawing.region_and_modes();
        drawing.position(&self.now);
        drawing.pending_wrap();
        drawing.late_modes();
        drawing.unfinished();
        drawing.bytes
    }
}

/// A drawing that is being made.
struct Drawing<'a> {
    screen: &'a Screen,
    bytes: Vec<u8>,
    /// What the next character would be written with; `None`: not known.
    ink: Option<Stored>,
    /// Where the cursor would be; `None`: not known.
    at: Option<(u32, u32)>,
    /// Whether positions count from the scroll region's top.
    origin: bool,
}

impl<'a> Drawing<'a> {
    fn new(screen: &'a Screen) -> Self {
        Self {
            screen,
            bytes: BEGIN.to_vec(),
            ink: None,
            at: None,
            origin: false,
        }
    }

    fn add(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Palette, and the colours that ESC \[ ... ] sets, with a terminator that other terminals need, though not the
    /// console.
    fn colours(&mut self) {
        self.add("\x1b]R\x1b\\");
        for (index, (colour, usual)) in self.screen.palette.iter().zip(PALETTE).enumerate() {
            if *colour != usual {
                let [r, g, b] = colour;
                self.add(&format!("\x1b]P{index:x}{r:02x}{g:02x}{b:02x}\x1b\\"));
            }
        }
        let (colours, new) = (self.screen.colours, Colours::NEW);
        let number = |colour: u8| HARDWARE.iter().position(|c| *c == colour).unwrap_or(0);
        if colours.default != new.default {
            let sgr = sgr_of_attribute(colours.default);
            self.add(&format!("\x1b[{sgr}m\x1b[8]"));
        }
        if colours.underline != new.underline {
            self.add(&format!("\x1b[1;{}]", number(colours.underline)));
        }
        if colours.half != new.half {
            self.add(&format!("\x1b[2;{}]", number(colours.half)));
        }
        if self.screen.modes.inverse {
            self.add("\x1b[?5h");
        }
        self.add("\x1b[0m\x1b[2J");
    }

    fn cells(&mut self, grid: &Grid) {
        (self.at, self.ink) = (None, None);
        let last = self.screen.rows - 1;
        let ends_wide = |y: u32| {
            let row = grid.row(y);
            row.last().is_some_and(|cell| cell.is_wide())
        };
        let pushed = last > 0 && ends_wide(last);
        let spilt = pushed && ends_wide(last - 1);
        if pushed {
            // The second half would scroll the screen; so the row is drawn above, and pushed down.
            self.row(grid, last, 0);
            self.add(&format!("\x1b[0m\x1b[H\x1b[{last}L"));
            (self.at, self.ink) = (None, None);
        }
        for y in 0..self.screen.rows {
            if y < last || !pushed {
                self.row(grid, y, y);
            }
        }
        if spilt {
            for (x, cell) in (0..).zip(grid.row(last).iter()) {
                self.go(x, last);
                self.cell(*cell);
                if !cell.is_wide() {
                    break;
                }
            }
        }
    }

    /// Draws the row `from` in the row `to`.
    fn row(&mut self, grid: &Grid, from: u32, to: u32) {
        let plain = Pen::new(self.screen.colours.default);
        let empty = plain.blank(&self.screen.colours, self.screen.modes.inverse);
        let above = to.checked_sub(1).and_then(|y| grid.row(y).last().copied());
        // The second half of a wide character above has come here.
        let spilt = above.is_some_and(Stored::is_wide);
        let mut before: [Option<Stored>; 2] = [None; 2];
        for (x, cell) in (0..).zip(grid.row(from).iter()) {
            let [second, first] = before;
            before = [first, Some(*cell)];
            let wide = |cell: Option<Stored>| cell.is_some_and(Stored::is_wide);
            if first.is_some_and(|first| first.is_wide() && cell.is_half_of(first)) {
                self.second_half(*cell);
            } else if *cell != empty || (x == 0 && spilt) {
                self.go(x, to);
                if cell.is_selector() && first.is_some() && !wide(first) && !wide(second) {
                    self.second_half(*cell);
                } else {
                    self.cell(*cell);
                    if !wide(second) {
                        self.over(*cell);
                    }
                }
            }
        }
    }

    /// The second half of the wide character that was drawn last, with which others may have been combined.
    fn second_half(&mut self, cell: Stored) {
        if cell.code() != ZERO_WIDTH_SPACE {
            self.attribute(cell);
            self.character(cell.code());
            self.at = None;
        }
    }

    /// A character in UTF-8.
    fn character(&mut self, code: u32) {
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.add(character.encode_utf8(&mut [0; 4]));
    }

    fn cell(&mut self, cell: Stored) {
        self.attribute(cell);
        let mut character = cell.character();
        if width(character.into()) == 0 {
            character = ' ';
        }
        self.character(character.into());
        // Terminals differ in the width of some characters.
        let certain = matches!(character, ' '..='~' | '\u{a0}'..='\u{2ff}' | '─'..='▟')
            && character != '\u{ad}';
        self.at = self.at.filter(|_| certain).map(|(x, y)| (x + 1, y));
    }

    /// Writes a character over the blank that was drawn for it, as it has no width for the console. In code page 437
    /// there are two.
    fn over(&mut self, cell: Stored) {
        let character = cell.character();
        if let Some((x, y)) = self.at.filter(|_| width(character.into()) == 0) {
            self.at = None;
            self.go(x - 1, y);
            self.character(character.into());
            self.at = None;
        }
    }

    /// Selects what a cell was written with: as the guest asked for it, if that gives the same; if not, as it looks.
    fn attribute(&mut self, cell: Stored) {
        let bare = cell.bare();
        if self.ink == Some(bare) {
            return;
        }
        let default = self.screen.colours.default;
        let (colours, inverse) = (&self.screen.colours, self.screen.modes.inverse);
        let looks = |sgr: &String| {
            let pen = Pen::with(sgr, default);
            pen.attribute(colours, inverse) == cell.attribute()
        };
        let asked = cell.style().unpacked().sgr().into_iter().find(looks);
        let sgr = asked.unwrap_or_else(|| {
            let seen = if inverse { cell.inverted() } else { cell };
            sgr_of_attribute(seen.attribute())
        });
        self.add(&format!("\x1b[{sgr}m"));
        self.ink = Some(bare);
    }

    fn tabs(&mut self) {
        let screen = self.screen;
        if screen.tabs == TABS {
            return;
        }
        self.add("\x1b[3g");
        for x in (0..screen.columns).filter(|x| screen.has_tab(*x)) {
            self.go(x, 0);
            self.add("\x1bH");
        }
    }

    fn go(&mut self, x: u32, y: u32) {
        if self.at == Some((x, y)) {
            return;
        }
        let top = if self.origin { self.screen.top } else { 0 };
        let row = y.saturating_sub(top) + 1;
        self.add(&format!("\x1b[{row};{}H", x + 1));
        self.at = Some((x, y));
    }

    /// A cursor, and how it writes.
    fn position(&mut self, position: &Position) {
        self.at = None;
        self.go(position.x, position.y);
        let [g0, g1] = position.sets.map(|map| char::from(map.letter()));
        let shift = if position.shifted { '\x0e' } else { '\x0f' };
        self.add(&format!("\x1b({g0}\x1b){g1}{shift}"));
        self.pen(&position.pen);
    }

    fn pen(&mut self, pen: &Pen) {
        let sgr = pen.sgr_of(self.screen.colours.default);
        self.add(&format!("\x1b[{sgr}m"));
        self.ink = None;
    }

    fn region_and_modes(&mut self) {
        let (screen, modes) = (self.screen, self.screen.modes);
        if (screen.top, screen.bottom) != (0, screen.rows) {
            self.add(&format!("\x1b[{};{}r", screen.top + 1, screen.bottom));
        }
        let modes = [
            (modes.origin, "\x1b[?6h", ""),
            (modes.newline, "\x1b[20h", ""),
            (modes.cursor_keys, "\x1b[?1h", "\x1b[?1l"),
            (modes.keypad, "\x1b=", "\x1b>"),
            (modes.repeat, "\x1b[?8h", "\x1b[?8l"),
            (modes.bracketed_paste, "\x1b[?2004h", "\x1b[?2004l"),
            (modes.mouse == Mouse::X10, "\x1b[?9h", "\x1b[?9l"),
            (modes.mouse == Mouse::Vt200, "\x1b[?1000h", "\x1b[?1000l"),
        ];
        // What is switched off of the mouse is so in all its forms; so what is on comes last.
        for (_, _, off) in modes.iter().filter(|(on, ..)| !on) {
            self.add(off);
        }
        for (_, on, _) in modes.iter().filter(|(on, ..)| *on) {
            self.add(on);
        }
        self.origin = self.screen.modes.origin;
    }

    /// Writes the last column again, after which the next character goes to the next line.
    fn pending_wrap(&mut self) {
        let (screen, y) = (self.screen, self.screen.now.y);
        let (before, cell) = match &*screen.grid.row(y) {
            [.., before, cell] if screen.wrap => (*before, *cell),
            [cell] if screen.wrap => (*cell, *cell),
            _ => return,
        };
        // SO may have been sent: characters are to come as they are.
        self.add("\x0f\x1b[3l");
        if before.is_wide() && cell.is_half_of(before) {
            self.at = None;
            self.go(screen.columns - 2, y);
            self.cell(before);
            self.second_half(cell);
        } else {
            self.cell(cell);
        }
        if screen.now.shifted {
            self.add("\x0e");
        }
        self.pen(&screen.now.pen);
    }

    /// What would have been in the way until now.
    fn late_modes(&mut self) {
        let (screen, modes) = (self.screen, self.screen.modes);
        let set = screen.set_in_use();
        if screen.meta {
            self.add("\x1b[12m");
            let which = if screen.now.shifted { ')' } else { '(' };
            if screen.map == set {
                self.add(&format!("\x1b{which}{}", char::from(set.letter())));
            }
        } else if screen.map != set && screen.map == Map::Ibm {
            self.add("\x1b[11m");
        }
        let shown = screen.now.shifted || screen.meta || screen.map != set;
        match (shown, modes.controls) {
            (false, true) => self.add("\x1b[3h"),
            (true, false) => self.add("\x1b[3l"),
            _ => {}
        }
        if modes.insert {
            self.add("\x1b[4h");
        }
        if !modes.autowrap {
            self.add("\x1b[?7l");
        }
        if modes.cursor {
            self.add("\x1b[?25h");
        }
        if !modes.utf8 {
            self.add("\x1b%@");
        }
    }

    /// The beginning of what is not complete. Of text that is swallowed, only that it is.
    fn unfinished(&mut self) {
        let list = |screen: &Screen| {
            let given = screen.parameters.iter().take(screen.last + 1);
            given.map(u32::to_string).collect::<Vec<_>>().join(";")
        };
        let text = match self.screen.state {
            State::Normal => return self.unfinished_character(),
            State::Escape => "\x1b".to_owned(),
            State::Bracket => "\x1b[".to_owned(),
            State::Parameters(private) => {
                let mark = match private {
                    Private::Standard => String::new(),
                    Private::Dec => "?".to_owned(),
                    Private::Other(mark) => char::from(mark).to_string(),
                };
                format!("\x1b[{mark}{}", list(self.screen))
            }
            State::FunctionKey => "\x1b[[".to_owned(),
            State::Hash => "\x1b#".to_owned(),
            State::Charset(0) => "\x1b(".to_owned(),
            State::Charset(_) => "\x1b)".to_owned(),
            State::Percent => "\x1b%".to_owned(),
            State::Ignore => "\x1b[<!".to_owned(),
            State::Nonstandard => "\x1b]".to_owned(),
            State::Palette => {
                let digits = self.screen.parameters.iter().take(self.screen.last);
                let digits: String = digits.map(|digit| format!("{digit:x}")).collect();
                format!("\x1b]P{digits}")
            }
            // A number that no terminal knows.
            State::Osc => "\x1b]6429;".to_owned(),
            State::Text => "\x1b_".to_owned(),
        };
        self.add(&text);
    }

    fn unfinished_character(&mut self) {
        let utf8 = self.screen.utf8;
        if utf8.left == 0 {
            return;
        }
        let mark = match utf8.left + utf8.come {
            1 => 0xc0,
            2 => 0xe0,
            _ => 0xf0,
        };
        let bits = |shift: u8| (utf8.value >> (6 * u32::from(shift))).to_le_bytes()[0];
        self.bytes.push(mark | bits(utf8.come));
        for index in (0..utf8.come).rev() {
            self.bytes.push(0x80 | bits(index) & 0x3f);
        }
    }
}
