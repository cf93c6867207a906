//! How many of the connections from other hosts are kept; their number is not under our control. Runs in umlmon, in the
//! monitor process, and in umldir.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::task::AbortHandle;

use crate::source;

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
    /// By number, which grows with every connection.
    all: BTreeMap<u64, Member>,
    by_source: HashMap<IpAddr, BTreeSet<u64>>,
    last: u64,
}

#[derive(Debug)]
struct Member {
    source: IpAddr,
    /// Present if the connection may be ended in favour of others.
    end: Option<AbortHandle>,
    /// It has sent a valid message.
    spoke: bool,
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

    /// Runs a connection from this address that may be ended when others need its place, until it gives the place back.
    /// If this source has as many as it may, its own oldest one is ended. If no place is free, one of the source that
    /// has the most is ended: so a source with few connections keeps them, however many others come, and however often.
    /// Within that source, or several with as many, one without a valid message is ended first, then the oldest.
    pub fn admit<F>(self: &Rc<Self>, from: IpAddr, run: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let place = self.push_in(from);
        let number = place.number;
        let task = tokio::task::spawn_local(run(place));
        if let Some(member) = self.members.borrow_mut().all.get_mut(&number) {
            member.end = Some(task.abort_handle());
        }
    }

    fn push_in(self: &Rc<Self>, from: IpAddr) -> Place {
        let source = source(from);
        let mut members = self.members.borrow_mut();
        let from_one = members.by_source.get(&source).map_or(0, BTreeSet::len);
        let goes = if from_one >= self.max_from_one {
            members.first_of(&source)
        } else if members.all.len() >= self.max {
            members.first_of_the_largest()
        } else {
            None
        };
        if let Some(end) = goes.and_then(|number| members.remove(number)) {
            end.abort();
        }
        self.add(&mut members, source)
    }

    fn add(self: &Rc<Self>, members: &mut Members, source: IpAddr) -> Place {
        members.last += 1;
        let number = members.last;
        let member = Member {
            source,
            end: None,
            spoke: false,
        };
        members.all.insert(number, member);
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
        let member = self.all.remove(&number)?;
        if let Some(numbers) = self.by_source.get_mut(&member.source) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_source.remove(&member.source);
            }
        }
        member.end
    }

    /// Which connection of a source is ended first.
    fn first_of(&self, source: &IpAddr) -> Option<u64> {
        self.first(self.by_source.get(source)?)
    }

    /// Which connection of the sources that have the most is ended first.
    fn first_of_the_largest(&self) -> Option<u64> {
        let most = self.by_source.values().map(BTreeSet::len).max()?;
        let largest = self.by_source.values().filter(|it| it.len() == most);
        self.first(largest.flatten())
    }

    fn first<'a>(&self, numbers: impl IntoIterator<Item = &'a u64>) -> Option<u64> {
        let spoke = |number: &u64| self.all.get(number).is_some_and(|member| member.spoke);
        let key = |number: &&u64| (spoke(number), **number);
        numbers.into_iter().min_by_key(key).copied()
    }
}

impl Place {
    /// The connection has sent a valid message: it is no longer among those that are ended first.
    pub fn spoke(&self) {
        let mut members = self.crowd.members.borrow_mut();
        if let Some(member) = members.all.get_mut(&self.number) {
            member.spoke = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.members.borrow_mut().remove(self.number);
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

    /// A connection that continues until it is ended; the receiver is notified then.
    fn join(crowd: &Rc<Crowd>, from: &str, speaks: bool) -> tokio::sync::oneshot::Receiver<()> {
        let (alive, end) = tokio::sync::oneshot::channel::<()>();
        crowd.admit(ip(from), |place| {
            if speaks {
                place.spoke();
            }
            async move {
                let _held = (place, alive);
                std::future::pending().await
            }
        });
        end
    }

    fn goes_on(end: &mut tokio::sync::oneshot::Receiver<()>) -> bool {
        end.try_recv() == Err(TryRecvError::Empty)
    }

    #[tokio::test]
    async fn whoever_has_few_keeps_them() {
        let crowd = Crowd::new(64, 16);
        tokio::task::LocalSet::new()
            .run_until(async {
                let mut honest = join(&crowd, "192.0.2.200", false);
                // Ten connections from each of thirty addresses, all with valid messages.
                for round in 0..10 {
                    for attacker in 0..30 {
                        let from = format!("192.0.2.{attacker}");
                        drop(join(&crowd, &from, round % 2 == 0));
                    }
                }
                assert!(goes_on(&mut honest));
                // It is admitted later, too.
                let mut late = join(&crowd, "192.0.2.201", false);
                for attacker in 0..30 {
                    drop(join(&crowd, &format!("192.0.2.{attacker}"), true));
                }
                assert!(goes_on(&mut late) && goes_on(&mut honest));
            })
            .await;
    }

    #[tokio::test]
    async fn of_as_many_the_silent_go_first() {
        let crowd = Crowd::new(3, 2);
        tokio::task::LocalSet::new()
            .run_until(async {
                let mut first = join(&crowd, "192.0.2.1", true);
                let second = join(&crowd, "192.0.2.2", false);
                let mut third = join(&crowd, "192.0.2.3", true);
                let mut fourth = join(&crowd, "192.0.2.4", true);
                assert!(second.await.is_err());
                let mut fifth = join(&crowd, "192.0.2.5", true);
                assert!((&mut first).await.is_err());
                assert!(
                    [&mut third, &mut fourth, &mut fifth]
                        .into_iter()
                        .all(goes_on)
                );
            })
            .await;
    }

    #[tokio::test]
    async fn the_oldest_goes_for_others() {
        let crowd = Crowd::new(2, 2);
        let join = |from: &str| join(&crowd, from, false);
        tokio::task::LocalSet::new()
            .run_until(async {
                let (first, second) = (join("192.0.2.1"), join("192.0.2.2"));
                let third = join("192.0.2.3");
                assert!(first.await.is_err());
                let (mut fourth, mut fifth) = (join("192.0.2.3"), join("192.0.2.3"));
                assert!(second.await.is_err());
                // It has as many as it may: one of its own is ended.
                assert!(third.await.is_err());
                assert!(fourth.try_recv() == Err(TryRecvError::Empty));
                assert!(fifth.try_recv() == Err(TryRecvError::Empty));
            })
            .await;
        assert_eq!(crowd.members.borrow().all.len(), 0);
    }
}
