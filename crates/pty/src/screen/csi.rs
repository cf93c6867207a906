//! Control sequences: what begins with ESC \[. Part of the screen model in the umlmon daemon.

use super::colour::HARDWARE;
use super::grid::Grid;
use super::sequence::{Private, State};
use super::{Map, Mouse, Screen};

impl Screen {
    /// The first byte after ESC \[.
    pub(super) fn bracket(&mut self, byte: u8) {
        self.clear_parameters();
        self.state = match byte {
            b'[' => State::FunctionKey,
            b'?' => State::Parameters(Private::Dec),
            b'<' | b'=' | b'>' => State::Parameters(Private::Other(byte)),
            _ => return self.parameter(Private::Standard, byte),
        };
    }

    pub(super) fn parameter(&mut self, private: Private, byte: u8) {
        self.state = State::Parameters(private);
        match byte {
            b';' if self.last + 1 < self.parameters.len() => self.last += 1,
            b'0'..=b'9' => {
                if let Some(parameter) = self.parameters.get_mut(self.last) {
                    let digit = u32::from(byte - b'0');
                    *parameter = parameter.wrapping_mul(10).wrapping_add(digit);
                }
            }
            0x20..=0x3f => self.state = State::Ignore,
            _ => {
                self.state = State::Normal;
                match private {
                    Private::Standard => self.csi(byte),
                    Private::Dec => self.dec(byte),
                    Private::Other(_) => {}
                }
            }
        }
    }

    fn csi(&mut self, byte: u8) {
        let [first, second, ..] = self.parameters;
        let (x, y) = (self.now.x, self.now.y);
        // A count; none and 0 mean 1.
        let n = first.max(1);
        // A position, counted from 1; none and 0 mean 1.
        let position = first.saturating_sub(1);
        let go = |screen: &mut Self, x: u32, y: u32| screen.go(x.cast_signed(), y.cast_signed());
        match byte {
            b'G' | b'`' => go(self, position, y),
            b'A' => go(self, x, y.wrapping_sub(n)),
            b'B' | b'e' => go(self, x, y.wrapping_add(n)),
            b'C' | b'a' => go(self, x.wrapping_add(n), y),
            b'D' => go(self, x.wrapping_sub(n), y),
            b'E' => go(self, 0, y.wrapping_add(n)),
            b'F' => go(self, 0, y.wrapping_sub(n)),
            b'd' => self.go_absolute(x, position),
            b'H' | b'f' => self.go_absolute(second.saturating_sub(1), position),
            b'J' => self.erase_display(first),
            b'K' => self.erase_line(first),
            b'L' => self.insert_lines(n),
            b'M' => self.delete_lines(n),
            b'P' => self.delete_characters(n),
            b'@' => self.insert_characters(n),
            b'X' => self.erase_characters(n),
            b'c' if first == 0 => self.identify(),
            // The kernel sets a stop where it should clear one.
            b'g' if first == 0 => self.set_tab(),
            b'g' if first == 3 => self.tabs = [0; 4],
            b'h' | b'l' => self.ansi_modes(byte == b'h'),
            b'm' => self.sgr(),
            b'n' => self.report(first),
            b'r' => self.set_region(first, second),
            b's' => self.saved = self.now,
            b'u' => self.restore(),
            b']' => self.setterm(first, second),
            _ => {}
        }
    }

    fn dec(&mut self, byte: u8) {
        match byte {
            b'h' | b'l' => self.dec_modes(byte == b'h'),
            b'n' => {
                let [first, ..] = self.parameters;
                self.report(first);
            }
            _ => {}
        }
    }

    fn ansi_modes(&mut self, on: bool) {
        for parameter in self.parameters.into_iter().take(self.last + 1) {
            match parameter {
                3 => self.modes.controls = on,
                4 => self.modes.insert = on,
                20 => self.modes.newline = on,
                _ => {}
            }
        }
    }

    fn dec_modes(&mut self, on: bool) {
        for parameter in self.parameters.into_iter().take(self.last + 1) {
            match parameter {
                1 => self.modes.cursor_keys = on,
                5 if self.modes.inverse != on => {
                    self.modes.inverse = on;
                    self.grid.set_inverted(!self.grid.is_inverted());
                    self.update_attribute();
                }
                6 => {
                    self.modes.origin = on;
                    self.go_absolute(0, 0);
                }
                7 => self.modes.autowrap = on,
                8 => self.modes.repeat = on,
                9 => self.set_mouse(Mouse::X10, on),
                25 => self.modes.cursor = on,
                1000 => self.set_mouse(Mouse::Vt200, on),
                1049 if on => self.enter_alternate(),
                1049 => self.leave_alternate(),
                2004 => self.modes.bracketed_paste = on,
                _ => {}
            }
        }
    }

    /// Saves the screen and begins with an empty one.
    fn enter_alternate(&mut self) {
        if self.alternate {
            return;
        }
        self.alternate = true;
        self.saved = self.now;
        let inverted = self.grid.is_inverted();
        let other = self
            .other
            .take()
            .filter(|other| same_size(other, &self.grid));
        let mut other = other.unwrap_or_else(|| {
            let (rows, columns) = self.size();
            Box::new(Grid::new(rows, columns, self.blank, inverted))
        });
        other.set_inverted(inverted);
        std::mem::swap(&mut *other, &mut self.grid);
        self.other = Some(other);
        self.erase_display(2);
    }

