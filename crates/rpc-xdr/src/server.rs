//! The server side, in the daemons: one connection is one future on a current_thread runtime.
//!
//! The future reads calls, runs several at once and writes the replies in the order in which the calls end, matched by
//! xid. It owns all of that, so dropping it, or the end of the connection, drops the running calls and the session.
//!
//! Memory is bounded: calls are begun only while fewer than `max_calls` run, and carried on only while the peer takes
//! its replies, so no more than one long reply waits for it. Reading stops when a further record has arrived. An idle
//! connection has no buffers.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use onc_rpc::auth::AuthFlavor;
use onc_rpc::{AcceptedReply, AcceptedStatus, MessageType, RejectedReply, ReplyBody, RpcMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::record::{self, Framer, MARK, MAX_HEADER, RecordError};
use crate::seal::{Seal, SealError};
use crate::xdr::{self, Strict};

mod door;
mod header;
mod single;

pub use door::{Admitted, Asked, Begin, Door, DoorError, Gate};
use header::{HeaderError, header};
pub use single::serve_one;

/// Bytes asked for by one read.
const READ: usize = 16 * 1024;

/// Bytes of replies that a peer may leave unread before its next calls wait.
const UNTAKEN: usize = 64 * 1024;

/// Buffers up to this size are kept for the next call.
const KEPT: usize = 4 * 1024;

/// What a connection may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size and fragments of a call.
    pub record: record::Bounds,
    /// Calls that run at once; further ones wait.
    pub max_calls: usize,
    /// The connection is closed when for so long no call ran and none arrived completely; None: never.
    pub idle: Option<Duration>,
}

impl Limits {
    /// For arguments of up to `max_args` bytes: 64 fragments, 16 calls at once, no limit of time.
    pub const fn new(max_args: usize) -> Self {
        let record = record::Bounds {
            max_record: max_args + MAX_HEADER,
            max_fragments: 64,
        };
        Self {
            record,
            max_calls: 16,
            idle: None,
        }
    }
}

/// Why the server closed a connection. When the client closes it, that is no error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Reading or writing failed.
    #[error("the connection broke: {}", crate::why_broken(.0))]
    Broken(#[source] io::Error),
    /// What the peer sends is no sequence of records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record that is no call.
    #[error("the peer sent something that is not a call: {0}")]
    NoCall(String),
    /// A sealed connection was tampered with, or the peer does not seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The idle time is over.
    #[error("the peer made no call in time")]
    Idle,
}

/// Why a call is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// PROC_UNAVAIL: there is no such procedure.
    ProcedureUnavailable,
    /// GARBAGE_ARGS: the arguments do not conform to the interface.
    GarbageArguments,
}

/// A running call; gives the record of its reply.
pub struct Answer(Pin<Box<dyn Future<Output = Vec<u8>>>>);

/// An interface with the service `S`; generated.
pub trait Program<S> {
    /// State of a connection.
    type Session: 'static;
    /// Number of the program.
    const NUMBER: u32;
    /// Number of the version.
    const VERSION: u32;
    /// Decodes the arguments of a call and begins it.
    fn dispatch(
        service: &Rc<S>,
        session: &Rc<Self::Session>,
        call: Call<'_>,
    ) -> Result<Answer, Reject>;
}

/// A call that has arrived, for [`Program::dispatch`].
#[derive(Debug)]
pub struct Call<'a> {
    xid: u32,
    procedure: u32,
    arguments: Strict<'a>,
}

impl Call<'_> {
    /// Number of the procedure.
    pub fn procedure(&self) -> u32 {
        self.procedure
    }

    /// Decodes the arguments, which have at most `max` bytes and end where the decoder ends.
    pub fn arguments<T>(
        &mut self,
        max: usize,
        decode: impl FnOnce(&mut Strict<'_>) -> xdr::Result<T>,
    ) -> Result<T, Reject> {
        if self.arguments.remaining() > max {
            return Err(Reject::GarbageArguments);
        }
        let value = decode(&mut self.arguments).map_err(|_| Reject::GarbageArguments)?;
        self.arguments
            .clone()
            .finish()
            .map_err(|_| Reject::GarbageArguments)?;
        Ok(value)
    }

    /// The answer: what `run` gives, encoded by `pack`.
    pub fn answer<R: 'static>(
        &self,
        run: impl Future<Output = R> + 'static,
        pack: fn(&R, &mut Vec<u8>) -> xdr::Result<()>,
    ) -> Answer {
        let xid = self.xid;
        Answer(Box::pin(async move {
            let result = run.await;
            let mut record = accepted(xid, AcceptedStatus::Success(&[]));
            match pack(&result, &mut record) {
                Ok(_) => record::finish(&mut record),
                // The service exceeded a bound of the interface: a bug, which must not end the connection.
                Err(_) => record = accepted(xid, AcceptedStatus::SystemError),
            }
            record
        }))
    }
}

