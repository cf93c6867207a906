//! The screen of a channel: what a Linux console would show of the bytes that the guest has written. Part of the umlmon
//! daemon.
//!
//! A [`Screen`] is the virtual terminal of Linux 6.18 as console_codes(4) describes it and as the kernel carries it
//! out, down to the bytes that /dev/vcsaN and /dev/vcsuN would show. docs/CONSOLE.md says how it is compared with the
//! kernel, and where it differs. It takes any bytes: its size is bounded by [`MAX_ROWS`] and [`MAX_COLUMNS`], what it
//! has to answer by [`MAX_ANSWERS`], and nothing else of it grows.

mod cell;
mod charset;
mod colour;
mod control;
mod csi;
mod dump;
mod glyph;
mod grid;
mod pen;
mod plain;
mod print;
mod redraw;
mod sequence;
mod sgr;
mod unicode;
mod utf8;

pub use cell::{Cell, Colour, Intensity, Style};

use cell::Stored;
use charset::Map;
use grid::Grid;
use pen::{Colours, Pen};
use sequence::State;
use utf8::Utf8;

/// The most rows a screen has.
pub const MAX_ROWS: u16 = 255;
/// The most columns a screen has.
pub const MAX_COLUMNS: u16 = 1023;
/// How many bytes of answers are kept until they are fetched; queries beyond that get no answer.
pub const MAX_ANSWERS: usize = 1024;

/// How many parameters a control sequence has at most (the kernel's NPAR).
const PARAMETERS: usize = 16;
/// How many columns can have a tab stop.
const TAB_STOPS: u32 = 256;
/// A tab stop at every eighth column.
const TABS: [u64; 4] = [0x0101_0101_0101_0101; 4];

/// The sixteen colours of a new console, as red, green, blue.
const PALETTE: [[u8; 3]; 16] = [
    [0x00, 0x00, 0x00],
    [0xaa, 0x00, 0x00],
    [0x00, 0xaa, 0x00],
    [0xaa, 0x55, 0x00],
    [0x00, 0x00, 0xaa],
    [0xaa, 0x00, 0xaa],
    [0x00, 0xaa, 0xaa],
    [0xaa, 0xaa, 0xaa],
    [0x55, 0x55, 0x55],
    [0xff, 0x55, 0x55],
    [0x55, 0xff, 0x55],
    [0xff, 0xff, 0x55],
    [0x55, 0x55, 0xff],
    [0xff, 0x55, 0xff],
    [0x55, 0xff, 0xff],
    [0xff, 0xff, 0xff],
];

/// A Linux console without the hardware.
#[derive(Debug, Clone)]
pub struct Screen {
    grid: Grid,
    rows: u32,
    columns: u32,
    /// The state that ESC 7 saves.
    now: Position,
    saved: Position,
    /// The alternate screen is in use (?1049).
    alternate: bool,
    /// The main screen meanwhile; afterwards, what the next alternate one can have.
    other: Option<Box<Grid>>,
    /// The last column was written to, and the next character goes to the next line.
    wrap: bool,
    /// The scroll region: its first row, and the one after its last.
    top: u32,
    bottom: u32,
    tabs: [u64; 4],
    colours: Colours,
    palette: [[u8; 3]; 16],
    /// The style with which a character is stored: a cell without the character.
    ink: Stored,
    /// The content of erased cells.
    blank: Stored,
    modes: Modes,
    /// The meaning of bytes while UTF-8 is off or control characters are displayed.
    map: Map,
    /// SGR 12: the high bit of bytes is set before they are looked up.
    meta: bool,
    utf8: Utf8,
    state: State,
    parameters: [u32; PARAMETERS],
    /// Index of the last parameter.
    last: usize,
    answers: Vec<u8>,
}

/// Where the cursor is and how it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    x: u32,
    y: u32,
    pen: Pen,
    /// G0 and G1.
    sets: [Map; 2],
    /// Whether G1 is in use (SO).
    shifted: bool,
}

/// The modes that the guest can switch on and off.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a mode of the terminal that is set by itself"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Modes {
    /// UTF-8 (ESC % G).
    utf8: bool,
    /// Control characters are displayed (CRM, and SO).
    controls: bool,
    /// Insert mode (IRM).
    insert: bool,
    /// Automatic wrap at the end of a line (DECAWM).
    autowrap: bool,
    /// Positions count from the scroll region (DECOM).
    origin: bool,
    /// Inverted screen (DECSCNM).
    inverse: bool,
    /// Visible cursor (DECTCEM).
    cursor: bool,
    /// A line feed also returns to the first column (LNM).
    newline: bool,
    /// Cursor keys send application sequences (DECCKM).
    cursor_keys: bool,
    /// The keypad sends application sequences (DECKPAM).
    keypad: bool,
    /// Keys repeat (DECARM).
    repeat: bool,
    bracketed_paste: bool,
    mouse: Mouse,
}

/// Which reports of the mouse the guest wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mouse {
    Off,
    X10,
    Vt200,
}

impl Modes {
    const RESET: Self = Self {
        utf8: true,
        controls: false,
        insert: false,
        autowrap: true,
        origin: false,
        inverse: false,
        cursor: true,
        newline: false,
        cursor_keys: false,
        keypad: false,
        repeat: true,
        bracketed_paste: false,
        mouse: Mouse::Off,
    };
}

