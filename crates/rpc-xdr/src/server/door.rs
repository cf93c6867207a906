//! The server side of a remote connection until the client is authenticated: TLS is offered, then both sides prove that
//! they know the password. In umlmon; `umlmonctrl.x` describes it, at the program UMLMONAUTH.
//!
//! The calls have a fixed order; any other message closes the connection. The caller of this code sets the deadline.

use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use onc_rpc::auth::AuthFlavor;
use onc_rpc::{AcceptedReply, AcceptedStatus, AuthError, RejectedReply, ReplyBody};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::header::header;
use super::{accepted, reply};
use crate::auth::{self, Key, Transcript};
use crate::client::TLS_TOKEN;
use crate::pake::{Context, Offered, Proved, Verifier};
use crate::record::{self, Bounds, Framer, RecordError};
use crate::seal::Seal;
use crate::umlmonctrl::{
    AUTH_FLAVOR_TLS, AuthBeginArgs, AuthBeginResult, AuthChallenge, AuthFinishArgs, AuthOffer,
    AuthOffers, AuthProof, AuthProveResult, AuthStartArgs, AuthStartResult, CtlError, CtlResult,
    UMLMONAUTH, UMLMONAUTH_V1, UMLMONAUTH_V2,
};
use crate::xdr::{Pack, Strict, Unpack, take};

/// Bounds for a client that is not authenticated.
const BOUNDS: Bounds = Bounds {
    max_record: 4096,
    max_fragments: 8,
};

/// Procedures of the program UMLMONAUTH, with their versions. That for TLS is in both.
const NULL: u32 = 0;
const BEGIN: (u32, u32) = (UMLMONAUTH_V1, 1);
const PROVE: (u32, u32) = (UMLMONAUTH_V1, 2);
const START: (u32, u32) = (UMLMONAUTH_V2, 1);
const FINISH: (u32, u32) = (UMLMONAUTH_V2, 2);

/// The text for arguments that cannot be decoded.
const NONSENSE: &str = "its arguments are invalid";

/// Decides who may log in.
#[allow(
    async_fn_in_trait,
    reason = "all connections are served on one thread, nothing has to be Send"
)]
pub trait Gate {
    /// The passwords that are accepted in version 1, or why nobody may log in; the reason is sent to the client.
    async fn keys(&self, begin: &AuthBeginArgs) -> Result<Vec<Key>, CtlError>;

    /// The verifiers of the passwords that are accepted in version 2, or why nobody may log in.
    async fn verifiers(&self, start: &AuthStartArgs) -> Result<[Rc<Verifier>; 2], CtlError>;

    /// Counts an attempt before the client can learn anything from it, so that simultaneous and aborted attempts count,
    /// too. The error says why no further attempt is allowed.
    fn attempt(&self) -> Result<(), CtlError>;

    /// An attempt has failed. The client gets this error when the future is ready.
    async fn failed(&self) -> CtlError;
}

