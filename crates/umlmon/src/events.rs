//! What happens to the VM. Reported here, once, it becomes a line of the monitor's log and an event for the clients
//! that listen (umlmon, the monitor process).
//!
//! The last events are kept, so that a client that was away for a moment misses none; a slower one gets the number of
//! those that it missed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime};

use config::ChannelName;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::remarks::{OF_CALLER, Remarks, Verdict};
use crate::shares::Caller;
use crate::status::LastEnd;
use crate::status::Phase;

/// So many events are kept.
const KEPT: usize = 256;
/// Callers whose lines are counted; of further ones nothing is logged.
const MAX_CALLERS: usize = 256;
/// At most so many bytes of text from a guest or a client are kept: an event is a line, and not a store.
const WORDS: usize = 512;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The command of umlwatch(1) that asks for it, such as "set".
    pub verb: &'static str,
    /// A parameter, a channel, disks, or the letter of a system request; empty if the verb says it all.
    pub object: String,
    /// Whether it is in order that it is refused: the client cannot know before whether it can be done.
    pub is_attempt: bool,
}

impl Wish {
    /// A request for `verb` with `object`.
    pub fn new(verb: &'static str, object: impl Into<String>) -> Wish {
        Wish {
            verb,
            object: object.into(),
            is_attempt: false,
        }
    }

    /// A request for `verb`, of which only the answer says whether it can be done.
    pub fn attempt(verb: &'static str) -> Wish {
        Wish {
            is_attempt: true,
            ..Wish::from(verb)
        }
    }
}

impl From<&'static str> for Wish {
    fn from(verb: &'static str) -> Wish {
        Wish::new(verb, "")
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.object.as_str() {
            "" => f.write_str(self.verb),
            object => write!(f, "{} {object}", self.verb),
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The VM is in another state.
    State(Phase),
    /// A run of the kernel has ended, or could not be started.
    End(LastEnd),
    /// The guest has said that it is ready.
    Ready,
    /// The guest says something else.
    Guest(String),
    /// The guest kernel panics.
    Panic(String),
    /// The guest kernel reports a hang.
    Hang,
    /// The kernel has not reported its mconsole for so many seconds.
    Silent(u64),
    /// A client asks for something.
    Request {
        /// The client.
        who: String,
        /// The request.
        wish: Wish,
    },
    /// A client does not get what it asked for.
    Refused {
        /// The client.
        who: String,
        /// The request.
        wish: Wish,
        /// The reason.
        why: String,
    },
    /// A client is attached to a channel.
    Attached {
        /// The channel.
        channel: ChannelName,
        /// The client.
        who: String,
        /// What for: "watch", "write", "force".
        mode: &'static str,
    },
    /// A client is no longer attached to a channel.
    Detached {
        /// The channel.
        channel: ChannelName,
        /// The client.
        who: String,
    },
    /// Work on a disk has ended.
    Disk {
        /// What was to be done.
        task: String,
        /// Why it was not done.
        failure: Option<String>,
    },
    /// The monitor ends.
    Shutdown,
    /// The VM has outlived another monitor, and this one goes on with it.
    Adopted,
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happening::State(phase) => write!(f, "the VM is {phase}"),
            Happening::End(end) => write!(f, "the kernel has ended: {end}"),
            Happening::Ready => f.write_str("the guest is ready"),
            Happening::Guest(text) => write!(f, "the guest says: {text}"),
            Happening::Panic(text) => write!(f, "kernel panic: {text}"),
            Happening::Hang => f.write_str("the kernel reports a hang"),
            Happening::Silent(seconds) => write!(
                f,
                "the kernel has not reported its mconsole for {seconds} s: it hangs, or boots slowly (con0 may show why, \
                 -kill ends it)"
            ),
            Happening::Request { who, wish } => write!(f, "{wish} requested ({who})"),
            Happening::Refused { who, wish, why } => {
                write!(f, "{wish} refused ({who}): {why}")
            }
            Happening::Attached { channel, who, mode } => {
                write!(f, "{who} attached to {channel} ({mode})")
            }
            Happening::Detached { channel, who } => write!(f, "{who} detached from {channel}"),
            Happening::Disk {
                task,
                failure: None,
            } => write!(f, "{task} is done"),
            Happening::Disk {
                task,
                failure: Some(why),
            } => write!(f, "{task} was not done: {why}"),
            Happening::Shutdown => f.write_str("the monitor is shutting down"),
            Happening::Adopted => f.write_str("the monitor has adopted the running VM"),
        }
    }
}

