//! A command in the guest, carried out by the helper there (umlguest). Runs in the clients.
//!
//! The caller polls the stream of the connection, its own input, and whatever else it waits for. [`Running::send`]
//! sends what is due, [`Running::heard`] takes what has come. When the monitor is replaced, [`Running`] connects again.

use std::collections::VecDeque;
use std::time::Duration;

use cli::Failure;
use guest_line::{
    Action, CHUNK, Command, Ending, Heard, Key, MAX_COMMAND, MAX_PIECE, Said, Size, ToGuest,
    ToHost, Usage, cost, decode, encode,
};
use rpc_xdr::client::{ClientError, Ticket};
use rpc_xdr::umlmonctrl::{
    CTL_PIECES_MAX, CtlError, CtlResult, GuestOpenArgs, GuestReceiveArgs, GuestReceiveResult,
    GuestSendArgs,
};

use crate::call::{answered, broken, refused, result_in};
use crate::client::Client;
use crate::outage::Outage;
use crate::stream::{Monitor, Stream};

/// How long one poll for output may wait, in milliseconds.
const POLL_MS: u32 = 30_000;

/// How long a guest that has just been started may take until its helper runs, in milliseconds.
pub(crate) const PATIENCE_MS: u32 = 60_000;

/// How long a helper may take to begin again, in milliseconds.
pub const AGAIN_MS: u32 = 5_000;

/// What a command does.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Its program executes. Only of commands in containers.
    Begun,
    /// A process of its container was killed because the memory was used up. Only of the first command of one.
    OutOfMemory,
    /// It writes to its standard output, or its terminal.
    Output(Vec<u8>),
    /// It writes to its standard error output.
    Error(Vec<u8>),
    /// It has ended. Nothing follows.
    Ended(Ending),
}

/// A command that runs in the guest. If this is dropped, the connection ends, and the command is hung up. When another
/// monitor takes the VM over, the command goes on, and nothing of its input and output is lost.
pub struct Running<'a> {
    client: &'a Client,
    /// The way to the command; while there is none, the attempts to find one.
    link: Result<Link, Outage>,
    key: Key,
    /// How the command begins, or goes on. It is said before all else.
    opening: VecDeque<Vec<u8>>,
    /// The helper has the command, and knows what was heard.
    is_open: bool,
    said: Said<Vec<u8>>,
    heard: Heard,
    note: Option<String>,
}

/// A stream to the command.
struct Link {
    monitor: Monitor,
    stream: u32,
    sending: Option<Ticket<CtlResult>>,
    receiving: Option<Ticket<GuestReceiveResult>>,
}

