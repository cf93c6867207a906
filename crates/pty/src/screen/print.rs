//! Characters: from bytes into cells. Part of the screen model in the umlmon daemon.

use super::Screen;
use super::cell::{Kind, META, Stored};
use super::sequence::State;
use super::unicode::{REPLACEMENT, VARIATION_SELECTOR_16, ZERO_WIDTH_SPACE, recompose, width};
use super::utf8::Decoded;

/// Control characters that are never displayed, as bits: NUL, BS, LF, FF, CR, SO, SI, ESC.
const ALWAYS: u32 = 0x0800_f501;
/// Those that do something, and are displayed only on demand.
const ACTION: u32 = 0x0d00_ff81;

impl Screen {
    /// Prints from the beginning of `bytes` what is just text; returns how many bytes that were.
    #[inline]
    pub(super) fn print_some(&mut self, bytes: &[u8]) -> usize {
        if self.state != State::Normal || !self.plain() {
            return 0;
        }
        let end = bytes.iter().position(|byte| !(0x20..0x7f).contains(byte));
        let end = end.unwrap_or(bytes.len());
        let mut rest = bytes.get(..end).unwrap_or_default();
        while !rest.is_empty() {
            self.wrap_if_pending();
            let ink = self.ink;
            let row = self.grid.tail_mut(self.now.x, self.now.y);
            let (width, full) = (row.len(), row.len() <= rest.len());
            for (cell, byte) in row.iter_mut().zip(rest) {
                *cell = ink.with_ascii(*byte);
            }
            if full {
                // The last of them is where the next would overwrite it.
                self.now.x = self.columns - 1;
                self.wrap = self.modes.autowrap;
                rest = rest.get(width..).unwrap_or_default();
            } else {
                self.now.x += u32::try_from(rest.len()).unwrap_or(0);
                break;
            }
        }
        end
    }

    /// Whether bytes of ASCII go into cells as they are.
    fn plain(&self) -> bool {
        self.modes.utf8 && !self.modes.controls && !self.modes.insert && self.utf8.left == 0
    }

    /// Takes a byte outside of sequences.
    pub(super) fn character(&mut self, byte: u8) {
        if !self.modes.utf8 || self.modes.controls {
            return self.looked_up(byte);
        }
        match self.utf8.take(byte) {
            Decoded::Nothing => {}
            Decoded::Character(0..0x20 | 0x7f | 0x9b) => self.control(byte),
            Decoded::Character(character) => self.unicode(character),
            Decoded::Bad { again } => {
                self.unicode(REPLACEMENT);
                if again {
                    // Nothing is expected any more, so this comes here once.
                    self.character(byte);
                }
            }
        }
    }

    /// Takes a byte while UTF-8 is off, or control characters are displayed.
    fn looked_up(&mut self, byte: u8) {
        let translated = self.map.translate(byte | u8::from(self.meta) << 7);
        let controls = self.modes.controls;
        let acts = match byte {
            0..0x20 => (if controls { ALWAYS } else { ACTION }) >> byte & 1 == 1,
            0x7f => !controls,
            0x9b => true,
            _ => false,
        };
        if acts || translated == 0 {
            self.control(byte);
        } else if translated >= 0x20 {
            let meta = if self.meta { META } else { 0 };
            let code = u32::from(byte) | meta;
            self.put(self.ink.with(code, Kind::Byte(self.map)));
        }
    }

    fn unicode(&mut self, character: u32) {
        match width(character) {
            0 => self.combine(character),
            1 => self.put(self.ink.with(character, Kind::Unicode)),
            _ => {
                self.put(self.ink.with(character, Kind::Unicode));
                self.put(self.ink.with(ZERO_WIDTH_SPACE, Kind::Padding));
            }
        }
    }

    /// A character without a width: into the second half of a wide one, or made one with the character before, or lost.
    fn combine(&mut self, character: u32) {
        if self.before(2).is_some_and(|code| width(code) == 2) {
            self.rewind();
            self.put(self.ink.with(character, Kind::Padding));
            return;
        }
        let Some(before) = self.before(1) else { return };
        if character == VARIATION_SELECTOR_16 && before != 0 {
            self.put(self.ink.with(character, Kind::Padding));
        } else if let Some(composed) = recompose(before, character) {
            self.rewind();
            self.put(self.ink.with(composed, Kind::Unicode));
        }
    }

    /// What is remembered of the cell so many before the one that would be written next.
    fn before(&self, distance: u32) -> Option<u32> {
        let next = self.now.x + u32::from(self.wrap);
        let x = next.checked_sub(distance)?;
        self.grid.at(x, self.now.y).map(Stored::code)
    }

    fn rewind(&mut self) {
        if !self.wrap {
            self.now.x = self.now.x.saturating_sub(1);
        }
        self.wrap = false;
    }

    fn wrap_if_pending(&mut self) {
        if self.wrap {
            self.carriage_return();
            self.line_feed();
        }
    }

    fn put(&mut self, cell: Stored) {
        self.wrap_if_pending();
        if self.modes.insert {
            self.insert_characters(1);
        }
        if let Some(here) = self.grid.tail_mut(self.now.x, self.now.y).first_mut() {
            *here = cell;
        }
        if self.now.x + 1 >= self.columns {
            self.wrap = self.modes.autowrap;
        } else {
            self.now.x += 1;
        }
    }

    /// What DECALN fills the screen with.
    pub(super) fn alignment(&self) -> Stored {
        self.blank.bare().with(' '.into(), Kind::Alignment)
    }
}
