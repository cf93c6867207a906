//! How much of something each caller may have at once, so that one caller cannot use it all (umlmon, the monitor
//! process).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

/// Who calls, however many connections it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// A local user.
    User(u32),
    /// A host, or a network of them (`daemon::source`).
    Source(IpAddr),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::User(uid) => write!(f, "uid {uid}"),
            Caller::Source(source) => write!(f, "{source}"),
        }
    }
}

/// Things of one kind, limited in number, in all and for one caller.
#[derive(Debug)]
pub struct Shares {
    max: usize,
    max_of_one: usize,
    taken: RefCell<BTreeMap<Caller, usize>>,
}

/// One of them, free again when it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Rc<Shares>,
    caller: Caller,
}

impl Shares {
    /// At most `max`, of which `max_of_one` for the same caller.
    pub fn new(max: usize, max_of_one: usize) -> Rc<Shares> {
        Rc::new(Shares {
            max,
            max_of_one,
            taken: RefCell::default(),
        })
    }

    /// One for this caller; None if there is none free.
    pub fn take(self: &Rc<Self>, caller: Caller) -> Option<Share> {
        let mut taken = self.taken.borrow_mut();
        let of_one = taken.get(&caller).copied().unwrap_or(0);
        if of_one >= self.max_of_one || taken.values().sum::<usize>() >= self.max {
            return None;
        }
        taken.insert(caller, of_one + 1);
        Some(Share {
            shares: Rc::clone(self),
            caller,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.borrow_mut();
        match taken.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_the_others_theirs() {
        let shares = Shares::new(3, 2);
        let [one, two, three] = [1, 2, 3].map(Caller::User);
        let first = shares.take(one).unwrap();
        let _second = shares.take(one).unwrap();
        assert!(shares.take(one).is_none());
        let _third = shares.take(two).unwrap();
        assert!(shares.take(three).is_none());
        drop(first);
        let _fourth = shares.take(three).unwrap();
        assert!(shares.take(one).is_none());
        assert_eq!(shares.taken.borrow().len(), 3);
    }
}
