//! The client side of a remote connection before its first call of UMLMONCTRL: TLS is asked for, then both sides prove
//! that they know the password. In umlwatch and umladmin; `umlmonctrl.x` describes it, at the program UMLMONAUTH.

use std::io;
use std::net::IpAddr;

use bytes::BytesMut;
use onc_rpc::auth::AuthFlavor;
use onc_rpc::{
    AcceptedStatus, AuthError, CallBody, MessageType, RejectedReply, ReplyBody, RpcMessage,
};

use super::{ClientError, Stream, lost};
use crate::auth::{self, Key, Transcript};
use crate::pake::{Context, Guess, Proved};
use crate::record::{Bounds, Framer, MAX_HEADER};
use crate::seal::Seal;
use crate::umlmonctrl::{
    AUTH_FLAVOR_TLS, AuthBeginArgs, AuthFinishArgs, AuthProof, AuthStartArgs, CtlCode, CtlError,
    UMLMONAUTH, UMLMONAUTH_V1, UmlmonauthV1Client, UmlmonauthV2Client,
};

/// The verifier of a server that offers TLS (RFC 9289 section 4.1).
pub const TLS_TOKEN: &[u8] = b"STARTTLS";

/// The number of the master password among those that are tried (`AUTH_PASSWORDS`).
const MASTER: u32 = 1;

/// The arguments of a login with version 1.
#[derive(Debug)]
pub struct Login<'a> {
    /// The VM.
    pub vm: &'a str,
    /// Its password, or the master password.
    pub key: &'a Key,
    /// Whether to seal the messages that follow; a server may require it.
    pub seal: bool,
    /// What the TLS connection around the calls exports ([`auth::BINDING_LABEL`]); empty without TLS.
    pub binding: &'a [u8],
}

/// The arguments of a login with version 2.
#[derive(Debug)]
pub struct StrongLogin<'a> {
    /// The VM.
    pub vm: &'a str,
    /// Its host as the user named it, without brackets and port.
    pub host: &'a str,
    /// The address that the client has connected to.
    pub address: IpAddr,
    /// The password of the VM, or the master password.
    pub key: &'a Key,
    /// What the TLS connection around the calls exports ([`auth::BINDING_LABEL`]); empty without TLS.
    pub binding: &'a [u8],
}

