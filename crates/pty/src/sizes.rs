//! The sizes that the window of a channel has had, by their position in the stream. Used by the umlmon daemon.

use std::collections::VecDeque;

/// How many sizes are kept.
pub const SIZES_MAX: usize = 64;

/// No window is changed that often.
const NUMBER_MAX: u64 = 1 << 60;

/// A size that the window of a channel has had, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Counted from 1.
    pub number: u64,
    /// Offset of the first byte that the guest wrote after the change.
    pub offset: u64,
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// The latest sizes, the oldest first; there is always one.
#[derive(Debug, Default)]
pub(crate) struct Sizes(VecDeque<WindowSize>);

impl Sizes {
    /// The window has this size from `offset` on.
    pub(crate) fn push(&mut self, offset: u64, rows: u16, columns: u16) {
        let last = self.0.back();
        if last.is_some_and(|last| (last.rows, last.columns) == (rows, columns)) {
            return;
        }
        let number = last.map_or(1, |last| last.number + 1);
        if self.0.len() == SIZES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(WindowSize {
            number,
            offset,
            rows,
            columns,
        });
    }

    /// Those of a former monitor, up to an offset; None if they are not in order.
    pub(crate) fn adopt(sizes: Vec<WindowSize>, end: u64) -> Option<Self> {
        let in_order =
            sizes.is_sorted_by(|one, next| one.number < next.number && one.offset <= next.offset);
        let last = sizes.last()?;
        let possible = last.number < NUMBER_MAX && last.offset <= end;
        (in_order && possible && sizes.len() <= SIZES_MAX).then(|| Self(sizes.into()))
    }

    /// The latest.
    pub(crate) fn last(&self) -> Option<&WindowSize> {
        self.0.back()
    }

    /// Those with a greater number.
    pub(crate) fn after(&self, number: u64) -> Vec<WindowSize> {
        let later = self.0.iter().filter(|size| size.number > number);
        later.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_changes_are_kept_each_once() {
        let mut sizes = Sizes::default();
        for (offset, rows) in [(0, 24), (10, 30), (12, 30), (20, 24)] {
            sizes.push(offset, rows, 80);
        }
        let kept = |sizes: &Sizes, after| {
            let later = sizes.after(after).into_iter();
            later
                .map(|size| (size.number, size.offset, size.rows))
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(&sizes, 0), [(1, 0, 24), (2, 10, 30), (3, 20, 24)]);
        assert_eq!(kept(&sizes, 2), [(3, 20, 24)]);
        assert_eq!(kept(&sizes, 9), []);
        for rows in 100..200 {
            sizes.push(30, rows, 80);
        }
        let latest = sizes.after(0);
        assert_eq!(latest.len(), SIZES_MAX);
        assert_eq!((latest[0].number, latest[63].rows), (40, 199));
        let mut adopted = Sizes::adopt(latest.clone(), 30).unwrap();
        assert_eq!(adopted.after(0), latest);
        adopted.push(40, 1, 1);
        assert_eq!(adopted.after(103).len(), 1);
        assert!(Sizes::adopt(latest.clone(), 29).is_none());
        assert!(Sizes::adopt(latest.into_iter().rev().collect(), 30).is_none());
        assert!(Sizes::adopt(Vec::new(), 30).is_none());
    }
}