/// Serves one connection until the client closes it (Ok) or it has to be closed.
///
/// A call that waits is dropped when the connection ends. `session` is dropped with the last call.
pub async fn serve<P, S, IO>(
    stream: IO,
    service: Rc<S>,
    session: P::Session,
    limits: Limits,
) -> Result<(), ServeError>
where
    P: Program<S>,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    serve_sealed::<P, S, IO>(stream, service, session, limits, None).await
}

/// [`serve`] on a connection that has been authenticated: with a seal, every call must be sealed, and every reply is.
pub async fn serve_sealed<P, S, IO>(
    stream: IO,
    service: Rc<S>,
    session: P::Session,
    limits: Limits,
    seal: Option<Seal>,
) -> Result<(), ServeError>
where
    P: Program<S>,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut idle = limits.idle.map(|time| Box::pin(tokio::time::sleep(time)));
    let mut connection = Connection::<P, S, IO> {
        stream,
        service,
        session: Rc::new(session),
        limits,
        framer: Framer::default(),
        input: BytesMut::new(),
        ended: false,
        calls: Vec::new(),
        output: Vec::new(),
        written: 0,
        seal,
    };
    std::future::poll_fn(|context| connection.poll(context, idle.as_mut())).await
}

struct Connection<P: Program<S>, S, IO> {
    stream: IO,
    service: Rc<S>,
    session: Rc<P::Session>,
    limits: Limits,
    framer: Framer,
    input: BytesMut,
    /// The client has closed its side.
    ended: bool,
    calls: Vec<Answer>,
    /// Replies, of which the first `written` bytes are on their way.
    output: Vec<u8>,
    written: usize,
    seal: Option<Seal>,
}