impl Happening {
    /// With the text of guests and clients cut to what is kept of it.
    fn bounded(mut self) -> Happening {
        let words = match &mut self {
            Happening::Guest(text) | Happening::Panic(text) => text,
            Happening::Refused { why, .. } => why,
            Happening::Disk {
                failure: Some(why), ..
            } => why,
            _ => return self,
        };
        words.truncate(words.floor_char_boundary(WORDS));
        self
    }

    /// Whether an administrator should look at it.
    fn is_trouble(&self) -> bool {
        match self {
            Happening::Panic(_) | Happening::Hang | Happening::Silent(_) => true,
            Happening::Refused { wish, .. } => !wish.is_attempt,
            _ => false,
        }
    }
}

/// An event with its number and time.
#[derive(Debug, Clone)]
pub struct Event {
    /// Counted from 1 since the daemon was started.
    pub number: u64,
    /// When.
    pub time: SystemTime,
    /// The state of the VM after it.
    pub phase: Phase,
    /// What.
    pub what: Happening,
}

/// Events in their order.
#[derive(Debug, Default)]
pub struct Page {
    /// At most as many as were asked for.
    pub events: Vec<Event>,
    /// The number after which to go on.
    pub last: u64,
    /// How many, before the first of these, are kept no longer.
    pub missed: u64,
}

/// Writes it to the log.
fn write(what: &Happening) {
    match what.is_trouble() {
        true => tracing::warn!("{what}"),
        false => tracing::info!("{what}"),
    }
}

/// The last events, and who waits for the next ones.
#[derive(Debug)]
pub struct Events {
    kept: RefCell<VecDeque<Event>>,
    last: watch::Sender<u64>,
    phase: Cell<Phase>,
    /// Up to which number each listener knows the events.
    known: RefCell<Vec<Weak<Cell<u64>>>>,
    /// A listener has learned of some, or has gone.
    moved: Notify,
    /// The recent lines that callers have caused.
    callers: RefCell<BTreeMap<Caller, Remarks>>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            kept: RefCell::default(),
            last: watch::Sender::new(0),
            phase: Cell::new(Phase::Inactive),
            known: RefCell::default(),
            moved: Notify::new(),
            callers: RefCell::default(),
        }
    }
}

impl Events {
    /// Something has happened: writes it to the log, and wakes those who listen.
    pub fn tell(&self, what: Happening) {
        let what = what.bounded();
        write(&what);
        self.keep(what);
    }

    /// The same for what a caller has caused: if there is too much of that, it is not written to the log.
    pub fn tell_of(&self, caller: Caller, what: Happening) {
        let what = what.bounded();
        if self.may_log(caller) {
            write(&what);
        }
        self.keep(what);
    }

    /// Whether a line about this caller may be written to the log. The first one too many is logged as such.
    pub fn may_log(&self, caller: Caller) -> bool {
        let now = Instant::now();
        let mut callers = self.callers.borrow_mut();
        if callers.len() >= MAX_CALLERS && !callers.contains_key(&caller) {
            callers.retain(|_, remarks| !remarks.is_over(now));
            if callers.len() >= MAX_CALLERS {
                return false;
            }
        }
        let remarks = callers.entry(caller);
        match remarks
            .or_insert_with(|| Remarks::new(OF_CALLER, now))
            .judge(now)
        {
            Verdict::Log => true,
            Verdict::Enough => {
                tracing::warn!("{caller} does a lot; for a while it is not logged");
                false
            }
            Verdict::Drop => false,
        }
    }

    fn keep(&self, what: Happening) {
        if let Happening::State(phase) = &what {
            self.phase.set(*phase);
        }
        let number = *self.last.borrow() + 1;
        let mut kept = self.kept.borrow_mut();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Event {
            number,
            time: SystemTime::now(),
            phase: self.phase.get(),
            what,
        });
        drop(kept);
        self.last.send_replace(number);
    }

    /// Somebody begins to listen.
    pub fn listener(self: &Rc<Self>) -> Listener {
        let known = Rc::default();
        let mut all = self.known.borrow_mut();
        all.retain(|other| other.strong_count() > 0);
        all.push(Rc::downgrade(&known));
        let events = Rc::clone(self);
        Listener { known, events }
    }

    /// Waits until all who listen know what has happened, or have gone; not longer than this.
    pub async fn all_known(&self, wait: Duration) {
        let is_behind = |known: &Weak<Cell<u64>>| {
            let known = known.upgrade();
            known.is_some_and(|known| known.get() < *self.last.borrow())
        };
        let caught_up = async {
            loop {
                let moved = self.moved.notified();
                if !self.known.borrow().iter().any(is_behind) {
                    return;
                }
                moved.await;
            }
        };
        // The others are too slow.
        let _ = timeout(wait, caught_up).await;
    }

    /// Up to `max` events after a number; waits if there is none. A number that is still to come means: from now on.
    pub async fn read(&self, after: u64, max: usize, wait: Duration) -> Page {
        let mut last = self.last.subscribe();
        let after = after.min(*last.borrow());
        // Whether the time was over is seen from the result.
        let _ = timeout(wait, last.wait_for(|last| *last > after)).await;
        let kept = self.kept.borrow();
        let events: Vec<_> = kept
            .iter()
            .filter(|event| event.number > after)
            .take(max)
            .cloned()
            .collect();
        let first = events.first().map_or(after + 1, |event| event.number);
        Page {
            last: events.last().map_or(after, |event| event.number),
            missed: first - after - 1,
            events,
        }
    }
}

