//! The screen as the kernel would show it through /dev/vcsaN and /dev/vcsuN. Part of the screen model in the umlmon
//! daemon; the example `vcsa` and the comparison with the kernel use it.

use super::Screen;

impl Screen {
    /// What /dev/vcsaN would show: rows, columns, and the cursor's column and row, each in a byte and at most 255; then
    /// a byte for the position in the font and one for the attribute of every cell.
    pub fn vcsa(&self) -> Vec<u8> {
        let byte = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
        let mut dump = vec![
            byte(self.rows),
            byte(self.columns),
            byte(self.now.x),
            byte(self.now.y),
        ];
        for y in 0..self.rows {
            let row = self.grid.row(y);
            dump.extend(row.iter().flat_map(|cell| [cell.glyph(), cell.attribute()]));
        }
        dump
    }

    /// What /dev/vcsuN would show: the code of every cell in four bytes, in the byte order of this machine.
    pub fn vcsu(&self) -> Vec<u8> {
        let mut dump = Vec::new();
        for y in 0..self.rows {
            let row = self.grid.row(y);
            dump.extend(row.iter().flat_map(|cell| cell.code().to_ne_bytes()));
        }
        dump
    }
}