impl<P: Program<S>, S, IO: AsyncRead + AsyncWrite + Unpin> Connection<P, S, IO> {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        idle: Option<&mut Pin<Box<Sleep>>>,
    ) -> Poll<Result<(), ServeError>> {
        let mut busy = !self.calls.is_empty();
        loop {
            let ended = self.advance_calls(context)?;
            let begun = self.begin_calls(context)?;
            let wrote = self.write(context)?;
            let read = self.read(context)?;
            busy |= begun;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if !ended && !begun && !wrote && !read {
                break;
            }
        }
        if let (Some(idle), Some(time)) = (idle, self.limits.idle) {
            if busy || !self.calls.is_empty() {
                idle.as_mut().reset(Instant::now() + time);
            }
            ready!(idle.as_mut().poll(context));
            return Poll::Ready(Err(ServeError::Idle));
        }
        Poll::Pending
    }

    /// Whether the peer has left so much unread that its calls have to wait.
    fn is_full(&self) -> bool {
        self.output.len() - self.written >= UNTAKEN
    }

    /// Polls every running call, as long as the peer takes the replies; true if one has ended.
    fn advance_calls(&mut self, context: &mut Context<'_>) -> Result<bool, SealError> {
        let before = self.calls.len();
        let mut next = 0;
        while !self.is_full()
            && let Some(call) = self.calls.get_mut(next)
        {
            match call.0.as_mut().poll(context) {
                Poll::Ready(record) => {
                    self.calls.remove(next);
                    self.append(record)?;
                }
                Poll::Pending => next += 1,
            }
        }
        Ok(self.calls.len() < before)
    }

    /// Adds a reply, sealed if the connection is, without copying it if it is the only one.
    fn append(&mut self, mut record: Vec<u8>) -> Result<(), SealError> {
        if let Some(seal) = &mut self.seal {
            seal.seal(&mut record)?;
        }
        if self.output.is_empty() {
            self.output = record;
        } else {
            self.output.extend_from_slice(&record);
        }
        Ok(())
    }

    /// Begins the calls that have arrived, as many as may run.
    fn begin_calls(&mut self, context: &mut Context<'_>) -> Result<bool, ServeError> {
        let mut begun = false;
        while self.calls.len() < self.limits.max_calls && !self.is_full() {
            let Some(record) = self.framer.next(&mut self.input, &self.limits.record)? else {
                break;
            };
            begun = true;
            if let Some(seal) = &mut self.seal {
                seal.check(&record)?;
            }
            match begin::<P, S>(&self.service, &self.session, &record)? {
                Ok(mut answer) => match answer.0.as_mut().poll(context) {
                    Poll::Ready(record) => self.append(record)?,
                    Poll::Pending => self.calls.push(answer),
                },
                Err(record) => self.append(record)?,
            }
        }
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = BytesMut::new();
        }
        Ok(begun)
    }

    /// Writes replies; true if the stream took some.
    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, ServeError> {
        let mut wrote = false;
        while let Some(rest @ [_, ..]) = self.output.get(self.written..) {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => {
                    return Err(ServeError::Broken(io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(count)) => self.written += count,
                // The client has gone; a read would show this too, but perhaps only after much data that is no longer
                // needed.
                Poll::Ready(Err(error)) if gone(&error) => {
                    self.ended = true;
                    return Ok(true);
                }
                Poll::Ready(Err(error)) => return Err(ServeError::Broken(error)),
                Poll::Pending => return Ok(wrote),
            }
            wrote = true;
        }
        // A stream that encrypts may have kept something back.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Err(error)) if gone(&error) => self.ended = true,
            Poll::Ready(Err(error)) => return Err(ServeError::Broken(error)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        self.written = 0;
        self.output.clear();
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
        Ok(wrote)
    }

    /// Reads once unless a record beyond those that may run is here; true if something came.
    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, ServeError> {
        if self.input.len() >= self.limits.record.max_record + MARK {
            return Ok(false);
        }
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                self.ended = buffer.filled().is_empty();
                self.input.extend_from_slice(buffer.filled());
                Ok(true)
            }
            Poll::Ready(Err(error)) if gone(&error) => {
                self.ended = true;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(ServeError::Broken(error)),
            Poll::Pending => Ok(false),
        }
    }
}

/// Begins the call in `record`, or gives the record of its refusal.
fn begin<P: Program<S>, S>(
    service: &Rc<S>,
    session: &Rc<P::Session>,
    record: &[u8],
) -> Result<Result<Answer, Vec<u8>>, ServeError> {
    let header = match header(record) {
        Ok(header) => header,
        Err(HeaderError::RpcVersion { xid }) => return Ok(Err(rpc_mismatch(xid))),
        Err(error) => return Err(ServeError::NoCall(error.to_string())),
    };
    let xid = header.xid;
    if header.program != P::NUMBER {
        return Ok(Err(accepted(xid, AcceptedStatus::ProgramUnavailable)));
    }
    if header.version != P::VERSION {
        let status = AcceptedStatus::ProgramMismatch {
            low: P::VERSION,
            high: P::VERSION,
        };
        return Ok(Err(accepted(xid, status)));
    }
    let call = Call {
        xid,
        procedure: header.procedure,
        arguments: header.arguments,
    };
    Ok(P::dispatch(service, session, call).map_err(|reject| {
        let status = match reject {
            Reject::ProcedureUnavailable => AcceptedStatus::ProcedureUnavailable,
            Reject::GarbageArguments => AcceptedStatus::GarbageArgs,
        };
        accepted(xid, status)
    }))
}

/// The peer has closed the connection without taking everything.
fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn accepted(xid: u32, status: AcceptedStatus<&[u8]>) -> Vec<u8> {
    reply(
        xid,
        ReplyBody::Accepted(AcceptedReply::new(AuthFlavor::AuthNone(None), status)),
    )
}

/// The refusal of a call of another version of RPC.
fn rpc_mismatch(xid: u32) -> Vec<u8> {
    reply(
        xid,
        ReplyBody::Denied(RejectedReply::RpcVersionMismatch { low: 2, high: 2 }),
    )
}

fn reply(xid: u32, body: ReplyBody<&[u8], &[u8]>) -> Vec<u8> {
    let mut record = Vec::with_capacity(64);
    // Writing to memory cannot fail.
    let _ = RpcMessage::new(xid, MessageType::Reply(body)).serialise_into(&mut record);
    record
}
