//! The client side, blocking, in umlwatch and umladmin: calls one after the other, or several under way at once.
//!
//! The generated clients are built from [`Client::send`], which sends a call, and [`Client::wait`], which gives the
//! result of one. A program that waits for other things too polls the descriptor of the stream; when it is readable,
//! [`Client::fill`] reads once, and [`Client::next_reply`] gives what has become complete, to be turned into a result
//! by [`Ticket::result`].
//!
//! On a remote connection, [`authenticate`] comes first and [`Client::seal`] next.
//!
//! The stream should be blocking. Timeouts set on it count for each read and write. After one the same ticket can be
//! waited for again; but if it was sending that took too long, half a call is on its way and the connection is of no
//! further use.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use bytes::{Bytes, BytesMut};
use onc_rpc::auth::AuthFlavor;
use onc_rpc::{AcceptedStatus, CallBody, MessageType, RejectedReply, ReplyBody, RpcMessage};

use crate::record::{self, Bounds, Framer, MAX_HEADER};
use crate::seal::{Seal, SealError};
use crate::xdr::{self, Strict};

mod local;
mod login;

pub use local::connect;
pub use login::{
    Authenticated, Login, LoginError, StrongLogin, TLS_TOKEN, authenticate, log_in, start_tls,
};

/// Most bytes asked for by one read.
const READ: usize = 32 * 1024;

/// Fragments of one reply, at most; libtirpc makes one for each 9000 bytes.
const MAX_FRAGMENTS: u32 = 4096;

/// A stream to a server.
pub trait Stream: Read + Write {
    /// Whether a read would give bytes that the stream has taken from its descriptor already, as one that decrypts
    /// does. poll(2) does not tell of them.
    fn buffered(&self) -> bool {
        false
    }
}

impl Stream for UnixStream {}

impl Stream for TcpStream {}

impl<S: Stream + ?Sized> Stream for &mut S {
    fn buffered(&self) -> bool {
        (**self).buffered()
    }
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn buffered(&self) -> bool {
        (**self).buffered()
    }
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection ended or broke; no further call is possible.
    #[error("the connection was lost: {}", crate::why_broken(.0))]
    Lost(#[source] io::Error),
    /// The timeout of the stream passed without an answer.
    #[error("no answer in time")]
    TimedOut,
    /// The server answered, but did not carry the call out.
    #[error("the server refused the call: {0}")]
    Rejected(Rejection),
    /// What came is not a reply to a call of ours, or cannot be decoded; no further call is possible.
    #[error("the server sent a bad reply: {0}")]
    BadReply(String),
    /// A received message was not sealed by the server: the connection was tampered with. No further call is possible.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// The arguments exceed a bound of the interface; nothing was sent.
    #[error("the arguments are longer than the interface allows: {0}")]
    Arguments(String),
}

/// Why a server did not carry a call out (RFC 5531 section 9).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// PROG_UNAVAIL
    #[error("it does not serve this program")]
    ProgramUnavailable,
    /// PROG_MISMATCH
    #[error("it serves the versions {low} to {high} of this program only")]
    ProgramMismatch {
        /// The lowest version it has.
        low: u32,
        /// The highest version it has.
        high: u32,
    },
    /// PROC_UNAVAIL
    #[error("it does not know this procedure; it may be older than this program")]
    ProcedureUnavailable,
    /// GARBAGE_ARGS
    #[error("it cannot decode the arguments; it may be older than this program")]
    GarbageArguments,
    /// SYSTEM_ERR
    #[error("it failed")]
    SystemError,
    /// RPC_MISMATCH
    #[error("it speaks the versions {low} to {high} of RPC only")]
    RpcMismatch {
        /// The lowest version it has.
        low: u32,
        /// The highest version it has.
        high: u32,
    },
    /// AUTH_ERROR
    #[error("it did not accept who is calling")]
    Authentication,
}

