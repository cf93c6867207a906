//! The connection of a client to a channel. Part of the umlmon daemon; a session holds one attachment per channel.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::clients::CLIENTS_MAX;
use crate::{Channel, Chunk, Error};

/// A client's connection to a channel, at first as a watcher. Dropping it detaches the client and frees the right to
/// write.
#[derive(Debug)]
pub struct Attachment {
    channel: Rc<Channel>,
    id: u64,
    seen: Cell<u64>,
}

impl Channel {
    /// Attaches a client as a watcher; `who` is shown to others.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn attach(self: &Rc<Self>, who: &str) -> Result<Attachment, Error> {
        let id = self.clients.borrow_mut().enter(who);
        let id = id.ok_or_else(|| Error::TooMany {
            channel: self.name(),
            limit: CLIENTS_MAX,
        })?;
        // Of a standstill that has begun before, the client does not know.
        let seen = match self.standstill() {
            None => self.generation(),
            Some(_) => self.generation().wrapping_sub(1),
        };
        Ok(Attachment {
            channel: self.clone(),
            id,
            seen: Cell::new(seen),
        })
    }
}

impl Attachment {
    /// The channel.
    pub fn channel(&self) -> &Rc<Channel> {
        &self.channel
    }

    /// Whether this client has the right to write.
    pub fn is_writer(&self) -> bool {
        self.channel.clients.borrow().is_writer(self.id)
    }

    /// Which client took the right to write from this one, until it has it again or gives up by [`Attachment::watch`].
    pub fn taken_by(&self) -> Option<String> {
        self.channel.clients.borrow().taken_by(self.id)
    }

    /// Takes the right to write.
    ///
    /// # Errors
    /// [`Error::Busy`] if another client holds it.
    pub fn take(&self) -> Result<(), Error> {
        match self.channel.writer() {
            Some(holder) if !self.is_writer() => Err(Error::Busy {
                channel: self.channel.name(),
                who: holder.who,
            }),
            _ => {
                self.force_take();
                Ok(())
            }
        }
    }

    /// Takes the right to write from the client that holds it, and returns that client. The other client is notified
    /// and continues to watch.
    pub fn force_take(&self) -> Option<String> {
        if self.is_writer() {
            return None;
        }
        let lost = self.channel.clients.borrow_mut().take(self.id);
        self.channel.wake();
        lost
    }

    /// Gives the right to write back and only watches.
    pub fn watch(&self) {
        let was_writer = self.channel.clients.borrow_mut().watch(self.id);
        if was_writer {
            self.channel.wake();
        }
    }

    /// Returns what the guest has written from `offset` on. If there is nothing yet it waits for that, and returns
    /// empty when the time is over, another client has got the right to write, or [`Channel::wake`] was called; also if
    /// one of these happened since the last call returned.
    pub async fn read(&self, offset: u64, max: usize, wait: Duration) -> Chunk {
        let read = self.channel.read_or_change(offset, max, wait, &self.seen);
        read.await
    }

    /// Types into the channel; waits until all is in the terminal, which takes no more than the kernel can handle.
    ///
    /// # Errors
    /// [`Error::NotWriter`]; [`Error::Taken`] as soon as another client takes the right to write, and [`Error::Ended`]
    /// when the kernel ends; a part may have been typed then.
    pub async fn write(&self, data: &[u8]) -> Result<(), Error> {
        self.must_write()?;
        self.channel.clients.borrow_mut().typed(self.id);
        self.channel.type_in(data, || self.must_write()).await
    }

    /// Waits until the kernel has taken all that was typed.
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub async fn wait_until_taken(&self) -> Result<(), Error> {
        self.channel.wait_until_taken(|| self.must_write()).await
    }

    /// Sets the window size, in characters.
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        self.must_write()?;
        self.channel.resize(rows, columns)
    }

    fn must_write(&self) -> Result<(), Error> {
        let channel = self.channel.name();
        match self.taken_by() {
            _ if self.is_writer() => Ok(()),
            Some(who) => Err(Error::Taken { channel, who }),
            None => Err(Error::NotWriter { channel }),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.channel.clients.borrow_mut().leave(self.id);
        self.channel.wake();
    }
}
