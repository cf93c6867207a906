//! The TCP ports of the daemon, which are open to all clients, and the socket of its redirector for umlweb (umldir).

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use config::{Global, Service as Port};
use daemon::{Crowd, CtrlSocket, Place, TcpAcceptor};
use rpc_xdr::umldir::{UMLDIR_V1_LIMITS, serve_umldir_v1};
use tokio::net::TcpStream;

use crate::directory::Directory;
use crate::redirect::{MAX_WAITING, Redirector};
use crate::service::{Service, Session};

/// Connections at once that ask questions, in all and from one source.
const MAX_ASKING: (usize, usize) = (512, 64);

/// Descriptors of those, and of those that wait for the redirector: their own, that of the monitor, and one that leads
/// to it.
const ASKING_DESCRIPTORS: u64 = MAX_ASKING.0 as u64 + 1;
const WAITING_DESCRIPTORS: u64 = 3 * MAX_WAITING.0 as u64 + 1;

/// How long such a connection may make no call. A client has its question ready.
const ASKING_IDLE: Duration = Duration::from_secs(10);

/// The socket for umlweb, in the directory of the daemon.
const REDIR: &str = "redir";

/// The ports that the configuration wants open.
#[derive(Debug)]
pub struct Ports {
    directory: Option<TcpListener>,
    redirector: Option<(TcpListener, u16)>,
    /// That of umlweb.
    web: Option<CtrlSocket>,
    global: Global,
    /// For all connections over TCP.
    descriptors: u64,
}

impl Ports {
    /// Listens on them.
    ///
    /// # Errors
    /// If a port is not known, or is not available; says what to change.
    pub fn listen(global: &Global) -> anyhow::Result<Ports> {
        let directory = global.tcp || global.tcp_redir;
        let directory = directory.then(|| listen(global, Port::Umldir));
        let redirector = global.tcp_redir.then(|| listen(global, Port::Umlredir));
        let web = global
            .tcp_redir
            .then(|| CtrlSocket::bind_named(&global.directory(), REDIR));
        Ok(Ports {
            directory: directory.transpose()?.map(|(listener, _)| listener),
            redirector: redirector.transpose()?,
            web: web.transpose()?,
            global: global.clone(),
            descriptors: 0,
        })
    }

    /// How many descriptors their connections can use.
    pub fn max_descriptors(&self) -> u64 {
        let asking = self.directory.as_ref().map(|_| ASKING_DESCRIPTORS);
        let redirected = self.redirector.as_ref();
        let redirected = redirected.map(|_| WAITING_DESCRIPTORS + Redirector::max_descriptors());
        asking.unwrap_or(0) + redirected.unwrap_or(0)
    }

    /// Says how many they may use.
    pub fn may_use(&mut self, descriptors: u64) {
        self.descriptors = descriptors;
    }

    /// Begins to accept, and gives the service that answers questions. Called within the runtime.
    ///
    /// # Errors
    /// If the runtime has no room for a socket.
    pub fn open(&mut self) -> anyhow::Result<Rc<Service>> {
        let monitors = Rc::new(Directory::default());
        let port = self.redirector.as_ref().map(|(_, port)| *port);
        let service = Rc::new(Service::new(Rc::clone(&monitors), port));
        if let Some(listener) = self.directory.take() {
            let acceptor = TcpAcceptor::new(listener)?;
            tokio::task::spawn_local(answer(acceptor, Rc::clone(&service)));
        }
        if let Some((listener, _)) = self.redirector.take() {
            let taken = ASKING_DESCRIPTORS + WAITING_DESCRIPTORS;
            let descriptors = self.descriptors.saturating_sub(taken);
            let redirector = Redirector::new(monitors, self.global.clone(), descriptors);
            let redirector = Rc::new(redirector);
            if let Some(socket) = &mut self.web {
                let serving = Rc::clone(&redirector).serve_web(socket.acceptor()?);
                tokio::task::spawn_local(serving);
            }
            tokio::task::spawn_local(redirector.serve(TcpAcceptor::new(listener)?));
        }
        Ok(service)
    }
}

fn listen(global: &Global, port: Port) -> anyhow::Result<(TcpListener, u16)> {
    let number = global.port_of(port)?;
    let listener = daemon::listen_tcp(global.listen, number).with_context(|| {
        let parameter = port.parameter();
        let at = global.listen.map(|address| format!(" of {address}"));
        format!(
            "cannot listen on TCP port {number}{} for {port}; if it is taken, set {parameter} in [GLOBAL]",
            at.unwrap_or_default()
        )
    })?;
    Ok((listener, number))
}

/// Answers calls, without end.
async fn answer(acceptor: TcpAcceptor, service: Rc<Service>) {
    let crowd = Crowd::new(MAX_ASKING.0, MAX_ASKING.1);
    loop {
        let (stream, from) = acceptor.next().await;
        let service = Rc::clone(&service);
        crowd.admit(from.ip(), |place| converse(stream, from, service, place));
    }
}

async fn converse(stream: TcpStream, from: SocketAddr, service: Rc<Service>, _place: Place) {
    let mut limits = UMLDIR_V1_LIMITS;
    limits.idle = Some(ASKING_IDLE);
    // An error of a client is not logged: the client got an answer, or is gone.
    let _ = serve_umldir_v1(stream, service, Session::remote(from), limits).await;
}
