//! Going on with the channel of a monitor that has ended. Part of the umlmon daemon.

use std::rc::Rc;

use config::ChannelName;

use crate::held::refused;
use crate::memory::Memory;
use crate::output::Output;
use crate::transit::Transit;
use crate::{Channel, Endpoint, Error, Held, Identity, Log, Nudge};

impl Channel {
    /// Duplicates of the descriptors that must outlive this process, if the next one is to go on with the channel. They
    /// are others after [`Channel::resize_history`].
    ///
    /// # Errors
    /// [`Error::Terminal`] if no descriptors are left.
    pub fn held(&self) -> Result<Held, Error> {
        let output = self.output();
        let (outlet, inlet) = output.transit().ends();
        let held = || {
            Ok(Held {
                terminal: self.endpoint().master().try_clone_to_owned()?,
                outlet: outlet.try_clone()?,
                inlet: inlet.try_clone()?,
                memory: output
                    .with_memory(|memory| memory.file().try_clone())?
                    .into(),
            })
        };
        held().map_err(|e| self.cannot("hold", e))
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
        let adopted = || {
            if held.identity()? != *identity {
                return Err(refused("these are the descriptors of something else"));
            }
            let memory = Memory::adopt(held.memory)?;
            let transit = Transit::adopt(held.outlet, held.inlet)?;
            let endpoint = Endpoint::adopt(held.terminal)?;
            let output = Output::adopt(name, (transit, memory), log, endpoint.size()?)?;
            Ok((endpoint, output))
        };
        let (endpoint, output) = adopted().map_err(|source| Error::Adopt {
            channel: name,
            source,
        })?;
        let channel = Self::begin(name, endpoint, output, nudge);
        channel.push_on();
        Ok(channel)
    }

    /// Whether the end of the monitor loses nothing, even by SIGKILL. If not, the host's kernel cannot move the output
    /// of a terminal into a pipe (splice(2)), and what was just read may be lost then.
    pub fn loses_nothing(&self) -> bool {
        self.output().transit().is_safe()
    }
}
