//! How much each caller may have at once of something, and of the monitor's time, so that one caller cannot use it all
//! (umlmon, the monitor process).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

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

/// How long a caller waits after a piece of work, as a multiple of the time that it took: so he has at most a quarter
/// of the monitor's time.
const REST: u32 = 3;

/// Work that lets everybody wait meanwhile: each caller gets one piece done at a time, and others come in between.
#[derive(Debug, Default)]
pub struct Turns {
    /// From when on a caller may have the next piece done.
    rests: RefCell<BTreeMap<Caller, Instant>>,
}

impl Turns {
    /// Does the work as soon as it is the caller's turn.
    pub async fn take<T>(&self, caller: Caller, work: impl FnOnce() -> T) -> T {
        while let Some(end) = self.rest(caller) {
            sleep_until(end).await;
        }
        let began = Instant::now();
        let done = work();
        self.rested(caller, began.elapsed());
        done
    }

    /// Until when the caller has to wait.
    fn rest(&self, caller: Caller) -> Option<Instant> {
        let end = self.rests.borrow().get(&caller).copied()?;
        (end > Instant::now()).then_some(end)
    }

    fn rested(&self, caller: Caller, took: Duration) {
        let now = Instant::now();
        let mut rests = self.rests.borrow_mut();
        rests.retain(|_, end| *end > now);
        rests.insert(caller, now + took * REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_the_others_wait_waits_too() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let [greedy, other] = [1, 2].map(Caller::User);
        let (turns, order) = (Turns::default(), RefCell::default());
        let work = |name: &'static str, time| {
            let order: &RefCell<Vec<&str>> = &order;
            move || {
                std::thread::sleep(time);
                order.borrow_mut().push(name);
            }
        };
        let (long, none) = (Duration::from_millis(20), Duration::ZERO);
        let began = Instant::now();
        runtime.block_on(async {
            tokio::join!(
                turns.take(greedy, work("first", long)),
                turns.take(greedy, work("second", long)),
                turns.take(greedy, work("third", none)),
                turns.take(other, work("other", none)),
            )
        });
        assert_eq!(*order.borrow(), ["first", "other", "second", "third"]);
        assert!(began.elapsed() >= 2 * long + 2 * long * REST);
        assert!(turns.rests.borrow().len() <= 2);
    }

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
