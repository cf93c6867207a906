//! One connection: who it is and how far it is trusted, to which channels it is attached, and which work it has begun
//! (umlmon, the monitor process).
//!
//! The session ends with its connection, and with it every attachment, every right to write, and every job.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use config::ChannelName;
use pty::Attachment;
use rpc_xdr::pake::Proved;

use crate::disks::jobs::Job;
use crate::events::{Events, Happening, Listener};
use crate::failure::Failure;
use crate::helper::Stream;
use crate::passwords::Change;
use crate::shares::Caller;

/// Jobs of a connection whose result has not been queried.
const MAX_KEPT: usize = 64;

/// Streams to the guest's helper that a connection has open at most.
const MAX_STREAMS: usize = 16;

/// A connection.
#[derive(Debug)]
pub struct Session {
    peer: String,
    caller: Caller,
    trust: Trust,
    events: Rc<Events>,
    attachments: RefCell<BTreeMap<ChannelName, Rc<Attachment>>>,
    jobs: RefCell<Kept>,
    streams: RefCell<BTreeMap<u32, Rc<Stream>>>,
    change: RefCell<Option<Change>>,
    listener: OnceCell<Listener>,
}

/// Why a connection may command the VM.
#[derive(Debug)]
pub enum Trust {
    /// It came through the control socket, so the permissions of the file system allow it to this user.
    Local,
    /// It came over the network and knows the password.
    Remote {
        /// Its messages are sealed.
        sealed: bool,
        /// What is left of its authentication.
        proved: Proved,
    },
}

/// The jobs of a connection, by number.
#[derive(Debug, Default)]
struct Kept {
    last: u32,
    all: BTreeMap<u32, Job>,
}

impl Session {
    /// A session of the local user with these credentials (SO_PEERCRED); its attachments are reported as events.
    pub fn local(uid: u32, pid: Option<i32>, events: Rc<Events>) -> Session {
        // Asking the user database once per connection is enough.
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        let name = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
        let pid = pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        let caller = Caller::User(uid);
        Session::new(format!("{name}{pid}"), caller, Trust::Local, events)
    }

    /// A session of `peer`; its attachments are reported as events.
    pub fn new(peer: String, caller: Caller, trust: Trust, events: Rc<Events>) -> Session {
        Session {
            peer,
            caller,
            trust,
            events,
            attachments: RefCell::default(),
            jobs: RefCell::default(),
            streams: RefCell::default(),
            change: RefCell::default(),
            listener: OnceCell::new(),
        }
    }

    /// The client listens to the events, and asks for those after this number.
    pub fn listens(&self, after: u64) {
        let listener = self.listener.get_or_init(|| self.events.listener());
        listener.knows(after);
    }

    /// The caller to which this connection is counted.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Who is at the other end, as text for people.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Why it may command the VM.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Begins a change of the password, in place of one that was begun before.
    pub fn begin_change(&self, change: Change) {
        self.change.replace(Some(change));
    }

    /// The change of the password that was begun.
    pub fn take_change(&self) -> Option<Change> {
        self.change.take()
    }

    /// The attachment to a channel.
    pub fn attachment(&self, channel: ChannelName) -> Option<Rc<Attachment>> {
        self.attachments.borrow().get(&channel).cloned()
    }

    /// Keeps an attachment until it is closed or the connection ends.
    pub fn attach(&self, channel: ChannelName, attachment: Rc<Attachment>) {
        self.attachments.borrow_mut().insert(channel, attachment);
    }

    /// Gives an attachment up; false if there is none.
    pub fn detach(&self, channel: ChannelName) -> bool {
        let attached = self.attachments.borrow_mut().remove(&channel).is_some();
        if attached {
            self.detached(channel);
        }
        attached
    }

    fn detached(&self, channel: ChannelName) {
        let who = self.peer.clone();
        self.events
            .tell_of(self.caller, Happening::Detached { channel, who });
    }

    /// Keeps a stream to the guest's helper until it is closed or the connection ends.
    ///
    /// # Errors
    /// If the connection has too many.
    pub fn open(&self, stream: Rc<Stream>) -> Result<(), Failure> {
        let mut streams = self.streams.borrow_mut();
        if streams.len() >= MAX_STREAMS {
            let why = format!("this connection has {MAX_STREAMS} streams already");
            return Err(Failure::Busy(why));
        }
        streams.insert(stream.number(), stream);
        Ok(())
    }

    /// A stream that is open.
    pub fn stream(&self, number: u32) -> Option<Rc<Stream>> {
        self.streams.borrow().get(&number).cloned()
    }

    /// Closes a stream; false if there is none.
    pub fn close(&self, number: u32) -> bool {
        self.streams.borrow_mut().remove(&number).is_some()
    }

    /// Keeps a job until it has ended, is given up, or the connection ends; gives its number.
    pub fn keep(&self, job: Job) -> u32 {
        let mut jobs = self.jobs.borrow_mut();
        // A client that never asks how its jobs ended must not fill the memory.
        if jobs.all.len() >= MAX_KEPT {
            jobs.all.retain(|_, job| !job.has_ended());
        }
        jobs.last = jobs.last.wrapping_add(1);
        let number = jobs.last;
        jobs.all.insert(number, job);
        number
    }

    /// Looks at a job.
    pub fn with_job<T>(&self, number: u32, look: impl FnOnce(&Job) -> T) -> Option<T> {
        self.jobs.borrow().all.get(&number).map(look)
    }

    /// Gives a job up. One that has not ended is thereby cancelled.
    pub fn forget(&self, number: u32) -> Option<Job> {
        self.jobs.borrow_mut().all.remove(&number)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for channel in self.attachments.take().into_keys() {
            self.detached(channel);
        }
    }
}
