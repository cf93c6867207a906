//! What clients may ask of the monitor (umlmon, the monitor process).
//!
//! `procedures.rs` has every procedure of the control interface; the files beside it have the longer ones, by subject.
//! Only here do types of the wire meet those of the daemon: `wire.rs` translates.

pub(crate) mod access;
mod consoles;
mod disks;
mod events;
mod guest;
mod info;
mod logs;
mod memory;
mod password;
mod procedures;
mod screen;
pub(crate) mod session;
mod settings;
pub(crate) mod site;
mod vm;
mod wire;

use std::rc::Rc;
use std::time::Duration;

use config::{ChannelName, Vm};
use daemon::LogHandle;
use pty::Channel;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::disks::jobs::Jobs;
use crate::events::{Happening, Wish};
use crate::failure::Failure;
use crate::kept::Kept;
use crate::life::monitor::Handle;
use crate::passwords::Passwords;
use crate::service::session::Session;
use crate::setup::Setup;
use crate::shares::{Shares, Turns};

/// The longest that one call waits for something to happen.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long a call may wait for something, if it asks for so many milliseconds.
fn patience(wait_ms: u32) -> Duration {
    Duration::from_millis(wait_ms.into()).min(MAX_WAIT)
}

/// What the procedures need.
pub struct Service {
    /// What the monitor holds as long as it lives.
    pub setup: Rc<Setup>,
    /// The monitor task.
    pub monitor: Handle,
    /// Work on disks.
    pub jobs: Rc<Jobs>,
    /// The connections of local users; for root there is no limit but the total.
    pub users: Rc<Shares>,
    /// The site commands that run.
    pub sites: Rc<Shares>,
    /// Screens that are composed: a large one takes many milliseconds.
    pub screens: Turns,
    /// The monitor's own log.
    pub log: LogHandle,
    /// When the daemon was started.
    pub since: Instant,
    /// The TCP port.
    pub port: Option<u16>,
    /// The passwords, and who has tried them.
    pub passwords: Rc<Passwords>,
    /// The configuration for the next start, as it was read for the last call about it.
    pub next: Kept<Vm>,
    /// Notified when a call has needed much memory for a moment.
    pub economy: Notify,
}

impl Service {
    fn channel(&self, name: &str) -> Result<Rc<Channel>, Failure> {
        let unknown = || {
            Failure::NotFound(format!(
                "there is no channel {name} (-info lists the channels)"
            ))
        };
        let parsed: ChannelName = name.parse().map_err(|_| unknown())?;
        self.setup.channels.get(parsed).ok_or_else(unknown)
    }

    /// Reports that a client asks for something, carries it out, and reports a failure.
    async fn asked<T>(
        &self,
        session: &Session,
        wish: impl Into<Wish>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let wish = wish.into();
        let who = session.peer().to_owned();
        let request = Happening::Request {
            who,
            wish: wish.clone(),
        };
        self.setup.events.tell_of(session.caller(), request);
        let result = work.await;
        if let Err(failure) = &result {
            self.refused(session, wish, failure);
        }
        result
    }

    /// Reports that a client does not get something, unless the reason why the start failed has been reported already.
    fn refused(&self, session: &Session, wish: Wish, failure: &Failure) {
        let why = failure.to_string();
        if self
            .monitor
            .status()
            .borrow()
            .last_end
            .is_failed_start(&why)
        {
            return;
        }
        let who = session.peer().to_owned();
        let refused = Happening::Refused { who, wish, why };
        self.setup.events.tell_of(session.caller(), refused);
    }
}