/// Where the cursor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The row, from 0.
    pub row: u16,
    /// The column, from 0.
    pub column: u16,
    /// Whether it is visible.
    pub visible: bool,
    /// The last column was written to, and the next character goes to the next line.
    pub wrap_pending: bool,
}

impl Screen {
    /// An empty screen. A size beyond [`MAX_ROWS`] and [`MAX_COLUMNS`], or 0, is changed to the nearest allowed one.
    pub fn new(rows: u16, columns: u16) -> Self {
        let (rows, columns) = (rows.clamp(1, MAX_ROWS), columns.clamp(1, MAX_COLUMNS));
        let colours = Colours::NEW;
        let pen = Pen::new(colours.default);
        let blank = pen.blank(&colours, false);
        let now = Position {
            x: 0,
            y: 0,
            pen,
            sets: [Map::Latin1, Map::Graphics],
            shifted: false,
        };
        Self {
            grid: Grid::new(rows, columns, blank, false),
            rows: rows.into(),
            columns: columns.into(),
            now,
            saved: now,
            alternate: false,
            other: None,
            wrap: false,
            top: 0,
            bottom: rows.into(),
            tabs: TABS,
            colours,
            palette: PALETTE,
            ink: pen.ink(&colours, false),
            blank,
            modes: Modes::RESET,
            map: Map::Latin1,
            meta: false,
            utf8: Utf8::default(),
            state: State::Normal,
            parameters: [0; PARAMETERS],
            last: 0,
            answers: Vec::new(),
        }
    }

    /// Processes output of the guest, in pieces of any size.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            let taken = self.print_some(rest);
            rest = if taken > 0 {
                rest.get(taken..).unwrap_or_default()
            } else {
                self.byte(byte);
                after
            };
        }
    }

    /// The input that the terminal sends back: answers to DSR, DA and DECID since the last call.
    pub fn answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }

    /// Gives it another size, as the kernel does: the text stays where it is, or moves up so that the cursor's line is
    /// kept; lines are not wrapped anew. The scroll region becomes the whole screen.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let (rows, columns) = (rows.clamp(1, MAX_ROWS), columns.clamp(1, MAX_COLUMNS));
        if (u32::from(rows), u32::from(columns)) == (self.rows, self.columns) {
            return;
        }
        let (new_rows, y) = (u32::from(rows), self.now.y);
        let first = if y <= new_rows {
            0
        } else if self.rows - y < new_rows {
            self.rows - new_rows
        } else {
            y - new_rows / 2
        };
        self.update_attribute();
        self.grid = self.grid.resized(rows, columns, first, self.blank);
        self.rows = new_rows;
        self.columns = columns.into();
        self.top = 0;
        self.bottom = self.rows;
        self.go(self.now.x.cast_signed(), self.now.y.cast_signed());
        self.saved = self.now;
    }

    /// Rows and columns.
    pub fn size(&self) -> (u16, u16) {
        (self.grid.rows(), self.grid.columns())
    }

    /// Where the cursor is.
    pub fn cursor(&self) -> Cursor {
        let small = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Cursor {
            row: small(self.now.y),
            column: small(self.now.x),
            visible: self.modes.cursor,
            wrap_pending: self.wrap,
        }
    }

    /// The contents of a cell, counted from 0; `None` beyond the screen.
    pub fn cell(&self, row: u16, column: u16) -> Option<Cell> {
        self.grid.at(column.into(), row.into()).map(Stored::cell)
    }

    /// The lines for people to read, without the blanks at their ends. A wide character takes two columns where they
    /// are shown, so there is nothing for its second half.
    pub fn text(&self) -> Vec<String> {
        let line = |y| {
            let row = self.grid.row(y);
            let before = std::iter::once(None).chain(row.iter().map(Some));
            let shown = row.iter().zip(before).filter(|(cell, before)| {
                let half =
                    before.is_some_and(|before| before.is_wide() && cell.is_half_of(*before));
                !half && !cell.is_selector()
            });
            let line: String = shown.map(|(cell, _)| cell.character()).collect();
            line.trim_end_matches(' ').to_owned()
        };
        (0..self.rows).map(line).collect()
    }

    /// The sixteen colours as red, green, blue, in the order of SGR 30 to 37 and 90 to 97.
    pub fn palette(&self) -> [[u8; 3]; 16] {
        self.palette
    }

    /// Computes what characters and blanks look like from now on.
    fn update_attribute(&mut self) {
        self.ink = self.now.pen.ink(&self.colours, self.modes.inverse);
        self.blank = self.now.pen.blank(&self.colours, self.modes.inverse);
        if self.grid.is_inverted() {
            self.ink = self.ink.inverted();
            self.blank = self.blank.inverted();
        }
    }

    /// Keeps an answer, if there is space for it.
    fn answer(&mut self, answer: &[u8]) {
        if self.answers.len() + answer.len() <= MAX_ANSWERS {
            self.answers.extend_from_slice(answer);
        }
    }
}

#[cfg(test)]
mod tests;
