//! Going on with the channel of a monitor that has ended. Part of the umlmon daemon.

use std::io;
use std::rc::Rc;

use config::ChannelName;

use crate::{Channel, Error, Held, Identity, Log, Nudge};

impl Channel {
    /// Duplicates of the descriptors that must outlive this process, if the next one is to go on with the channel. They
    /// are others after [`Channel::resize_history`].
    ///
    /// # Errors
    /// [`Error::Terminal`] if no descriptors are left.
    pub fn held(&self) -> Result<Held, Error> {
        Err(self.cannot("hold", io::ErrorKind::Unsupported.into()))
    }

    /// Goes on with a channel of a monitor that has ended, however it did: no byte of the guest is lost, and none is
    /// in the log or the history twice. `log` is the same file as before. Needs the runtime and a `LocalSet`.
    ///
    /// Nothing is believed of what the descriptors hold: with hostile content, the output that is in the pipe may be
    /// missing in the log, and the history may be wrong, and no more.
    ///
    /// # Errors
    /// [`Error::Adopt`] if a descriptor is not the one that `identity` tells, or what the memory says cannot be.
    pub fn adopt(
        name: ChannelName,
        held: Held,
        identity: &Identity,
        log: Option<Log>,
        nudge: Rc<Nudge>,
    ) -> Result<Rc<Self>, Error> {
        let _ = (held, identity, log, nudge);
        Err(Error::Adopt {
            channel: name,
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    /// Whether the end of the monitor loses nothing, even by SIGKILL. If not, the host's kernel cannot move the output
    /// of a terminal into a pipe (splice(2)), and what was just read may be lost then.
    pub fn loses_nothing(&self) -> bool {
        false
    }
}