impl<'a> Running<'a> {
    /// Begins a command; waits for so many milliseconds until the helper has reported itself.
    ///
    /// # Errors
    /// If there is no helper, or the command is too long.
    pub fn begin(
        client: &'a Client,
        mut command: Command,
        wait_ms: u32,
    ) -> Result<Running<'a>, Failure> {
        command.key = random_key()?;
        let told = encode(&command, MAX_COMMAND).map_err(|_| {
            let most = MAX_COMMAND >> 10;
            Failure::usage(format_args!("the command is too long: more than {most} KB"))
        })?;
        let parts = told.chunks(CHUNK);
        let parts = parts.map(|part| ToGuest::Part(part.to_vec()));
        let opening = parts.chain([ToGuest::Run]).filter_map(|it| piece(&it));
        Ok(Running {
            link: Ok(answered(Link::open(client.connect()?.monitor, wait_ms))?),
            client,
            key: command.key,
            opening: opening.collect(),
            is_open: true,
            said: Said::default(),
            heard: Heard::default(),
            note: None,
        })
    }

    /// The stream of the connection, to be polled for input; nothing while there is none.
    pub fn connection(&self) -> Option<&Stream> {
        Some(self.link.as_ref().ok()?.monitor.rpc.stream())
    }

    /// How long to wait at most until [`Running::send`]; nothing means that this does not matter.
    pub fn waits(&self) -> Option<Duration> {
        self.link.as_ref().err().map(Outage::waits)
    }

    /// What the user should know of the connection.
    pub fn take_note(&mut self) -> Option<String> {
        self.note.take()
    }

    /// Whether the command takes more input.
    pub fn takes_input(&self) -> bool {
        !self.said.is_full()
    }

    /// Sends input, as much as was read at once.
    pub fn input(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK) {
            self.say(&ToGuest::Input(chunk.to_vec()), chunk.len());
        }
    }

    /// There is no more input.
    pub fn end_of_input(&mut self) {
        self.say(&ToGuest::EndOfInput, 0);
    }

    /// Signals the command.
    pub fn signal(&mut self, number: i32) {
        self.say(&ToGuest::Signal(number), 0);
    }

    /// The terminal has another size.
    pub fn resize(&mut self, size: Size) {
        self.say(&ToGuest::Resize(size), 0);
    }

    /// So much of an output was passed on; the command can go on with as much.
    pub fn passed_on(&mut self, bytes: usize) {
        self.heard.pass_on(cost(bytes));
    }

    /// A message with so many bytes of input.
    fn say(&mut self, message: &ToGuest, bytes: usize) {
        if let Some(piece) = piece(message) {
            self.said.say(piece, bytes);
        }
    }

    /// Sends what is due: what is to be said, and a poll for what has come. Connects again if there is no connection.
    ///
    /// # Errors
    /// If the connection is broken for good, or the command is not there any more.
    pub fn send(&mut self) -> Result<(), Failure> {
        if let Err(outage) = &mut self.link {
            if outage.is_noticed() {
                self.note = Some(self.client.what_is_missing());
            }
            let Some(connection) = self.client.attempt(outage)? else {
                return Ok(());
            };
            self.go_on(connection.monitor)?;
        }
        let due = self.due();
        let Ok(link) = &mut self.link else {
            return Ok(());
        };
        let sent = link.send(due);
        sent.or_else(|error| self.lose(error))
    }

    /// The pieces that are to be sent now.
    fn due(&mut self) -> Vec<Vec<u8>> {
        let is_busy = self
            .link
            .as_ref()
            .map_or(true, |link| link.sending.is_some());
        if is_busy {
            return Vec::new();
        }
        let most = CTL_PIECES_MAX as usize;
        let count = self.opening.len().min(most);
        let mut due: Vec<_> = self.opening.drain(..count).collect();
        if !self.is_open {
            return due;
        }
        let taken = self.heard.due().map(ToGuest::Taken);
        due.extend(taken.and_then(|taken| piece(&taken)));
        while due.len() < most {
            let Some(piece) = self.said.next_due() else {
                break;
            };
            due.push(piece);
        }
        due.truncate(most);
        due
    }

    /// The connection broke.
    fn lose(&mut self, error: ClientError) -> Result<(), Failure> {
        self.link = Err(Outage::begin(error, false)?);
        Ok(())
    }

    /// There is a connection again.
    fn go_on(&mut self, monitor: Monitor) -> Result<(), Failure> {
        let link = match Link::open(monitor, PATIENCE_MS) {
            // Only for a moment: of a process that dies, or one that gives up.
            Err(ClientError::Lost(_)) => return Ok(()),
            opened => answered(opened)?,
        };
        self.link = Ok(link);
        let (heard, taken) = self.heard.so_far();
        let key = self.key;
        let resume = piece(&ToGuest::Resume { key, heard, taken });
        (self.opening, self.is_open) = (resume.into_iter().collect(), false);
        self.note = Some(self.client.what_broke(""));
        Ok(())
    }

    /// Reads what the connection has, and returns what the command did.
    ///
    /// # Errors
    /// If the connection is broken for good, or the helper cannot begin the command or has gone.
    pub fn heard(&mut self) -> Result<Vec<Event>, Failure> {
        let Ok(link) = &mut self.link else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        let (pieces, broke) = link.receive()?;
        for piece in pieces {
            events.extend(self.event(&piece)?);
        }
        if let Some(error) = broke {
            self.lose(error)?;
        }
        Ok(events)
    }

    fn event(&mut self, piece: &[u8]) -> Result<Option<Event>, Failure> {
        let nonsense = |_| failed("the guest's helper talks nonsense");
        match decode(piece).map_err(nonsense)? {
            ToHost::Output(bytes) => {
                self.heard.hear(bytes.len());
                return Ok(Some(Event::Output(bytes)));
            }
            ToHost::Error(bytes) => {
                self.heard.hear(bytes.len());
                return Ok(Some(Event::Error(bytes)));
            }
            ToHost::Taken(taken) => self.said.was_taken(taken).map_err(nonsense)?,
            ToHost::Resumed { heard, taken } => {
                self.said.begin_again(heard, taken).map_err(nonsense)?;
                self.is_open = true;
            }
            ToHost::Refused(why) => return Err(refused_by_guest(&why)),
            ToHost::Ended(ending) => return Ok(self.noted(Event::Ended(ending))),
            ToHost::Begun => return Ok(self.noted(Event::Begun)),
            ToHost::OutOfMemory => return Ok(self.noted(Event::OutOfMemory)),
            ToHost::Done | ToHost::Usage(_) => {}
        }
        Ok(None)
    }

    /// An event that there is nothing to pass on of.
    fn noted(&mut self, event: Event) -> Option<Event> {
        self.heard.note();
        Some(event)
    }
}

impl Link {
    /// Opens a stream; waits for so many milliseconds until the helper has reported itself.
    fn open(mut monitor: Monitor, wait_ms: u32) -> Result<Result<Link, CtlError>, ClientError> {
        let opened = monitor.guest_open(&GuestOpenArgs { wait_ms })?;
        Ok(opened.into_result().map(|opened| Link {
            monitor,
            stream: opened.stream,
            sending: None,
            receiving: None,
        }))
    }