/// Who reads the events one after the other.
#[derive(Debug)]
pub struct Listener {
    known: Rc<Cell<u64>>,
    events: Rc<Events>,
}

impl Listener {
    /// It asks for what comes after this number, so it knows what was before.
    pub fn knows(&self, number: u64) {
        self.known.set(number.min(*self.events.last.borrow()));
        self.events.moved.notify_waiters();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It is behind no more.
        self.known.set(u64::MAX);
        self.events.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    fn numbers(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.number).collect()
    }

    #[tokio::test]
    async fn a_reader_goes_on_where_it_was() {
        let events = Events::default();
        (0..3).for_each(|n| events.tell(Happening::Guest(n.to_string())));
        let page = events.read(0, 2, AT_ONCE).await;
        assert_eq!((numbers(&page), page.last, page.missed), (vec![1, 2], 2, 0));
        let page = events.read(page.last, 2, AT_ONCE).await;
        assert_eq!((numbers(&page), page.last, page.missed), (vec![3], 3, 0));
        let page = events.read(page.last, 2, AT_ONCE).await;
        assert_eq!((numbers(&page), page.last, page.missed), (vec![], 3, 0));
        let page = events.read(u64::MAX, 2, AT_ONCE).await;
        assert_eq!((numbers(&page), page.last, page.missed), (vec![], 3, 0));
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed() {
        let events = Events::default();
        let more = 10;
        (0..KEPT + more).for_each(|_| events.tell(Happening::Hang));
        let page = events.read(3, 1, AT_ONCE).await;
        assert_eq!((numbers(&page), page.missed), (vec![11], 7));
        let page = events.read(0, usize::MAX, AT_ONCE).await;
        assert_eq!((page.events.len(), page.missed), (KEPT, 10));
        assert_eq!(page.last, (KEPT + more) as u64);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let events = Events::default();
        // It is polled second, when the reader waits already.
        let tell = async { events.tell(Happening::State(Phase::Starting)) };
        let read = events.read(u64::MAX, 9, Duration::from_secs(60));
        let (page, ()) = tokio::join!(biased; read, tell);
        assert_eq!(numbers(&page), [1]);
        assert_eq!(page.events[0].phase, Phase::Starting);
        assert_eq!(page.events[0].what.to_string(), "the VM is starting");
    }

    #[test]
    fn who_calls_too_much_is_logged_no_more_and_others_are() {
        let events = Events::default();
        let logged = |caller| (0..10_000).filter(|_| events.may_log(caller)).count();
        assert_eq!(logged(Caller::User(1)), OF_CALLER as usize);
        assert_eq!(logged(Caller::User(2)), OF_CALLER as usize);
        let crowd = (0..10_000).filter(|uid| events.may_log(Caller::User(*uid)));
        assert!(crowd.count() < MAX_CALLERS);
        assert_eq!(events.callers.borrow().len(), MAX_CALLERS);
    }

    #[test]
    fn a_talkative_guest_fills_no_memory() {
        let events = Events::default();
        events.tell(Happening::Guest("é".repeat(9999)));
        let kept = events.kept.borrow();
        assert_eq!(kept[0].what, Happening::Guest("é".repeat(WORDS / 2)));
    }

    #[tokio::test]
    async fn the_end_waits_for_those_who_listen() {
        let events = Rc::<Events>::default();
        let long = Duration::from_secs(60);
        let is_known = || timeout(AT_ONCE, events.all_known(long));
        events.tell(Happening::Ready);
        is_known().await.unwrap();
        let (one, two) = (events.listener(), events.listener());
        one.knows(u64::MAX);
        two.knows(0);
        assert!(is_known().await.is_err());
        drop(two);
        is_known().await.unwrap();
        events.tell(Happening::Shutdown);
        assert!(is_known().await.is_err());
        one.knows(2);
        is_known().await.unwrap();
        // One that does not come back is not waited for without end.
        events.tell(Happening::Ready);
        events.all_known(AT_ONCE).await;
    }
}