    /// Restores the saved screen. If the size is another now, cells that it did not have stay as they are.
    fn leave_alternate(&mut self) {
        if !self.alternate {
            return;
        }
        self.alternate = false;
        match &mut self.other {
            Some(main) if same_size(main, &self.grid) => {
                std::mem::swap(&mut **main, &mut self.grid)
            }
            main => {
                if let Some(main) = main.take() {
                    self.grid.copy(&main, 0);
                }
            }
        }
        self.restore();
    }

    fn sgr(&mut self) {
        let parameters = self.parameters;
        let given = parameters.get(..=self.last).unwrap_or_default();
        let mut pen = self.now.pen;
        pen.sgr(given, self.colours.default, |font| {
            self.map = if font == 10 {
                self.set_in_use()
            } else {
                Map::Ibm
            };
            self.modes.controls = font != 10;
            self.meta = font == 12;
        });
        self.now.pen = pen;
        self.update_attribute();
    }

    /// The console's own sequences; those about bell, blanking and other consoles do nothing here.
    fn setterm(&mut self, what: u32, value: u32) {
        let colour = HARDWARE.get(value as usize).copied();
        match (what, colour) {
            (1, Some(colour)) => self.colours.underline = colour,
            (2, Some(colour)) => self.colours.half = colour,
            (8, _) => {
                let (pen, inverse) = (self.now.pen, self.modes.inverse);
                self.colours.default = pen.attribute(&self.colours, inverse);
                self.now.pen = super::Pen::new(self.colours.default);
            }
            _ => return,
        }
        self.update_attribute();
    }

    /// DSR.
    fn report(&mut self, what: u32) {
        match what {
            5 => self.answer(b"\x1b[0n"),
            6 => {
                // A VT100 would subtract the origin; the kernel adds it, and so does this.
                let origin = if self.modes.origin { self.top } else { 0 };
                let (row, column) = (self.now.y + origin + 1, self.now.x + 1);
                self.answer(format!("\x1b[{row};{column}R").as_bytes());
            }
            _ => {}
        }
    }

    /// DECSTBM.
    fn set_region(&mut self, first: u32, last: u32) {
        let first = first.max(1);
        let last = if last == 0 { self.rows } else { last };
        if first < last && last <= self.rows {
            self.top = first - 1;
            self.bottom = last;
            self.go_absolute(0, 0);
        }
    }

    /// Moves the cursor as far as it gets: to the edge of the screen or, with DECOM, of the scroll region.
    pub(super) fn go(&mut self, x: i32, y: i32) {
        let (top, bottom) = if self.modes.origin {
            (self.top, self.bottom)
        } else {
            (0, self.rows)
        };
        let within = |n: i32, low: u32, high: u32| {
            let n = u32::try_from(n).unwrap_or(0);
            n.clamp(low, high - 1)
        };
        self.now.x = within(x, 0, self.columns);
        self.now.y = within(y, top, bottom);
        self.wrap = false;
    }

    /// The same, counted from the origin.
    fn go_absolute(&mut self, x: u32, y: u32) {
        let origin = if self.modes.origin { self.top } else { 0 };
        self.go(x.cast_signed(), origin.wrapping_add(y).cast_signed());
    }

    pub(super) fn erase_display(&mut self, what: u32) {
        let (x, y, blank) = (self.now.x, self.now.y, self.blank);
        match what {
            0 => {
                self.grid.tail_mut(x, y).fill(blank);
                self.grid.clear(y + 1..self.rows, blank);
            }
            1 => {
                self.grid.clear(0..y, blank);
                self.erase_to_cursor();
            }
            2 | 3 => self.grid.clear(0..self.rows, blank),
            _ => return,
        }
        self.wrap = false;
    }

    fn erase_line(&mut self, what: u32) {
        let (x, y, blank) = (self.now.x, self.now.y, self.blank);
        match what {
            0 => self.grid.tail_mut(x, y).fill(blank),
            1 => self.erase_to_cursor(),
            2 => self.grid.clear(y..y + 1, blank),
            _ => return,
        }
        self.wrap = false;
    }

    fn erase_to_cursor(&mut self) {
        let (x, blank) = (self.now.x as usize, self.blank);
        let row = self.grid.row_mut(self.now.y);
        row.iter_mut().take(x + 1).for_each(|cell| *cell = blank);
    }

    fn erase_characters(&mut self, n: u32) {
        let blank = self.blank;
        let cells = self.grid.tail_mut(self.now.x, self.now.y).iter_mut();
        cells.take(n as usize).for_each(|cell| *cell = blank);
        self.wrap = false;
    }

    pub(super) fn insert_characters(&mut self, n: u32) {
        let blank = self.blank;
        let cells = self.grid.tail_mut(self.now.x, self.now.y);
        let n = (n as usize).min(cells.len());
        cells.rotate_right(n);
        cells.iter_mut().take(n).for_each(|cell| *cell = blank);
        self.wrap = false;
    }

    fn delete_characters(&mut self, n: u32) {
        let blank = self.blank;
        let cells = self.grid.tail_mut(self.now.x, self.now.y);
        let n = (n as usize).min(cells.len());
        cells.rotate_left(n);
        let end = cells.iter_mut().rev();
        end.take(n).for_each(|cell| *cell = blank);
        self.wrap = false;
    }

    fn insert_lines(&mut self, n: u32) {
        let n = n.min(self.rows - self.now.y);
        self.grid
            .scroll_down(self.now.y, self.bottom, n, self.blank);
        self.wrap = false;
    }

    fn delete_lines(&mut self, n: u32) {
        let n = n.min(self.rows - self.now.y);
        self.grid.scroll_up(self.now.y, self.bottom, n, self.blank);
        self.wrap = false;
    }
}

fn same_size(one: &Grid, other: &Grid) -> bool {
    (one.rows(), one.columns()) == (other.rows(), other.columns())
}
