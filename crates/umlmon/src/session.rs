//! One connection to the control socket: who it is, and to which channels it is attached (umlmon, the monitor process).
//!
//! The session ends with its connection, and with it every attachment and every right to write.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use config::ChannelName;
use pty::Attachment;

/// A connection.
#[derive(Debug)]
pub struct Session {
    peer: String,
    attachments: RefCell<BTreeMap<ChannelName, Rc<Attachment>>>,
}

impl Session {
    /// A session of the local user with these credentials (SO_PEERCRED).
    pub fn local(uid: u32, pid: Option<i32>) -> Session {
        // Asking the user database once per connection is enough.
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        let name = user.map_or_else(|| "unknown".into(), |user| user.name);
        let pid = pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        Session {
            peer: format!("uid {uid} ({name}){pid}"),
            attachments: RefCell::default(),
        }
    }

    /// Who is at the other end, for people.
    pub fn peer(&self) -> &str {
        &self.peer
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
        self.attachments.borrow_mut().remove(&channel).is_some()
    }
}
