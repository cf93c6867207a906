//! TLS around connections from other hosts (RFC 9289; umlmon, the monitor process).
//!
//! Nothing is read or set up before a connection asks for it: a monitor without such connections needs no memory for
//! them.

use std::sync::Arc;

use config::{Global, TlsPolicy};
use daemon::server_config;
use rpc_xdr::auth::{BINDING_LABEL, BINDING_LENGTH};
use rpc_xdr::server::{Asked, Begin, Door, DoorError};
use rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The protocol inside of TLS (RFC 9289 section 5.1.1).
const ALPN: &[u8] = b"sunrpc";

/// What accepts TLS connections; None if the configuration says that there are none.
///
/// # Errors
/// If certificate or key cannot be used, and why.
pub fn acceptor(global: &Global) -> anyhow::Result<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&global.tls_certificate, &global.tls_key) else {
        return Ok(None);
    };
    if global.tls == TlsPolicy::Off {
        return Ok(None);
    }
    let mut config = server_config(("tls_certificate", certificate), ("tls_key", key))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Sessions last long; there is no use in being able to resume one.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// A connection in TLS whose client wants to be let in.
pub struct Opened<IO> {
    /// The connection.
    pub door: Door<TlsStream<IO>>,
    /// Its first call.
    pub begin: Begin,
    /// What the proofs of the password are bound to.
    pub binding: Vec<u8>,
}

/// Begins TLS, as the call `xid` asked for, and takes the first call in it.
///
/// # Errors
/// If the client does not do as RFC 9289 says; the connection must be closed then.
pub async fn open<IO>(
    door: Door<IO>,
    xid: u32,
    acceptor: TlsAcceptor,
) -> Result<Opened<IO>, DoorError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let stream = acceptor.accept(door.start_tls(xid).await?).await?;
    let (_, connection) = stream.get_ref();
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(DoorError::Uninvited("its TLS is not for RPC"));
    }
    let binding = connection
        .export_keying_material(vec![0; BINDING_LENGTH], BINDING_LABEL, None)
        .map_err(std::io::Error::other)?;
    let mut door = Door::new(stream);
    match door.asked().await? {
        Asked::Begin(begin) => Ok(Opened {
            door,
            begin,
            binding,
        }),
        Asked::Tls(_) => Err(DoorError::Uninvited("it asked for TLS within TLS")),
    }
}
