//! Connections from other hosts: the TCP port, and the socket `redir` for clients that come through umldir's redirector
//! (umlmon, the monitor process).
//!
//! Clients that are not authenticated have little memory, little time, and connection slots of their own: however many
//! there are, they do not affect authenticated clients and the control socket.

mod gate;
mod names;
mod tls;

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::{Global, VmName};
use daemon::{Acceptor, Crowd, CtrlSocket, Place, TcpAcceptor};
use rpc_xdr::server::{self, Admitted, Asked, Begin, Door, DoorError, serve_sealed};
use rpc_xdr::umlmonctrl::UMLMONCTRL_V1_MAX_ARGS;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::service::Service;
use crate::service::access::Guarded;
use crate::service::session::{Session, Trust};
use crate::shares::Caller;
use gate::{Gate, Gatekeeper, Source};

/// Connections at once that are not authenticated, in all and from one source. A source that has only one keeps it as
/// long as there are not half as many others.
const MAX_STRANGERS: (usize, usize) = (256, 16);
/// Connections at once that are authenticated.
const MAX_INSIDE: usize = 128;
/// How long the authentication may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long umldir may take to say where a client is.
const SOURCE_DEADLINE: Duration = Duration::from_secs(1);
/// The socket of the redirector, in the directory of the VM.
const REDIR: &str = "redir";

/// The sockets that the configuration wants open. The file goes when this is dropped.
#[derive(Debug)]
pub struct Sockets {
    tcp: Option<TcpListener>,
    port: Option<u16>,
    redir: Option<CtrlSocket>,
}

impl Sockets {
    /// Listens on them.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn listen(global: &Global, vm: &VmName) -> anyhow::Result<Sockets> {
        if global.tcp || global.tcp_redir {
            // The caller that starts the monitor must get the error now if no client could ever be let in.
            tls::acceptor(global)?;
        }
        let listen = || {
            daemon::listen_tcp(global.listen, 0).with_context(|| match global.listen {
                Some(address) => {
                    format!("cannot listen on a TCP port of {address} (listen in [GLOBAL])")
                }
                None => "cannot listen on a TCP port".to_owned(),
            })
        };
        let tcp = global.tcp.then(listen).transpose()?;
        let address = tcp.as_ref().map(TcpListener::local_addr).transpose()?;
        let redir = || CtrlSocket::bind_private(&global.vm_dir(vm), REDIR);
        Ok(Sockets {
            port: address.map(|address| address.port()),
            tcp,
            redir: global.tcp_redir.then(redir).transpose()?,
        })
    }

    /// The TCP port.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Begins to accept, without end. Called within the runtime.
    ///
    /// # Errors
    /// If the runtime has no room for a socket.
    pub fn open(&mut self, service: &Rc<Service>) -> anyhow::Result<()> {
        let remote = Rc::new(Remote {
            service: Rc::clone(service),
            keeper: Gatekeeper::new(Rc::clone(&service.setup), Rc::clone(&service.passwords)),
            strangers: Crowd::new(MAX_STRANGERS.0, MAX_STRANGERS.1),
            inside: Arc::new(Semaphore::new(MAX_INSIDE)),
        });
        if let Some(listener) = self.tcp.take() {
            let acceptor = TcpAcceptor::new(listener)?;
            tokio::task::spawn_local(accept_tcp(acceptor, Rc::clone(&remote)));
        }
        if let Some(redir) = &mut self.redir {
            tokio::task::spawn_local(accept_redirected(redir.acceptor()?, remote));
        }
        Ok(())
    }
}

/// What all remote connections share.
struct Remote {
    service: Rc<Service>,
    keeper: Gatekeeper,
    strangers: Rc<Crowd>,
    inside: Arc<Semaphore>,
}

async fn accept_tcp(acceptor: TcpAcceptor, remote: Rc<Remote>) {
    loop {
        let (stream, address) = acceptor.next().await;
        let source = Source {
            address,
            redirected: false,
        };
        let strangers = Rc::clone(&remote.strangers);
        let remote = Rc::clone(&remote);
        strangers.admit(address.ip(), |place| remote.converse(stream, source, place));
        // In a flood, other tasks run between two such connections.
        tokio::task::yield_now().await;
    }
}

async fn accept_redirected(acceptor: Acceptor, remote: Rc<Remote>) {
    loop {
        let stream = acceptor.next().await;
        // The mode of the socket says so already.
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == 0) {
            tracing::warn!("rejected a connection to {REDIR} that is not from umldir");
            continue;
        }
        tokio::task::spawn_local(redirected(stream, Rc::clone(&remote)));
        tokio::task::yield_now().await;
    }
}

/// A connection of umldir, which tells first where the client is (`redir_source` in `umldir.x`).
async fn redirected(mut stream: UnixStream, remote: Rc<Remote>) {
    let mut told = [0; 20];
    if !matches!(
        timeout(SOURCE_DEADLINE, stream.read_exact(&mut told)).await,
        Ok(Ok(_))
    ) {
        return tracing::warn!("umldir did not send the address of a client");
    }
    let source = Source {
        address: source_of(&told),
        redirected: true,
    };
    let strangers = Rc::clone(&remote.strangers);
    strangers.admit(source.address.ip(), |place| {
        remote.converse(stream, source, place)
    });
}

