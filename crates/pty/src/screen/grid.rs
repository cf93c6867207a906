//! The cells of the screen. Part of the screen model in the umlmon daemon.

use std::ops::Range;

use super::cell::Stored;

/// Rows of cells. To scroll is to exchange rows, not to move cells.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    cells: Vec<Stored>,
    /// Which line of `cells` a row is.
    lines: Vec<u16>,
    columns: u16,
}

impl Grid {
    pub(super) fn new(rows: u16, columns: u16, blank: Stored) -> Self {
        Self {
            cells: vec![blank; usize::from(rows) * usize::from(columns)],
            lines: (0..rows).collect(),
            columns,
        }
    }

    pub(super) fn rows(&self) -> u16 {
        u16::try_from(self.lines.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn columns(&self) -> u16 {
        self.columns
    }

    /// Where in `cells` a row is; an empty range beyond the last one.
    fn place(&self, y: u32) -> Range<usize> {
        let width = usize::from(self.columns);
        self.lines.get(y as usize).map_or(0..0, |line| {
            let start = usize::from(*line) * width;
            start..start + width
        })
    }

    pub(super) fn row(&self, y: u32) -> &[Stored] {
        self.cells.get(self.place(y)).unwrap_or_default()
    }

    pub(super) fn row_mut(&mut self, y: u32) -> &mut [Stored] {
        let place = self.place(y);
        self.cells.get_mut(place).unwrap_or_default()
    }

    /// The cells of a row from a column on.
    pub(super) fn tail_mut(&mut self, x: u32, y: u32) -> &mut [Stored] {
        self.row_mut(y).get_mut(x as usize..).unwrap_or_default()
    }

    pub(super) fn all_mut(&mut self) -> &mut [Stored] {
        &mut self.cells
    }

    /// Clears whole rows.
    pub(super) fn clear(&mut self, rows: Range<u32>, blank: Stored) {
        for y in rows {
            self.row_mut(y).fill(blank);
        }
    }

    /// Moves the rows `top..bottom` up; at least one of them is kept.
    pub(super) fn scroll_up(&mut self, top: u32, bottom: u32, by: u32, blank: Stored) {
        let Some(by) = self.region(top, bottom, by, <[u16]>::rotate_left) else {
            return;
        };
        self.clear(bottom - by..bottom, blank);
    }

    /// Moves the rows `top..bottom` down; at least one of them is kept.
    pub(super) fn scroll_down(&mut self, top: u32, bottom: u32, by: u32, blank: Stored) {
        let Some(by) = self.region(top, bottom, by, <[u16]>::rotate_right) else {
            return;
        };
        self.clear(top..top + by, blank);
    }

    /// Rotates a region; returns by how much.
    fn region(
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

    /// Takes what another one has at the same places.
    pub(super) fn copy(&mut self, other: &Self) {
        for y in 0..u32::from(self.rows().min(other.rows())) {
            for (to, from) in self.row_mut(y).iter_mut().zip(other.row(y)) {
                *to = *from;
            }
        }
    }

    /// Another one in the size of this.
    pub(super) fn resized_like(&self, other: &Self) -> Self {
        let mut new = self.clone();
        new.copy(other);
        new
    }

    /// The rows from `first` on in a grid of another size.
    pub(super) fn resized(&self, rows: u16, columns: u16, first: u32, blank: Stored) -> Self {
        let mut new = Self::new(rows, columns, blank);
        let kept = rows.min(self.rows());
        for y in 0..u32::from(kept) {
            let old = self.row(y + first);
            for (to, from) in new.row_mut(y).iter_mut().zip(old) {
                *to = *from;
            }
        }
        new
    }
}
