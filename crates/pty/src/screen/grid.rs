//! The cells of the screen. Part of the screen model in the umlmon daemon.
//!
//! Operations that a guest can request in a few bytes are cheap, however large the screen is: scrolling exchanges rows,
//! a row that is cleared is only marked, and so is a screen that is inverted.

use std::borrow::Cow;
use std::ops::Range;

use super::cell::Stored;

/// Rows of cells.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    cells: Vec<Stored>,
    /// Which line of `cells` a row is; with [`CLEAR`], all of its cells are like the first.
    lines: Vec<u16>,
    columns: u16,
    /// All cells are to be seen with their colours exchanged.
    inverted: bool,
}

/// There are not so many rows.
const CLEAR: u16 = 0x8000;

impl Grid {
    pub(super) fn new(rows: u16, columns: u16, blank: Stored, inverted: bool) -> Self {
        Self {
            cells: vec![blank; usize::from(rows) * usize::from(columns)],
            lines: (0..rows).collect(),
            columns,
            inverted,
        }
    }

    pub(super) fn rows(&self) -> u16 {
        u16::try_from(self.lines.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn columns(&self) -> u16 {
        self.columns
    }

    pub(super) fn is_inverted(&self) -> bool {
        self.inverted
    }

    pub(super) fn set_inverted(&mut self, inverted: bool) {
        self.inverted = inverted;
    }

    /// Where in `cells` a row is, and whether it is clear; nowhere beyond the last one.
    fn place(&self, y: u32) -> (Range<usize>, bool) {
        let width = usize::from(self.columns);
        self.lines.get(y as usize).map_or((0..0, false), |line| {
            let start = usize::from(*line & !CLEAR) * width;
            (start..start + width, line & CLEAR != 0)
        })
    }

    fn seen(&self, stored: Stored) -> Stored {
        if self.inverted {
            stored.inverted()
        } else {
            stored
        }
    }

    pub(super) fn at(&self, x: u32, y: u32) -> Option<Stored> {
        let (place, clear) = self.place(y);
        let x = if clear && x < u32::from(self.columns) {
            0
        } else {
            x
        };
        let stored = self.cells.get(place)?.get(x as usize)?;
        Some(self.seen(*stored))
    }

    /// A row as it is seen.
    pub(super) fn row(&self, y: u32) -> Cow<'_, [Stored]> {
        let (place, clear) = self.place(y);
        let cells = self.cells.get(place).unwrap_or_default();
        match cells.first() {
            Some(first) if clear => vec![self.seen(*first); cells.len()].into(),
            _ if self.inverted => cells.iter().map(|cell| cell.inverted()).collect(),
            _ => cells.into(),
        }
    }

    /// The cells of a row as they are stored: what is written there is to be inverted if the grid is.
    pub(super) fn row_mut(&mut self, y: u32) -> &mut [Stored] {
        let (place, clear) = self.place(y);
        let cells = self.cells.get_mut(place).unwrap_or_default();
        if clear {
            if let Some(first) = cells.first().copied() {
                cells.fill(first);
            }
            if let Some(line) = self.lines.get_mut(y as usize) {
                *line &= !CLEAR;
            }
        }
        cells
    }

    /// The cells of a row from a column on, as they are stored.
    #[inline]
    pub(super) fn tail_mut(&mut self, x: u32, y: u32) -> &mut [Stored] {
        self.row_mut(y).get_mut(x as usize..).unwrap_or_default()
    }

    /// Clears whole rows.
    pub(super) fn clear(&mut self, rows: Range<u32>, blank: Stored) {
        for y in rows {
            let (place, _) = self.place(y);
            if let Some(first) = self.cells.get_mut(place.start) {
                *first = blank;
            }
            if let Some(line) = self.lines.get_mut(y as usize) {
                *line |= CLEAR;
            }
        }
    }

    /// Moves the rows `top..bottom` up; at least one of them is kept.
    pub(super) fn scroll_up(&mut self, top: u32, bottom: u32, by: u32, blank: Stored) {
        if let Some(by) = self.rotate(top, bottom, by, <[u16]>::rotate_left) {
            self.clear(bottom - by..bottom, blank);
        }
    }

    /// Moves the rows `top..bottom` down; at least one of them is kept.
    pub(super) fn scroll_down(&mut self, top: u32, bottom: u32, by: u32, blank: Stored) {
        if let Some(by) = self.rotate(top, bottom, by, <[u16]>::rotate_right) {
            self.clear(top..top + by, blank);
        }
    }

    /// Rotates a region; returns by how much.
    fn rotate(
        &mut self,
        top: u32,
        bottom: u32,
        by: u32,
        rotate: fn(&mut [u16], usize),
    ) -> Option<u32> {
        let by = by.min(bottom.checked_sub(top)?.checked_sub(1)?);
        let region = self.lines.get_mut(top as usize..bottom as usize)?;
        if by == 0 {
            return None;
        }
        rotate(region, by as usize);
        Some(by)
    }

    /// Takes what another one shows at the same places, its rows from `first` on.
    pub(super) fn copy(&mut self, other: &Self, first: u32) {
        let inverted = self.inverted;
        for y in 0..u32::from(self.rows().min(other.rows())) {
            let from = other.row(y + first);
            for (to, from) in self.row_mut(y).iter_mut().zip(from.iter()) {
                *to = if inverted { from.inverted() } else { *from };
            }
        }
    }

    /// The rows from `first` on in a grid of another size.
    pub(super) fn resized(&self, rows: u16, columns: u16, first: u32, blank: Stored) -> Self {
        let mut new = Self::new(rows, columns, blank, self.inverted);
        new.copy(self, first);
        new
    }

    /// Another one in the size of this.
    pub(super) fn resized_like(&self, other: &Self) -> Self {
        let mut new = self.clone();
        new.copy(other, 0);
        new
    }
}
