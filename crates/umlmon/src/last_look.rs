//! What the last look at a kernel has shown, for as long as nothing changes that it depends on (umlmon, the monitor
//! process).
//!
//! A look costs as much as everything else of a start. Only a kernel is remembered that no user can change, with its
//! libraries and all directories above them.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::SystemTime;

use jail::Stamp;

use crate::second::orders::{LookOrder, Looked};

/// The last look at a kernel.
#[derive(Debug, Default)]
pub struct LastLook(RefCell<Option<Remembered>>);

#[derive(Debug)]
struct Remembered {
    order: LookOrder,
    looked: Looked,
    stamp: Stamp,
}

impl LastLook {
    /// What the same look in the jail `root` would show now, if that is known.
    pub fn recall(&self, root: BorrowedFd<'_>, order: &LookOrder) -> Option<Looked> {
        let last = self.0.borrow();
        let last = last.as_ref().filter(|last| last.order == *order)?;
        let now = Stamp::of(root, Path::new(&order.kernel), &last.looked.inspection)?;
        (now == last.stamp).then(|| last.looked.clone())
    }

    /// Remembers what a look has shown that began at this time, in place of what was remembered before.
    pub fn remember(
        &self,
        root: BorrowedFd<'_>,
        order: LookOrder,
        looked: &Looked,
        began: SystemTime,
    ) {
        let stamp = Stamp::of(root, Path::new(&order.kernel), &looked.inspection);
        let stamp = stamp.filter(|stamp| stamp.is_older_than(began));
        let remembered = stamp.map(|stamp| Remembered {
            order,
            looked: looked.clone(),
            stamp,
        });
        self.0.replace(remembered);
    }
}
