//! Connections from other hosts, of which there may be any number at any time: how many are kept. Runs in umlmon, in
//! the monitor process, and in umldir.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use tokio::task::AbortHandle;

/// Connections of one kind, bounded in number, in all and from one source.
#[derive(Debug)]
pub struct Crowd {
    /// In all.
    max: usize,
    /// From one source.
    max_from_one: usize,
    members: RefCell<Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// By number, which grows with every connection. A handle is there of those that may be ended for others.
    all: BTreeMap<u64, (IpAddr, Option<AbortHandle>)>,
    by_source: HashMap<IpAddr, BTreeSet<u64>>,
    last: u64,
}

/// A place in the crowd, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Rc<Crowd>,
    number: u64,
}

impl Crowd {
    /// A crowd of at most `max` connections, of which `max_from_one` from the same source.
    pub fn new(max: usize, max_from_one: usize) -> Rc<Crowd> {
        Rc::new(Crowd {
            max,
            max_from_one,
            members: RefCell::default(),
        })
    }

    /// A place for a connection from this address; None if there is none free.
    pub fn enter(self: &Rc<Self>, from: IpAddr) -> Option<Place> {
        let source = source(from);
        let mut members = self.members.borrow_mut();
        let from_one = members.by_source.get(&source).map_or(0, BTreeSet::len);
        if members.all.len() >= self.max || from_one >= self.max_from_one {
            return None;
        }
        Some(self.add(&mut members, source))
    }

    /// Runs a connection from this address that may be ended when others need its place, until it gives the place
    /// back. If there is none free, the oldest connection from this source is ended, or else the oldest of all: who has
    /// something to ask has asked it long since.
    pub fn admit<F>(self: &Rc<Self>, from: IpAddr, run: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let place = self.push_in(from);
        let number = place.number;
        let task = tokio::task::spawn_local(run(place));
        if let Some((_, end)) = self.members.borrow_mut().all.get_mut(&number) {
            *end = Some(task.abort_handle());
        }
    }

    fn push_in(self: &Rc<Self>, from: IpAddr) -> Place {
        let source = source(from);
        let mut members = self.members.borrow_mut();
        let of_source = members.by_source.get(&source);
        let oldest = match of_source {
            Some(numbers) if numbers.len() >= self.max_from_one => numbers.first().copied(),
            _ if members.all.len() >= self.max => members.all.keys().next().copied(),
            _ => None,
        };
        if let Some(end) = oldest.and_then(|number| members.remove(number)) {
            end.abort();
        }
        self.add(&mut members, source)
    }

    fn add(self: &Rc<Self>, members: &mut Members, source: IpAddr) -> Place {
        members.last += 1;
        let number = members.last;
        members.all.insert(number, (source, None));
        members.by_source.entry(source).or_default().insert(number);
        Place {
            crowd: Rc::clone(self),
            number,
        }
    }
}

impl Members {
    /// Makes a place free; gives what ends its connection.
    fn remove(&mut self, number: u64) -> Option<AbortHandle> {
        let (source, handle) = self.all.remove(&number)?;
        if let Some(numbers) = self.by_source.get_mut(&source) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_source.remove(&source);
            }
        }
        handle
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.members.borrow_mut().remove(self.number);
    }
}

/// Who is counted as one: an IPv4 address, or a network of IPv6, as one host may have all addresses of it.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_counted_in_all_and_by_source() {
        let crowd = Crowd::new(3, 2);
        let (a, b) = (ip("192.0.2.1"), ip("::ffff:192.0.2.1"));
        let first = crowd.enter(a).unwrap();
        let _second = crowd.enter(b).unwrap();
        assert!(crowd.enter(a).is_none());
        let _third = crowd.enter(ip("2001:db8::1")).unwrap();
        assert!(crowd.enter(ip("192.0.2.2")).is_none());
        drop(first);
        assert!(crowd.enter(a).is_some());
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let crowd = Crowd::new(9, 1);
        let _place = crowd.enter(ip("2001:db8::1")).unwrap();
        assert!(crowd.enter(ip("2001:db8::ffff:2")).is_none());
        assert!(crowd.enter(ip("2001:db8:0:1::1")).is_some());
    }

    #[tokio::test]
    async fn the_oldest_goes_for_others() {
        let crowd = Crowd::new(2, 2);
        // Each holds the sender, whose receiver so learns of its end.
        let join = |from: &str| {
            let (alive, end) = tokio::sync::oneshot::channel::<()>();
            crowd.admit(ip(from), |place| async move {
                let _held = (place, alive);
                std::future::pending().await
            });
            end
        };
        tokio::task::LocalSet::new()
            .run_until(async {
                let (first, second) = (join("192.0.2.1"), join("192.0.2.2"));
                let third = join("192.0.2.3");
                assert!(first.await.is_err());
                let (mut fourth, mut fifth) = (join("192.0.2.3"), join("192.0.2.3"));
                assert!(second.await.is_err());
                // It has as many as it may: its own goes.
                assert!(third.await.is_err());
                assert!(fourth.try_recv() == Err(TryRecvError::Empty));
                assert!(fifth.try_recv() == Err(TryRecvError::Empty));
            })
            .await;
        assert_eq!(crowd.members.borrow().all.len(), 0);
    }
}