/// Address and port from the XDR of `redir_source`.
fn source_of(told: &[u8; 20]) -> SocketAddr {
    let [address @ .., _, _, high, low] = *told;
    let ip = IpAddr::from(Ipv6Addr::from(address)).to_canonical();
    SocketAddr::new(ip, u16::from_be_bytes([high, low]))
}

impl Remote {
    /// A connection from its beginning to its end.
    async fn converse<IO>(self: Rc<Self>, stream: IO, source: Source, place: Place)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let deadline = Instant::now() + DEADLINE;
        let mut door = Door::new(stream);
        match self
            .in_time(source, deadline, first(&mut door, &self))
            .await
        {
            Some(First::Begin(begin)) => {
                place.spoke();
                let knock = Knock {
                    source,
                    deadline,
                    binding: Vec::new(),
                };
                self.enter(door, begin, knock, place).await;
            }
            // On the heap, as most connections do without.
            Some(First::Tls(xid, acceptor)) => {
                let opening = tls::open(door, xid, acceptor);
                if let Some(opened) = self.in_time(source, deadline, Box::pin(opening)).await {
                    place.spoke();
                    let knock = Knock {
                        source,
                        deadline,
                        binding: opened.binding,
                    };
                    Box::pin(self.enter(opened.door, opened.begin, knock, place)).await;
                }
            }
            None => {}
        }
    }

    /// What a client that is not authenticated has to do, within the time it has.
    async fn in_time<T>(
        &self,
        source: Source,
        deadline: Instant,
        step: impl Future<Output = Result<T, DoorError>>,
    ) -> Option<T> {
        match timeout_at(deadline, step).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => self.keeper.note(source, &error),
            Err(_) => self.keeper.note(source, &"it took too long"),
        }
        None
    }

    /// Lets a client in, and serves it.
    async fn enter<IO>(&self, door: Door<IO>, begin: Begin, knock: Knock, place: Place)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let source = knock.source;
        let Some(admitted) = self.admit(door, begin, knock).await else {
            return;
        };
        // It is authenticated now.
        drop(place);
        let Ok(_inside) = Arc::clone(&self.inside).try_acquire_owned() else {
            return tracing::warn!("connection of {source} closed: there are {MAX_INSIDE} others");
        };
        let trust = Trust::Remote {
            sealed: admitted.seal.is_some(),
            proved: admitted.proved,
        };
        let events = Rc::clone(&self.service.setup.events);
        let caller = Caller::Source(daemon::source(source.address.ip()));
        let session = Session::new(source.to_string(), caller, trust, events);
        let limits = server::Limits::new(UMLMONCTRL_V1_MAX_ARGS);
        let service = Rc::clone(&self.service);
        let (stream, seal) = (admitted.stream, admitted.seal);
        match serve_sealed::<Guarded, _, _>(stream, service, session, limits, seal).await {
            Ok(()) => tracing::info!("connection of {source} ended"),
            Err(error) => tracing::warn!("connection of {source}: {error}"),
        }
    }

    /// The authentication.
    async fn admit<IO>(&self, door: Door<IO>, begin: Begin, knock: Knock) -> Option<Admitted<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let gate = Gate::new(&self.keeper, knock.source, !knock.binding.is_empty());
        let admitted = door.admit(begin, &knock.binding, &gate);
        let why: &dyn Display = match timeout_at(knock.deadline, admitted).await {
            Ok(Ok(admitted)) => {
                gate.passed(admitted.password, admitted.seal.is_some());
                return Some(admitted);
            }
            Ok(Err(error)) => &error.to_string(),
            Err(_) => &"it took too long",
        };
        gate.count();
        if !gate.was_counted() {
            self.keeper.note(knock.source, why);
        }
        None
    }
}

/// A client that wants to be let in.
struct Knock {
    source: Source,
    /// When it must be in.
    deadline: Instant,
    /// What its TLS connection exports; empty without TLS.
    binding: Vec<u8>,
}

/// What a client does first.
enum First {
    Begin(Begin),
    Tls(u32, TlsAcceptor),
}

/// The first call of a connection, or the next one if that asked for TLS and there is none.
async fn first<IO>(door: &mut Door<IO>, remote: &Remote) -> Result<First, DoorError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let xid = match door.asked().await? {
        Asked::Begin(begin) => return Ok(First::Begin(begin)),
        Asked::Tls(xid) => xid,
    };
    match remote.keeper.acceptor() {
        Ok(Some(acceptor)) => return Ok(First::Tls(xid, acceptor)),
        Ok(None) => {}
        Err(error) => tracing::warn!("the TLS handshake failed: {}", cli::causes(&error)),
    }
    door.refuse_tls(xid).await?;
    match door.asked().await? {
        Asked::Begin(begin) => Ok(First::Begin(begin)),
        Asked::Tls(_) => Err(DoorError::Uninvited("it asked for TLS again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_as_umldir_x_says() {
        let mut told = [0; 20];
        told[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        told[18..].copy_from_slice(&[0x12, 0x67]);
        assert_eq!(source_of(&told), "192.0.2.1:4711".parse().unwrap());
        told[..16].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        assert_eq!(source_of(&told), "[::1]:4711".parse().unwrap());
    }
}
