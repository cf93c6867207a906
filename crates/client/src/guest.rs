//! A command in the guest, carried out by the helper there (umlguest). Runs in the clients.
//!
//! The caller polls the stream of the connection, its own input, and whatever else it waits for. [`Running::send`]
//! sends what is due, [`Running::heard`] takes what has come.

use std::collections::VecDeque;

use cli::Failure;
use guest_line::{
    Action, CHUNK, Command, Ending, MAX_COMMAND, MAX_PIECE, Size, TELL, ToGuest, ToHost, Usage,
    WINDOW, cost, decode, encode,
};
use rpc_xdr::client::{ClientError, Ticket};
use rpc_xdr::umlmonctrl::{
    CTL_PIECES_MAX, CtlResult, GuestOpenArgs, GuestReceiveArgs, GuestReceiveResult, GuestSendArgs,
};

use crate::call::{answered, broken, refused, result_in};
use crate::stream::{Monitor, Stream};

/// How long one poll for output may wait, in milliseconds.
const POLL_MS: u32 = 30_000;

/// How long a guest that has just been started may take until its helper runs, in milliseconds.
pub(crate) const PATIENCE_MS: u32 = 60_000;

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

/// A command that runs in the guest. If this is dropped, the connection ends, and the command is hung up.
pub struct Running {
    monitor: Monitor,
    stream: u32,
    /// Messages to be sent.
    queue: VecDeque<Vec<u8>>,
    /// How much input the command has not taken yet.
    under_way: u32,
    /// How much output was passed on and is not told yet.
    passed_on: u32,
    sending: Option<Ticket<CtlResult>>,
    receiving: Option<Ticket<GuestReceiveResult>>,
}

impl Running {
    /// Begins a command; waits for so many milliseconds until the helper has reported itself.
    ///
    /// # Errors
    /// If there is no helper, or the command is too long.
    pub fn begin(
        mut monitor: Monitor,
        command: &Command,
        wait_ms: u32,
    ) -> Result<Running, Failure> {
        let told = encode(command, MAX_COMMAND).map_err(|_| {
            let most = MAX_COMMAND >> 10;
            Failure::usage(format_args!("the command is too long: more than {most} KB"))
        })?;
        let opened = monitor.guest_open(&GuestOpenArgs { wait_ms });
        let opened = answered(opened.map(|result| result.into_result()))?;
        let mut running = Running {
            monitor,
            stream: opened.stream,
            queue: VecDeque::new(),
            under_way: 0,
            passed_on: 0,
            sending: None,
            receiving: None,
        };
        for part in told.chunks(CHUNK) {
            running.say(&ToGuest::Part(part.to_vec()));
        }
        running.say(&ToGuest::Run);
        Ok(running)
    }

    /// The stream of the connection, to be polled for input.
    pub fn connection(&self) -> &Stream {
        self.monitor.rpc.stream()
    }

    /// Whether the command takes more input.
    pub fn takes_input(&self) -> bool {
        self.under_way < WINDOW
    }

    /// Sends input, as much as was read at once.
    pub fn input(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK) {
            self.under_way += cost(chunk.len());
            self.say(&ToGuest::Input(chunk.to_vec()));
        }
    }

    /// There is no more input.
    pub fn end_of_input(&mut self) {
        self.say(&ToGuest::EndOfInput);
    }

    /// Signals the command.
    pub fn signal(&mut self, number: i32) {
        self.say(&ToGuest::Signal(number));
    }

    /// The terminal has another size.
    pub fn resize(&mut self, size: Size) {
        self.say(&ToGuest::Resize(size));
    }

    /// So much of an output was passed on; the command can go on with as much.
    pub fn passed_on(&mut self, bytes: usize) {
        self.passed_on += cost(bytes);
        if self.passed_on >= TELL {
            self.say(&ToGuest::Taken(self.passed_on));
            self.passed_on = 0;
        }
    }

    fn say(&mut self, message: &ToGuest) {
        // Chunks are as long as a piece may be.
        self.queue.extend(encode(message, MAX_PIECE).ok());
    }

    /// Sends what is due: what is to be said, and a poll for what has come.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send(&mut self) -> Result<(), Failure> {
        if self.receiving.is_none() {
            let args = GuestReceiveArgs {
                stream: self.stream,
                wait_ms: POLL_MS,
            };
            self.receiving = Some(self.monitor.send_guest_receive(&args).map_err(broken)?);
        }
        if self.sending.is_none() && !self.queue.is_empty() {
            let count = self.queue.len().min(CTL_PIECES_MAX as usize);
            let args = GuestSendArgs {
                stream: self.stream,
                pieces: self.queue.drain(..count).collect(),
            };
            self.sending = Some(self.monitor.send_guest_send(&args).map_err(broken)?);
        }
        Ok(())
    }

    /// Reads what the connection has, and returns what the command did.
    ///
    /// # Errors
    /// If the connection is broken, or the helper cannot begin the command or has gone.
    pub fn heard(&mut self) -> Result<Vec<Event>, Failure> {
        match self.monitor.rpc.fill() {
            Ok(()) | Err(ClientError::TimedOut) => {}
            Err(error) => return Err(broken(error)),
        }
        let mut events = Vec::new();
        while let Some(reply) = self.monitor.rpc.next_reply().map_err(broken)? {
            if let Some(CtlResult::Error(error)) = result_in(&reply, &mut self.sending)? {
                return Err(refused(error));
            }
            let Some(received) = result_in(&reply, &mut self.receiving)? else {
                continue;
            };
            let received = received.into_result().map_err(refused)?;
            for piece in &received.pieces {
                events.extend(self.event(piece)?);
            }
            let is_told = matches!(events.last(), Some(Event::Ended(_)));
            if received.ended && !is_told {
                return Err(failed("the guest's helper has given the command up"));
            }
        }
        Ok(events)
    }

    fn event(&mut self, piece: &[u8]) -> Result<Option<Event>, Failure> {
        let message = decode(piece).map_err(|_| failed("the guest's helper talks nonsense"))?;
        Ok(match message {
            ToHost::Output(bytes) => Some(Event::Output(bytes)),
            ToHost::Error(bytes) => Some(Event::Error(bytes)),
            ToHost::Ended(ending) => Some(Event::Ended(ending)),
            ToHost::Taken(taken) => {
                self.under_way = self.under_way.saturating_sub(taken);
                None
            }
            ToHost::Refused(why) => return Err(refused_by_guest(&why)),
            ToHost::Begun => Some(Event::Begun),
            ToHost::OutOfMemory => Some(Event::OutOfMemory),
            ToHost::Done | ToHost::Usage(_) => None,
        })
    }
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

/// Does something with a container in the guest. What it uses is returned if that was asked for.
///
/// # Errors
/// If there is no helper, or it refuses it, for example as there is no such container.
pub fn act(monitor: &mut Monitor, id: &str, action: Action) -> Result<Option<Usage>, Failure> {
    let opened = monitor.guest_open(&GuestOpenArgs { wait_ms: 0 });
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
