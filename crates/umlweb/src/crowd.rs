//! How many connections are kept; their number is not under our control (umlweb).
//!
//! As in `daemon::Crowd`, but for threads: a connection is ended by shutting it down, which its thread notices.

use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::source;

/// Connections, bounded in number, in all and from one source.
#[derive(Debug)]
pub struct Crowd {
    max: usize,
    max_from_one: usize,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// By number, which grows with every connection.
    all: BTreeMap<u64, Member>,
    last: u64,
}

#[derive(Debug)]
struct Member {
    source: IpAddr,
    stream: TcpStream,
    /// It has shown that it belongs to a session, and is not ended in favour of others.
    known: bool,
}

/// A place in the crowd, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Crowd {
    /// A crowd of at most `max` connections, of which `max_from_one` from the same source.
    pub fn new(max: usize, max_from_one: usize) -> Arc<Crowd> {
        Arc::new(Crowd {
            max,
            max_from_one,
            members: Mutex::default(),
        })
    }

    /// A place for a connection. If this source has as many as it may, its own oldest one that belongs to no session is
    /// ended; if no place is free, that of the source that has the most. None if all belong to sessions, or it breaks.
    pub fn enter(self: &Arc<Self>, from: IpAddr, stream: &TcpStream) -> Option<Place> {
        let source = source(from);
        let stream = stream.try_clone().ok()?;
        let mut members = self.lock();
        let strangers = |of: Option<IpAddr>| {
            let of_it = |member: &&Member| !member.known && of.is_none_or(|of| member.source == of);
            members.all.values().filter(of_it).count()
        };
        let goes = if strangers(Some(source)) >= self.max_from_one {
            members.oldest_of(source)
        } else if members.all.len() >= self.max {
            Some(members.oldest_of_the_largest()?)
        } else {
            None
        };
        if let Some(member) = goes.and_then(|number| members.all.remove(&number)) {
            // It may be gone already.
            let _ = member.stream.shutdown(Shutdown::Both);
        }
        members.last += 1;
        let number = members.last;
        let member = Member {
            source,
            stream,
            known: false,
        };
        members.all.insert(number, member);
        Some(Place {
            crowd: Arc::clone(self),
            number,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn strangers(&self) -> impl Iterator<Item = (u64, IpAddr)> {
        let strangers = self.all.iter().filter(|(_, member)| !member.known);
        strangers.map(|(number, member)| (*number, member.source))
    }

    fn oldest_of(&self, source: IpAddr) -> Option<u64> {
        let mut of_it = self.strangers().filter(|(_, from)| *from == source);
        of_it.next().map(|(number, _)| number)
    }

    fn oldest_of_the_largest(&self) -> Option<u64> {
        let mut counts = BTreeMap::new();
        self.strangers()
            .for_each(|(_, source)| *counts.entry(source).or_insert(0) += 1);
        let (source, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        self.oldest_of(source)
    }
}

impl Place {
    /// The connection belongs to a session from now on, or no longer.
    pub fn set_known(&self, known: bool) {
        if let Some(member) = self.crowd.lock().all.get_mut(&self.number) {
            member.known = known;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn is_ended(mut client: &TcpStream) -> bool {
        client.set_nonblocking(true).unwrap();
        matches!(client.read(&mut [0]), Ok(0))
    }

    #[test]
    fn whoever_has_few_keeps_them() {
        let crowd = Crowd::new(8, 5);
        let (honest, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let (client, server) = pair();
        let _place = crowd.enter(honest, &server).unwrap();
        let (session, mine) = pair();
        let place = crowd.enter(other, &mine).unwrap();
        place.set_known(true);
        let many: Vec<_> = (0..50).map(|_| pair()).collect();
        let places = many.iter().map(|(_, server)| crowd.enter(other, server));
        let places: Vec<Place> = places.map(Option::unwrap).collect();
        assert!(!is_ended(&client) && !is_ended(&session));
        let left = many.iter().filter(|(client, _)| !is_ended(client)).count();
        assert_eq!(left, 5);
        drop(places);
        assert_eq!(crowd.lock().all.len(), 2);
    }

    #[test]
    fn sessions_alone_can_fill_it() {
        let crowd = Crowd::new(2, 2);
        let pairs = [pair(), pair(), pair()];
        let from = IpAddr::from([192, 0, 2, 1]);
        let enter = |number: usize| crowd.enter(from, &pairs[number].1);
        let (first, second) = (enter(0).unwrap(), enter(1).unwrap());
        first.set_known(true);
        second.set_known(true);
        assert!(enter(2).is_none());
        second.set_known(false);
        assert!(enter(2).is_some());
    }
}