/// A connection on which both sides have proved that they know the password.
#[derive(Debug)]
pub struct Authenticated<S> {
    /// The connection, for a client of UMLMONCTRL.
    pub stream: S,
    /// For [`super::Client::seal`], if it was wanted.
    pub seal: Option<Seal>,
    /// What a change of the password needs on this connection.
    pub proved: Proved,
    /// It was the master password, and not that of the VM; version 1 does not tell.
    pub master: bool,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No answer, or one that is not valid.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The server refuses the login, for this reason.
    #[error("{}", .0.text)]
    Refused(CtlError),
    /// The server rejects our proof: the password is wrong, or there were too many wrong ones.
    #[error("{}", .0.text)]
    Disproved(CtlError),
    /// The server accepted us without knowing the password: it is not the monitor.
    #[error("the server does not know the password: it is not the VM's monitor")]
    Impostor,
    /// The host gives no random bytes for a nonce.
    #[error("cannot get random numbers: {0}")]
    Random(#[source] io::Error),
}

/// Logs in with version 2: both sides prove that they know the password. Neither an eavesdropper nor somebody between
/// the two learns anything about it.
///
/// # Errors
/// [`LoginError`]; the connection is of no further use then. That the password is wrong is [`LoginError::Disproved`].
pub fn log_in<S: Stream>(
    mut stream: S,
    login: &StrongLogin<'_>,
) -> Result<Authenticated<S>, LoginError> {
    let address = match login.address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let wrong = || LoginError::Disproved(wrong_password(login.host));
    let (first, second) = Guess::new(login.key)
        .zip(Guess::new(login.key))
        .ok_or_else(wrong)?;
    let mut client = UmlmonauthV2Client::new(&mut stream);
    let start = AuthStartArgs {
        vm: login.vm.to_owned(),
        host: login.host.to_owned(),
        address,
        requests: [first.1, second.1],
    };
    let answer = client.auth_start(&start)?.into_result();
    let offers = answer.map_err(LoginError::Refused)?.offers;
    let context = Context::login(login.vm, login.host, address, login.binding);
    let (password, (session, proof)) = [first.0, second.0]
        .into_iter()
        .zip(&offers)
        .zip(0..)
        .find_map(|((guess, offer), number)| Some((number, guess.finish(offer, &context)?)))
        .ok_or_else(wrong)?;
    let finish = AuthFinishArgs { password, proof };
    let answer = client.auth_finish(&finish)?.into_result();
    answer.map_err(LoginError::Disproved)?;
    client.rpc.into_stream()?;
    Ok(Authenticated {
        stream,
        seal: Some(Seal::client_of(&session)),
        proved: Proved::V2(session),
        master: password == MASTER,
    })
}

/// The client finds this out itself: the server has not answered yet.
fn wrong_password(host: &str) -> CtlError {
    CtlError {
        code: CtlCode::NotAuthorised,
        text: format!("wrong password, or what answers is not the monitor at {host}"),
    }
}

/// Logs in with version 1: both sides prove that they know the password.
///
/// # Errors
/// [`LoginError`]; the connection is of no further use then.
pub fn authenticate<S: Stream>(
    mut stream: S,
    login: &Login<'_>,
) -> Result<Authenticated<S>, LoginError> {
    let client_nonce = auth::nonce().map_err(LoginError::Random)?;
    let mut client = UmlmonauthV1Client::new(&mut stream);
    let begin = AuthBeginArgs {
        vm: login.vm.to_owned(),
        client_nonce,
        seal: login.seal,
    };
    let challenge = client.auth_begin(&begin)?.into_result();
    let server_nonce = challenge.map_err(LoginError::Refused)?.server_nonce;
    let transcript = Transcript::new(
        login.vm,
        client_nonce,
        server_nonce,
        login.seal,
        login.binding,
    );
    let proof = transcript.client_proof(login.key);
    let answer = client.auth_prove(&AuthProof { proof })?.into_result();
    let server = answer.map_err(LoginError::Disproved)?;
    if !transcript.is_server_proof(login.key, &server.proof) {
        return Err(LoginError::Impostor);
    }
    client.rpc.into_stream()?;
    Ok(Authenticated {
        stream,
        seal: login.seal.then(|| Seal::client(&transcript, login.key)),
        proved: Proved::V1(server_nonce),
        master: false,
    })
}

/// Asks for TLS, as the first call of a connection. True: the TLS handshake is next on the stream. False: the server
/// does not offer TLS, and the stream can be used unencrypted.
///
/// The answer is not protected: a client that requires TLS must not continue without it.
///
/// # Errors
/// [`ClientError`]: no answer, or one that is not valid.
pub fn start_tls<S: Stream>(stream: &mut S) -> Result<bool, ClientError> {
    const XID: u32 = 1;
    let body = CallBody::<&[u8], &[u8]>::new(
        UMLMONAUTH,
        UMLMONAUTH_V1,
        0,
        AuthFlavor::Unknown {
            id: AUTH_FLAVOR_TLS,
            data: &[],
        },
        AuthFlavor::AuthNone(None),
        &[],
    );
    let mut call = Vec::new();
    RpcMessage::new(XID, MessageType::Call(body))
        .serialise_into(&mut call)
        .map_err(lost)?;
    stream
        .write_all(&call)
        .and_then(|()| stream.flush())
        .map_err(lost)?;
    let record = read_record(stream)?;
    let bad = |what: &str| ClientError::BadReply(what.to_owned());
    let message =
        RpcMessage::<&[u8], &[u8]>::try_from(&*record).map_err(|e| bad(&e.to_string()))?;
    if message.xid() != XID {
        return Err(bad("it answers none of our calls"));
    }
    match message.reply_body() {
        Some(ReplyBody::Accepted(reply)) => match (reply.auth_verifier(), reply.status()) {
            (AuthFlavor::AuthNone(Some(token)), AcceptedStatus::Success(_)) => {
                Ok(*token == TLS_TOKEN)
            }
            _ => Ok(false),
        },
        Some(ReplyBody::Denied(RejectedReply::AuthError(
            AuthError::RejectedCredentials | AuthError::BadCredentials,
        ))) => Ok(false),
        _ => Err(bad("it is not a valid reply to a request for TLS")),
    }
}

/// Reads one record and not a byte more, as the next one may belong to TLS.
fn read_record<S: Stream>(stream: &mut S) -> Result<BytesMut, ClientError> {
    let bounds = Bounds {
        max_record: MAX_HEADER,
        max_fragments: 8,
    };
    let (mut framer, mut input) = (Framer::default(), BytesMut::new());
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => input.extend_from_slice(&byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(error)),
        }
        let record = framer.next(&mut input, &bounds);
        if let Some(record) = record.map_err(|error| ClientError::BadReply(error.to_string()))? {
            return Ok(record);
        }
    }
}
