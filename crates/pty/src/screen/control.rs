//! Control characters and escape sequences. Part of the screen model in the umlmon daemon.

use super::charset::Map;
use super::pen::Pen;
use super::sequence::State;
use super::utf8::Utf8;
use super::{Modes, Mouse, PALETTE, PARAMETERS, Screen, TAB_STOPS, TABS};

impl Screen {
    /// Takes a byte that is not just printed.
    pub(super) fn byte(&mut self, byte: u8) {
        if self.state == State::Normal {
            self.character(byte);
        } else {
            self.control(byte);
        }
    }

    /// Takes a byte of a sequence, or a control character.
    pub(super) fn control(&mut self, byte: u8) {
        if matches!(self.state, State::Osc | State::Text) && (8..=13).contains(&byte) {
            return;
        }
        if self.ascii(byte) {
            return;
        }
        match self.state {
            State::Normal => {}
            State::Osc | State::Text => {}
            State::Escape => self.escape(byte),
            State::Bracket => self.bracket(byte),
            State::Parameters(private) => self.parameter(private, byte),
            State::Ignore if (0x20..0x40).contains(&byte) => {}
            State::FunctionKey | State::Ignore => self.state = State::Normal,
            State::Hash => self.hash(byte),
            State::Percent => {
                self.state = State::Normal;
                match byte {
                    b'@' => self.modes.utf8 = false,
                    b'G' | b'8' => self.modes.utf8 = true,
                    _ => {}
                }
            }
            State::Charset(which) => {
                self.state = State::Normal;
                self.choose(which, byte);
            }
            State::Nonstandard => self.nonstandard(byte),
            State::Palette => self.palette_digit(byte),
        }
    }

    /// Control characters, which are carried out in the middle of sequences, too. Returns whether it was one.
    fn ascii(&mut self, byte: u8) -> bool {
        match byte {
            0 | 0x7f => {}
            7 if matches!(self.state, State::Osc | State::Text) => self.state = State::Normal,
            7 => {}
            8 => self.backspace(),
            9 => self.tab(),
            10..=12 => {
                self.line_feed();
                if self.modes.newline {
                    self.carriage_return();
                }
            }
            13 => self.carriage_return(),
            14 | 15 => {
                self.now.shifted = byte == 14;
                self.modes.controls = self.now.shifted;
                self.map = self.set_in_use();
            }
            24 | 26 => self.state = State::Normal,
            27 => self.state = State::Escape,
            0x9b => self.state = State::Bracket,
            _ => return false,
        }
        true
    }

    fn escape(&mut self, byte: u8) {
        self.state = match byte {
            b'[' => State::Bracket,
            b']' => State::Nonstandard,
            b'P' | b'^' | b'_' => State::Text,
            b'%' => State::Percent,
            b'(' => State::Charset(0),
            b')' => State::Charset(1),
            b'#' => State::Hash,
            _ => State::Normal,
        };
        match byte {
            b'E' => {
                self.carriage_return();
                self.line_feed();
            }
            b'M' => self.reverse_line_feed(),
            b'D' => self.line_feed(),
            b'H' => self.set_tab(),
            b'Z' => self.identify(),
            b'7' => self.saved = self.now,
            b'8' => self.restore(),
            b'c' => self.reset(),
            b'>' => self.modes.keypad = false,
            b'=' => self.modes.keypad = true,
            _ => {}
        }
    }

    fn hash(&mut self, byte: u8) {
        self.state = State::Normal;
        if byte == b'8' {
            let alignment = self.alignment();
            self.grid.clear(0..self.rows, alignment);
            self.wrap = false;
        }
    }

    fn nonstandard(&mut self, byte: u8) {
        self.state = match byte {
            b'P' => {
                self.clear_parameters();
                State::Palette
            }
            b'R' => {
                self.palette = PALETTE;
                State::Normal
            }
            b'0'..=b'9' => State::Osc,
            _ => State::Normal,
        };
    }

