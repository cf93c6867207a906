//! The sizes that the window of a console has had, each at its place in the output: a page that only watches follows
//! them (umlweb).

use std::collections::VecDeque;

use rpc_xdr::umlmonctrl::ConSize;

/// Sizes whose places in the output have not been reached.
#[derive(Debug, Default)]
pub struct Sizes {
    waiting: VecDeque<ConSize>,
    /// The number of the last one that was taken.
    last: u64,
}

impl Sizes {
    /// The number of the last one that was taken, after which the monitor is asked for more.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Takes those that the monitor knows.
    pub fn take(&mut self, sizes: Vec<ConSize>) {
        self.last = sizes.last().map_or(self.last, |size| size.number);
        self.waiting.extend(sizes);
    }

    /// Rows and columns from this offset on, if there is a change at it or before.
    pub fn reach(&mut self, offset: u64) -> Option<(u32, u32)> {
        let passed = std::iter::from_fn(|| self.waiting.pop_front_if(|size| size.offset <= offset));
        passed.last().map(|size| (size.rows, size.columns))
    }

    /// How many of `length` bytes at this offset the guest has written before the next change.
    pub fn until_next(&self, offset: u64, length: usize) -> usize {
        let next = self.waiting.front();
        let left = next.map_or(u64::MAX, |size| size.offset.saturating_sub(offset));
        usize::try_from(left).map_or(length, |left| left.min(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_holds_from_its_place_on() {
        let size = |number, offset, rows| ConSize {
            number,
            offset,
            rows,
            columns: 80,
        };
        let mut sizes = Sizes::default();
        assert_eq!((sizes.reach(5), sizes.until_next(5, 100)), (None, 100));
        sizes.take(vec![size(1, 0, 24), size(2, 10, 30), size(3, 40, 25)]);
        sizes.take(Vec::new());
        assert_eq!(sizes.last(), 3);
        assert_eq!(sizes.reach(12), Some((30, 80)));
        assert_eq!((sizes.reach(13), sizes.until_next(13, 100)), (None, 27));
        assert_eq!(sizes.until_next(13, 20), 20);
        assert_eq!(sizes.reach(40), Some((25, 80)));
        assert_eq!(sizes.until_next(40, 100), 100);
    }
}