    /// Sends these pieces, if there are any, and a poll for what has come.
    fn send(&mut self, pieces: Vec<Vec<u8>>) -> Result<(), ClientError> {
        let stream = self.stream;
        if self.receiving.is_none() {
            let args = GuestReceiveArgs {
                stream,
                wait_ms: POLL_MS,
            };
            self.receiving = Some(self.monitor.send_guest_receive(&args)?);
        }
        if !pieces.is_empty() {
            let args = GuestSendArgs { stream, pieces };
            self.sending = Some(self.monitor.send_guest_send(&args)?);
        }
        Ok(())
    }

    /// The pieces that have come, and how the connection broke, if it did.
    fn receive(&mut self) -> Result<(Vec<Vec<u8>>, Option<ClientError>), Failure> {
        let broke = match self.monitor.rpc.fill() {
            Ok(()) | Err(ClientError::TimedOut) => None,
            Err(error) => Some(error),
        };
        let mut pieces = Vec::new();
        while let Some(reply) = self.monitor.rpc.next_reply().map_err(broken)? {
            if let Some(CtlResult::Error(error)) = result_in(&reply, &mut self.sending)? {
                return Err(refused(error));
            }
            let Some(received) = result_in(&reply, &mut self.receiving)? else {
                continue;
            };
            let received = received.into_result().map_err(refused)?;
            pieces.extend(received.pieces);
            if received.ended && pieces.is_empty() {
                return Err(failed("the guest's helper has given the command up"));
            }
        }
        Ok((pieces, broke))
    }
}

/// The piece that says this. All that is said is short enough for one.
fn piece(message: &ToGuest) -> Option<Vec<u8>> {
    encode(message, MAX_PIECE).ok()
}

/// One that nobody else has.
fn random_key() -> Result<Key, Failure> {
    let mut key = Key::default();
    getrandom::fill(&mut key).map_err(|error| Failure::from(std::io::Error::other(error)))?;
    Ok(key)
}

/// Has the helper power its guest off. The VM becomes inactive a while later, or at once.
///
/// # Errors
/// If there is no helper, or it cannot be asked.
pub fn power_off(mut monitor: Monitor) -> Result<(), Failure> {
    let opened = monitor.guest_open(&GuestOpenArgs { wait_ms: 0 });
    let stream = answered(opened.map(|result| result.into_result()))?.stream;
    // It is short enough.
    let pieces = encode(&ToGuest::PowerOff, MAX_PIECE).into_iter().collect();
    let sent = monitor.guest_send(&GuestSendArgs { stream, pieces });
    answered(sent.map(|result| result.into_result()))?;
    // The stream must not end before it has heard of it. When the guest is off, there is no answer.
    let args = GuestReceiveArgs {
        stream,
        wait_ms: POLL_MS,
    };
    let _ = monitor.guest_receive(&args);
    Ok(())
}

/// Does something with a container in the guest. What it uses is returned if that was asked for. Waits for a helper
/// that begins again, as it does for another monitor.
///
/// # Errors
/// If there is no helper, or it refuses it, for example as there is no such container.
pub fn act(monitor: &mut Monitor, id: &str, action: Action) -> Result<Option<Usage>, Failure> {
    let wait_ms = AGAIN_MS;
    let opened = monitor.guest_open(&GuestOpenArgs { wait_ms });
    let stream = answered(opened.map(|result| result.into_result()))?.stream;
    let message = ToGuest::Container(id.to_owned(), action);
    let message = encode(&message, MAX_PIECE).map_err(|_| failed("the identifier is too long"))?;
    let pieces = vec![message];
    let sent = monitor.guest_send(&GuestSendArgs { stream, pieces });
    answered(sent.map(|result| result.into_result()))?;
    let args = GuestReceiveArgs {
        stream,
        wait_ms: POLL_MS,
    };
    loop {
        let received = monitor.guest_receive(&args);
        let received = answered(received.map(|result| result.into_result()))?;
        if let Some(piece) = received.pieces.first() {
            return match decode(piece) {
                Ok(ToHost::Done) => Ok(None),
                Ok(ToHost::Usage(usage)) => Ok(Some(usage)),
                Ok(ToHost::Refused(why)) => Err(refused_by_guest(&why)),
                _ => Err(failed("the guest's helper talks nonsense")),
            };
        }
        if received.ended {
            return Err(failed("the guest's helper has not answered"));
        }
    }
}

fn refused_by_guest(why: &str) -> Failure {
    let why = cli::printable(why.as_bytes());
    failed(&format!("the guest says: {why}"))
}

fn failed(why: &str) -> Failure {
    Failure::new(cli::Exit::Failed, why)
}