/// Decodes a result.
type Decode<R> = fn(&mut Strict<'_>) -> xdr::Result<R>;

/// A call under way, whose result will be an `R`.
#[derive(Debug)]
pub struct Ticket<R> {
    xid: u32,
    decode: Decode<R>,
}

// Derived, these would ask the same of R.
impl<R> Clone for Ticket<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Ticket<R> {}

impl<R> Ticket<R> {
    /// Whether `reply` is the one to this call.
    pub fn matches(&self, reply: &Reply) -> bool {
        self.xid == reply.xid
    }

    /// The result in `reply`, which must match.
    pub fn result(self, reply: &Reply) -> Result<R, ClientError> {
        if !self.matches(reply) {
            return Err(ClientError::BadReply("it belongs to another call".into()));
        }
        let bytes = reply
            .outcome
            .as_ref()
            .map_err(|rejection| ClientError::Rejected(rejection.clone()))?;
        let mut input = Strict::new(bytes);
        let result = (self.decode)(&mut input).and_then(|result| input.finish().map(|()| result));
        result.map_err(|error| ClientError::BadReply(error.to_string()))
    }
}

/// A reply that has arrived.
#[derive(Debug)]
pub struct Reply {
    xid: u32,
    outcome: Result<Bytes, Rejection>,
}

/// A connection to a server of one version of a program.
pub struct Client<S> {
    stream: S,
    program: u32,
    version: u32,
    last_xid: u32,
    /// The calls that have no reply yet: xid and size of the result at most.
    sent: Vec<(u32, usize)>,
    input: BytesMut,
    framer: Framer,
    /// Replies that arrived while another was waited for.
    arrived: VecDeque<Reply>,
    seal: Option<Seal>,
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("program", &self.program)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl<S> Client<S> {
    /// A client of `version` of `program` on a connected stream.
    pub fn new(stream: S, program: u32, version: u32) -> Self {
        Self {
            stream,
            program,
            version,
            last_xid: 0,
            sent: Vec::new(),
            input: BytesMut::new(),
            framer: Framer::default(),
            arrived: VecDeque::new(),
            seal: None,
        }
    }

    /// Seals every call from now on, and takes only replies that are sealed.
    pub fn seal(&mut self, seal: Seal) {
        self.seal = Some(seal);
    }

    /// The stream, for its descriptor and timeouts.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, for something else than calls.
    ///
    /// # Errors
    /// [`ClientError::BadReply`] if the server has sent more than it was asked for.
    pub fn into_stream(self) -> Result<S, ClientError> {
        if self.input.is_empty() && self.sent.is_empty() {
            Ok(self.stream)
        } else {
            Err(ClientError::BadReply("it is longer than expected".into()))
        }
    }
}

impl<S: Stream> Client<S> {
    /// Sends a call of `procedure` with the arguments that `pack` encodes. The result has at most `max_result` bytes
    /// in XDR and is decoded by `decode`.
    ///
    /// Take replies in between if there are many calls: a server stops reading from a client that does not.
    pub fn send<R>(
        &mut self,
        procedure: u32,
        max_result: usize,
        pack: impl FnOnce(&mut Vec<u8>) -> xdr::Result<()>,
        decode: Decode<R>,
    ) -> Result<Ticket<R>, ClientError> {
        let xid = self.last_xid.wrapping_add(1);
        let none = || AuthFlavor::AuthNone(None);
        let body = CallBody::<&[u8], &[u8]>::new(
            self.program,
            self.version,
            procedure,
            none(),
            none(),
            &[],
        );
        let mut record = Vec::with_capacity(64);
        RpcMessage::new(xid, MessageType::Call(body))
            .serialise_into(&mut record)
            .map_err(lost)?;
        pack(&mut record).map_err(|error| ClientError::Arguments(error.to_string()))?;
        record::finish(&mut record);
        if let Some(seal) = &mut self.seal {
            seal.seal(&mut record)?;
        }
        self.stream
            .write_all(&record)
            .and_then(|()| self.stream.flush())
            .map_err(lost)?;
        self.last_xid = xid;
        self.sent.push((xid, max_result));
        Ok(Ticket { xid, decode })
    }

    /// Waits for the reply to one call; replies to others are kept for [`Client::next_reply`] and later waits.
    pub fn wait<R>(&mut self, ticket: Ticket<R>) -> Result<R, ClientError> {
        loop {
            while let Some(reply) = self.complete()? {
                self.arrived.push_back(reply);
            }
            if let Some(index) = self.arrived.iter().position(|reply| ticket.matches(reply)) {
                return match self.arrived.remove(index) {
                    Some(reply) => ticket.result(&reply),
                    None => Err(ClientError::BadReply("it was taken twice".into())),
                };
            }
            if !self.sent.iter().any(|(xid, _)| *xid == ticket.xid) {
                return Err(ClientError::BadReply(
                    "the reply to this call was taken before".into(),
                ));
            }
            self.fill()?;
        }
    }

    /// Waits for the next reply, whichever call it belongs to.
    pub fn recv(&mut self) -> Result<Reply, ClientError> {
        loop {
            if let Some(reply) = self.next_reply()? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    /// Reads once, and on while the stream has something buffered, which does not block when its descriptor is
    /// readable. Then take [`Client::next_reply`] until it gives None.
    pub fn fill(&mut self) -> Result<(), ClientError> {
        self.read()?;
        while self.stream.buffered() {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), ClientError> {
        // Not on the stack, which would stay as large in a daemon that makes a call occasionally.
        let mut buffer = vec![0; READ.min(self.longest_reply())];
        let count = loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(lost)?,
            }
        };
        if count == 0 {
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        }
        self.input
            .extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(())
    }

    /// A reply that is complete already, if there is one. Never blocks.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ClientError> {
        match self.arrived.pop_front() {
            Some(reply) => Ok(Some(reply)),
            None => self.complete(),
        }
    }

    /// Bytes of the longest reply that one of the calls under way can have.
    fn longest_reply(&self) -> usize {
        let longest = self.sent.iter().map(|(_, max_result)| *max_result).max();
        MAX_HEADER + longest.unwrap_or(0)
    }

    /// Cuts the next reply from the input.
    fn complete(&mut self) -> Result<Option<Reply>, ClientError> {
        let bounds = Bounds {
            max_record: self.longest_reply(),
            max_fragments: MAX_FRAGMENTS,
        };
        let record = self.framer.next(&mut self.input, &bounds);
        let Some(record) = record.map_err(|error| ClientError::BadReply(error.to_string()))? else {
            return Ok(None);
        };
        if let Some(seal) = &mut self.seal {
            seal.check(&record)?;
        }
        let reply = reply(record.freeze())?;
        let Some(index) = self.sent.iter().position(|(xid, _)| *xid == reply.xid) else {
            return Err(ClientError::BadReply("it answers none of our calls".into()));
        };
        self.sent.swap_remove(index);
        Ok(Some(reply))
    }
}

/// Takes a record for a reply.
fn reply(record: Bytes) -> Result<Reply, ClientError> {
    let bad = |error: onc_rpc::Error| ClientError::BadReply(error.to_string());
    let message = RpcMessage::<&[u8], &[u8]>::try_from(&*record).map_err(bad)?;
    let Some(body) = message.reply_body() else {
        return Err(ClientError::BadReply("it is a call".into()));
    };
    let outcome = match body {
        ReplyBody::Accepted(accepted) => match accepted.status() {
            AcceptedStatus::Success(result) => Ok(record.slice_ref(result)),
            AcceptedStatus::ProgramUnavailable => Err(Rejection::ProgramUnavailable),
            AcceptedStatus::ProgramMismatch { low, high } => Err(Rejection::ProgramMismatch {
                low: *low,
                high: *high,
            }),
            AcceptedStatus::ProcedureUnavailable => Err(Rejection::ProcedureUnavailable),
            AcceptedStatus::GarbageArgs => Err(Rejection::GarbageArguments),
            AcceptedStatus::SystemError => Err(Rejection::SystemError),
        },
        ReplyBody::Denied(RejectedReply::RpcVersionMismatch { low, high }) => {
            Err(Rejection::RpcMismatch {
                low: *low,
                high: *high,
            })
        }
        ReplyBody::Denied(RejectedReply::AuthError(_)) => Err(Rejection::Authentication),
    };
    Ok(Reply {
        xid: message.xid(),
        outcome,
    })
}

/// A failed read or write.
fn lost(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut,
        _ => ClientError::Lost(error),
    }
}