/// Why a connection was closed before it was authenticated.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Reading or writing failed, or the client has gone.
    #[error("the connection broke: {}", crate::why_broken(.0))]
    Broken(#[from] io::Error),
    /// What the client sends is no sequence of records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The client sent something other than the next step of the authentication.
    #[error("{0}")]
    Uninvited(&'static str),
    /// The login was refused, and the client was told why.
    #[error("refused: {0}")]
    Refused(String),
}

/// The first call of a connection.
#[derive(Debug)]
pub enum Asked {
    /// For TLS; answer it with [`Door::start_tls`] or [`Door::refuse_tls`].
    Tls(u32),
    /// To begin the authentication, for [`Door::admit`].
    Begin(Begin),
}

/// A call that begins the authentication.
#[derive(Debug)]
pub struct Begin {
    xid: u32,
    args: BeginArgs,
}

#[derive(Debug)]
enum BeginArgs {
    /// AUTH_BEGIN
    V1(AuthBeginArgs),
    /// AUTH_START
    V2(Box<AuthStartArgs>),
}

/// An authenticated connection.
#[derive(Debug)]
pub struct Admitted<IO> {
    /// The connection.
    pub stream: IO,
    /// For [`super::serve_sealed`], if the client wanted it.
    pub seal: Option<Seal>,
    /// Which of the passwords it knows, by number.
    pub password: usize,
    /// What a change of the password needs on this connection.
    pub proved: Proved,
}

/// A connection that is not authenticated.
#[derive(Debug)]
pub struct Door<IO> {
    stream: IO,
    framer: Framer,
    input: BytesMut,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Door<IO> {
    /// A connection that has just been accepted, or that TLS has just begun on.
    pub fn new(stream: IO) -> Self {
        Door {
            stream,
            framer: Framer::default(),
            input: BytesMut::new(),
        }
    }

    /// The first call; after one for TLS that was refused, the next.
    ///
    /// # Errors
    /// [`DoorError`]; the connection must be closed then.
    pub async fn asked(&mut self) -> Result<Asked, DoorError> {
        let record = self.record().await?;
        let call = call(&record)?;
        if call.tls && call.procedure.1 == NULL {
            return Ok(Asked::Tls(call.xid));
        }
        let args = match call.procedure {
            BEGIN if !call.tls => BeginArgs::V1(arguments(call.arguments)?),
            START if !call.tls => BeginArgs::V2(Box::new(arguments(call.arguments)?)),
            _ => {
                return Err(DoorError::Uninvited(
                    "it called a procedure that needs authentication",
                ));
            }
        };
        let xid = call.xid;
        Ok(Asked::Begin(Begin { xid, args }))
    }

    /// Answers a call for TLS; the next byte on the stream is that of the handshake.
    ///
    /// # Errors
    /// If the stream is broken.
    pub async fn start_tls(mut self, xid: u32) -> Result<IO, DoorError> {
        let token = AuthFlavor::AuthNone(Some(TLS_TOKEN));
        let body = AcceptedReply::new(token, AcceptedStatus::Success(&[][..]));
        self.send(&reply(xid, ReplyBody::Accepted(body))).await?;
        Ok(self.stream)
    }

    /// Answers a call for TLS if there is no TLS; the client may continue unencrypted.
    ///
    /// # Errors
    /// If the stream is broken.
    pub async fn refuse_tls(&mut self, xid: u32) -> Result<(), DoorError> {
        let refusal = RejectedReply::AuthError(AuthError::RejectedCredentials);
        self.send(&reply(xid, ReplyBody::Denied(refusal))).await
    }

    /// Authenticates the client, if it knows a password of the gate; `binding` is what the TLS connection around the
    /// calls exports ([`auth::BINDING_LABEL`]), empty without TLS.
    ///
    /// # Errors
    /// [`DoorError`]; the connection must be closed then.
    pub async fn admit(
        self,
        begin: Begin,
        binding: &[u8],
        gate: &impl Gate,
    ) -> Result<Admitted<IO>, DoorError> {
        match begin.args {
            BeginArgs::V1(args) => self.prove(begin.xid, args, binding, gate).await,
            // On the heap, because a client that sends nothing does not need it.
            BeginArgs::V2(args) => Box::pin(self.exchange(begin.xid, args, binding, gate)).await,
        }
    }

    /// Version 1.
    async fn prove(
        mut self,
        xid: u32,
        args: AuthBeginArgs,
        binding: &[u8],
        gate: &impl Gate,
    ) -> Result<Admitted<IO>, DoorError> {
        let keys = match gate.keys(&args).await {
            Ok(keys) => keys,
            Err(error) => return self.refuse(xid, error, AuthBeginResult::Error).await,
        };
        let server_nonce = auth::nonce()?;
        let challenge = AuthBeginResult::Ok(AuthChallenge { server_nonce });
        self.answer(xid, &challenge).await?;
        let (xid, proof) = self.next::<AuthProof>(PROVE).await?;
        if let Err(error) = gate.attempt() {
            return self.refuse(xid, error, AuthProveResult::Error).await;
        }
        let transcript = Transcript::new(
            &args.vm,
            args.client_nonce,
            server_nonce,
            args.seal,
            binding,
        );
        let Some((password, key)) = proved(&transcript, &keys, &proof) else {
            let error = gate.failed().await;
            return self.refuse(xid, error, AuthProveResult::Error).await;
        };
        let proof = transcript.server_proof(key);
        self.answer(xid, &AuthProveResult::Ok(AuthProof { proof }))
            .await?;
        Ok(Admitted {
            stream: self.stream,
            seal: args.seal.then(|| Seal::server(&transcript, key)),
            password,
            proved: Proved::V1(server_nonce),
        })
    }

    /// Version 2.
    async fn exchange(
        mut self,
        xid: u32,
        args: Box<AuthStartArgs>,
        binding: &[u8],
        gate: &impl Gate,
    ) -> Result<Admitted<IO>, DoorError> {
        let verifiers = match gate.verifiers(&args).await {
            Ok(verifiers) => verifiers,
            Err(error) => return self.refuse(xid, error, AuthStartResult::Error).await,
        };
        // The answer shows the client whether its password is right, so the attempt is counted before the answer.
        if let Err(error) = gate.attempt() {
            return self.refuse(xid, error, AuthStartResult::Error).await;
        }
        let context = Context::login(&args.vm, &args.host, args.address, binding);
        let (offered, offers) = offer(&verifiers, &args, &context)?;
        let offers = AuthStartResult::Ok(AuthOffers { offers });
        self.answer(xid, &offers).await?;
        let (xid, finish) = self.next::<AuthFinishArgs>(FINISH).await?;
        let password = finish.password as usize;
        let offered = offered.into_iter().nth(password);
        let Some(key) = offered.and_then(|offered| offered.finish(&finish.proof)) else {
            let error = gate.failed().await;
            return self.refuse(xid, error, CtlResult::Error).await;
        };
        self.answer(xid, &CtlResult::Ok).await?;
        Ok(Admitted {
            stream: self.stream,
            seal: Some(Seal::server_of(&key)),
            password,
            proved: Proved::V2(key),
        })
    }

    /// The arguments of the call that must be next, with its number.
    async fn next<T: Unpack>(&mut self, procedure: (u32, u32)) -> Result<(u32, T), DoorError> {
        let record = self.record().await?;
        let call = call(&record)?;
        if call.procedure != procedure || call.tls {
            return Err(DoorError::Uninvited("it sent no proof"));
        }
        Ok((call.xid, arguments(call.arguments)?))
    }

    /// The next record, with nothing behind it: a client has no reason to send more before it is answered. What is sent
    /// in the clear can so never count as if it had come through TLS.
    async fn record(&mut self) -> Result<BytesMut, DoorError> {
        loop {
            if let Some(record) = self.framer.next(&mut self.input, &BOUNDS)? {
                return match self.input.is_empty() {
                    true => Ok(record),
                    false => Err(DoorError::Uninvited("it did not wait for an answer")),
                };
            }
            self.input.reserve(256);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(DoorError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Sends the client the reason why its login is refused.
    async fn refuse<T, R: Pack>(
        mut self,
        xid: u32,
        error: CtlError,
        result: fn(CtlError) -> R,
    ) -> Result<T, DoorError> {
        let text = error.text.clone();
        self.answer(xid, &result(error)).await?;
        Err(DoorError::Refused(text))
    }

    async fn answer<R: Pack>(&mut self, xid: u32, result: &R) -> Result<(), DoorError> {
        let mut record = accepted(xid, AcceptedStatus::Success(&[]));
        result
            .pack(&mut record)
            .map_err(|error| io::Error::other(error.to_string()))?;
        record::finish(&mut record);
        self.send(&record).await
    }

    async fn send(&mut self, record: &[u8]) -> Result<(), DoorError> {
        self.stream.write_all(record).await?;
        Ok(self.stream.flush().await?)
    }
}

/// Which of the keys the client knows. All are tried, so that the time does not reveal which.
fn proved<'a>(
    transcript: &Transcript,
    keys: &'a [Key],
    proof: &AuthProof,
) -> Option<(usize, &'a Key)> {
    keys.iter().enumerate().fold(None, |known, (number, key)| {
        let right = transcript.is_client_proof(key, &proof.proof);
        known.or(right.then_some((number, key)))
    })
}

/// The offer for each password, and what the server keeps of it.
fn offer(
    verifiers: &[Rc<Verifier>; 2],
    args: &AuthStartArgs,
    context: &Context,
) -> Result<([Offered; 2], [AuthOffer; 2]), DoorError> {
    let [vm, master] = verifiers;
    let [first, second] = &args.requests;
    let (Some(vm), Some(master)) = (vm.offer(first, context), master.offer(second, context)) else {
        return Err(DoorError::Uninvited(NONSENSE));
    };
    Ok(([vm.0, master.0], [vm.1, master.1]))
}

/// A call of the program UMLMONAUTH.
struct AuthCall<'a> {
    xid: u32,
    /// With the version in front.
    procedure: (u32, u32),
    /// Its credentials ask for TLS.
    tls: bool,
    arguments: Strict<'a>,
}

fn call(record: &[u8]) -> Result<AuthCall<'_>, DoorError> {
    let header =
        header(record).map_err(|_| DoorError::Uninvited("it sent something that is not a call"))?;
    if header.program != UMLMONAUTH {
        return Err(DoorError::Uninvited(
            "it called a procedure that needs authentication",
        ));
    }
    Ok(AuthCall {
        xid: header.xid,
        procedure: (header.version, header.procedure),
        tls: header.flavor == AUTH_FLAVOR_TLS,
        arguments: header.arguments,
    })
}

fn arguments<T: Unpack>(mut input: Strict<'_>) -> Result<T, DoorError> {
    take(&mut input)
        .and_then(|value| input.finish().map(|()| value))
        .map_err(|_| DoorError::Uninvited(NONSENSE))
}
