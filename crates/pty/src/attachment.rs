//! The clients of a channel and the right to write. Lives in the umlmon daemon; a session holds one attachment per channel.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::{Channel, Chunk, Error};

/// Clients of one channel at most.
const CLIENTS_MAX: usize = 64;

/// A client as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// As given to [`Channel::attach`].
    pub who: String,
    /// How long it has been there.
    pub present: Duration,
    /// How long it has typed nothing.
    pub idle: Duration,
}

#[derive(Debug)]
struct Client {
    id: u64,
    who: String,
    since: Instant,
    typed: Instant,
    taken_by: Option<String>,
}

/// The clients of a channel.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    list: Vec<Client>,
    writer: Option<u64>,
    next_id: u64,
}

impl Clients {
    pub(crate) fn writer(&self) -> Option<ClientInfo> {
        let id = self.writer?;
        self.list.iter().find(|c| c.id == id).map(Client::info)
    }

    pub(crate) fn watchers(&self) -> Vec<ClientInfo> {
        let watching = self.list.iter().filter(|c| Some(c.id) != self.writer);
        watching.map(Client::info).collect()
    }

    fn client(&mut self, id: u64) -> Option<&mut Client> {
        self.list.iter_mut().find(|c| c.id == id)
    }
}

impl Client {
    fn info(&self) -> ClientInfo {
        ClientInfo {
            who: self.who.clone(),
            present: self.since.elapsed(),
            idle: self.typed.elapsed(),
        }
    }
}

/// A client's place at a channel, at first as a watcher. Dropping it detaches the client and frees the right to write.
#[derive(Debug)]
pub struct Attachment {
    channel: Rc<Channel>,
    id: u64,
    seen: Cell<u64>,
}

impl Attachment {
    pub(crate) fn new(channel: &Rc<Channel>, who: &str) -> Result<Self, Error> {
        let mut clients = channel.clients.borrow_mut();
        if clients.list.len() >= CLIENTS_MAX {
            return Err(Error::TooMany {
                channel: channel.name(),
                limit: CLIENTS_MAX,
            });
        }
        let id = clients.next_id;
        clients.next_id += 1;
        clients.list.push(Client {
            id,
            who: who.to_owned(),
            since: Instant::now(),
            typed: Instant::now(),
            taken_by: None,
        });
        Ok(Self {
            channel: channel.clone(),
            id,
            seen: Cell::new(channel.generation()),
        })
    }

    /// The channel.
    pub fn channel(&self) -> &Rc<Channel> {
        &self.channel
    }

    /// Whether this client has the right to write.
    pub fn is_writer(&self) -> bool {
        self.channel.clients.borrow().writer == Some(self.id)
    }

    /// Who took the right to write from this client, until it has it again or gives up by [`Attachment::watch`].
    pub fn taken_by(&self) -> Option<String> {
        let mut clients = self.channel.clients.borrow_mut();
        clients.client(self.id)?.taken_by.clone()
    }

    /// Takes the right to write.
    ///
    /// # Errors
    /// [`Error::Busy`] if somebody else holds it.
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

    /// Takes the right to write from whoever holds it; returns who that was. The loser is told and goes on watching.
    pub fn force_take(&self) -> Option<String> {
        if self.is_writer() {
            return None;
        }
        let mut clients = self.channel.clients.borrow_mut();
        let loser = clients.writer.replace(self.id);
        let winner = clients.client(self.id).map(|me| {
            me.taken_by = None;
            me.who.clone()
        });
        let lost = loser.and_then(|id| clients.client(id)).map(|loser| {
            loser.taken_by = winner;
            loser.who.clone()
        });
        drop(clients);
        self.channel.wake();
        lost
    }

    /// Gives the right to write back and only watches.
    pub fn watch(&self) {
        let mut clients = self.channel.clients.borrow_mut();
        if let Some(me) = clients.client(self.id) {
            me.taken_by = None;
        }
        if clients.writer == Some(self.id) {
            clients.writer = None;
            drop(clients);
            self.channel.wake();
        }
    }

    /// Returns what the guest has written from `offset` on. If there is nothing yet it waits for that, and returns
    /// empty when the time is over, the right to write has changed hands, or [`Channel::wake`] was called; also if one
    /// of these happened since the last call returned.
    pub async fn read(&self, offset: u64, max: usize, wait: Duration) -> Chunk {
        let read = self.channel.read_or_change(offset, max, wait, &self.seen);
        read.await
    }

    /// Types into the channel; waits while the guest does not read.
    ///
    /// # Errors
    /// [`Error::NotWriter`], or [`Error::Taken`] as soon as somebody takes the right to write over; a part may have
    /// been typed then.
    pub async fn write(&self, data: &[u8]) -> Result<(), Error> {
        self.must_write()?;
        if let Some(me) = self.channel.clients.borrow_mut().client(self.id) {
            me.typed = Instant::now();
        }
        self.channel.type_in(data, || self.must_write()).await
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
        let mut clients = self.channel.clients.borrow_mut();
        clients.list.retain(|c| c.id != self.id);
        if clients.writer == Some(self.id) {
            clients.writer = None;
        }
        drop(clients);
        self.channel.wake();
    }
}
