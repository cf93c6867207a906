//! Which clients a channel has, and which of them has the right to write. In the umlmon daemon.

use std::time::Duration;

use tokio::time::Instant;

/// The most clients of one channel.
pub(crate) const CLIENTS_MAX: usize = 64;

/// A client as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// As given to [`Channel::attach`](crate::Channel::attach).
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

impl Client {
    fn info(&self) -> ClientInfo {
        ClientInfo {
            who: self.who.clone(),
            present: self.since.elapsed(),
            idle: self.typed.elapsed(),
        }
    }
}

/// The clients of a channel, in the order in which they attached.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    list: Vec<Client>,
    writer: Option<u64>,
    next_id: u64,
}

impl Clients {
    /// Adds a client, which watches at first. Returns its number; None if there are [`CLIENTS_MAX`] already.
    pub(crate) fn enter(&mut self, who: &str) -> Option<u64> {
        if self.list.len() >= CLIENTS_MAX {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.list.push(Client {
            id,
            who: who.to_owned(),
            since: Instant::now(),
            typed: Instant::now(),
            taken_by: None,
        });
        Some(id)
    }

    /// Removes a client; if it had the right to write, no client has it then.
    pub(crate) fn leave(&mut self, id: u64) {
        self.list.retain(|client| client.id != id);
        if self.is_writer(id) {
            self.writer = None;
        }
    }

    /// The client that may write.
    pub(crate) fn writer(&self) -> Option<ClientInfo> {
        let id = self.writer?;
        let writer = self.list.iter().find(|client| client.id == id);
        writer.map(Client::info)
    }

    /// The clients that may not write.
    pub(crate) fn watchers(&self) -> Vec<ClientInfo> {
        let watching = self.list.iter().filter(|client| !self.is_writer(client.id));
        watching.map(Client::info).collect()
    }

    /// Whether this client has the right to write.
    pub(crate) fn is_writer(&self, id: u64) -> bool {
        self.writer == Some(id)
    }

    /// Which client took the right to write from this one.
    pub(crate) fn taken_by(&self, id: u64) -> Option<String> {
        let client = self.list.iter().find(|client| client.id == id)?;
        client.taken_by.clone()
    }

    /// Gives the right to write to this client; returns the one that loses it, and records for that one which client
    /// took it.
    pub(crate) fn take(&mut self, id: u64) -> Option<String> {
        let loser = self.writer.replace(id);
        let winner = self.client(id).map(|me| {
            me.taken_by = None;
            me.who.clone()
        });
        let loser = self.client(loser?)?;
        loser.taken_by = winner;
        Some(loser.who.clone())
    }

    /// This client only watches from now on. Returns whether it had the right to write.
    pub(crate) fn watch(&mut self, id: u64) -> bool {
        if let Some(me) = self.client(id) {
            me.taken_by = None;
        }
        let was_writer = self.is_writer(id);
        if was_writer {
            self.writer = None;
        }
        was_writer
    }

    /// This client types now.
    pub(crate) fn typed(&mut self, id: u64) {
        if let Some(me) = self.client(id) {
            me.typed = Instant::now();
        }
    }

    fn client(&mut self, id: u64) -> Option<&mut Client> {
        self.list.iter_mut().find(|client| client.id == id)
    }
}