    /// Seven hexadecimal digits: the colour, and two each for red, green and blue.
    fn palette_digit(&mut self, byte: u8) {
        let Some(digit) = char::from(byte).to_digit(16) else {
            self.state = State::Normal;
            return;
        };
        if let Some(parameter) = self.parameters.get_mut(self.last) {
            *parameter = digit;
        }
        self.last += 1;
        let [index, digits @ .., _, _, _, _, _, _, _, _, _] = self.parameters;
        if self.last <= digits.len() {
            return;
        }
        self.state = State::Normal;
        self.last = 0;
        let [r, rr, g, gg, b, bb] = digits.map(|digit| digit.to_le_bytes()[0]);
        if let Some(colour) = self.palette.get_mut(index as usize) {
            *colour = [r << 4 | rr, g << 4 | gg, b << 4 | bb];
        }
    }

    pub(super) fn clear_parameters(&mut self) {
        self.parameters = [0; PARAMETERS];
        self.last = 0;
    }

    /// ESC ( and ESC ).
    fn choose(&mut self, which: u8, letter: u8) {
        let [g0, g1] = &mut self.now.sets;
        let set = if which == 0 { g0 } else { g1 };
        if let Some(map) = Map::of(letter) {
            *set = map;
        }
        if self.now.shifted == (which == 1) {
            self.map = self.set_in_use();
        }
    }

    /// G0 or G1.
    pub(super) fn set_in_use(&self) -> Map {
        let [g0, g1] = self.now.sets;
        if self.now.shifted { g1 } else { g0 }
    }

    /// ESC c. The palette and the colours of underlined, half-bright and default text stay.
    fn reset(&mut self) {
        self.top = 0;
        self.bottom = self.rows;
        self.state = State::Normal;
        self.map = Map::Latin1;
        self.meta = false;
        self.utf8 = Utf8::default();
        self.modes = Modes::RESET;
        self.tabs = TABS;
        (self.alternate, self.other) = (false, None);
        self.grid.set_inverted(false);
        self.now = super::Position {
            x: 0,
            y: 0,
            pen: Pen::new(self.colours.default),
            sets: [Map::Latin1, Map::Graphics],
            shifted: false,
        };
        self.saved = self.now;
        self.update_attribute();
        self.erase_display(2);
    }

    /// ESC 8.
    pub(super) fn restore(&mut self) {
        self.now = self.saved;
        self.go(self.now.x.cast_signed(), self.now.y.cast_signed());
        self.map = self.set_in_use();
        self.update_attribute();
    }

    /// Sets a tab stop at the cursor.
    pub(super) fn set_tab(&mut self) {
        if let Some(stops) = self.tabs.get_mut(self.now.x as usize / 64) {
            *stops |= 1 << (self.now.x % 64);
        }
    }

    pub(super) fn has_tab(&self, x: u32) -> bool {
        let stops = self.tabs.get(x as usize / 64).copied().unwrap_or(0);
        stops >> (x % 64) & 1 == 1
    }

    fn tab(&mut self) {
        let end = (self.columns - 1).min(TAB_STOPS);
        let next = (self.now.x + 1..end).find(|x| self.has_tab(*x));
        let x = next.unwrap_or(end);
        self.now.x = if x >= TAB_STOPS { self.columns - 1 } else { x };
    }

    pub(super) fn backspace(&mut self) {
        if let Some(x) = self.now.x.checked_sub(1) {
            self.now.x = x;
            self.wrap = false;
        }
    }

    pub(super) fn carriage_return(&mut self) {
        self.now.x = 0;
        self.wrap = false;
    }

    pub(super) fn line_feed(&mut self) {
        if self.now.y + 1 == self.bottom {
            self.grid.scroll_up(self.top, self.bottom, 1, self.blank);
        } else if self.now.y + 1 < self.rows {
            self.now.y += 1;
        }
        self.wrap = false;
    }

    fn reverse_line_feed(&mut self) {
        if self.now.y == self.top {
            self.grid.scroll_down(self.top, self.bottom, 1, self.blank);
        } else if self.now.y > 0 {
            self.now.y -= 1;
        }
        self.wrap = false;
    }

    /// The answer to ESC Z and CSI c.
    pub(super) fn identify(&mut self) {
        self.answer(b"\x1b[?6c");
    }

    pub(super) fn set_mouse(&mut self, mouse: Mouse, on: bool) {
        self.modes.mouse = if on { mouse } else { Mouse::Off };
    }
}
