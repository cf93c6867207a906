//! The TCP ports of the daemon, on which anybody may call (umldir).

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use config::{Global, Service as Port};
use daemon::{Crowd, Place, TcpAcceptor};
use rpc_xdr::umldir::{UMLDIR_V1_LIMITS, serve_umldir_v1};
use tokio::net::TcpStream;

use crate::service::{Service, Session};

/// Connections at once that ask questions, in all and from one source.
const MAX_ASKING: (usize, usize) = (512, 64);

/// How long such a connection may make no call. Who asks has a question ready.
const ASKING_IDLE: Duration = Duration::from_secs(10);

/// The ports that the configuration wants open.
#[derive(Debug)]
pub struct Ports {
    directory: Option<TcpListener>,
}

impl Ports {
    /// Listens on them.
    ///
    /// # Errors
    /// If a port is not known, or cannot be had; says what to change.
    pub fn listen(global: &Global) -> anyhow::Result<Ports> {
        let directory = global.tcp || global.tcp_redir;
        let directory = directory
            .then(|| listen(global, Port::Umldir))
            .transpose()?;
        Ok(Ports { directory })
    }

    /// How many descriptors their connections may take.
    pub fn max_descriptors(&self) -> u64 {
        match self.directory {
            Some(_) => MAX_ASKING.0 as u64 + 1,
            None => 0,
        }
    }

    /// Begins to accept. Called within the runtime.
    ///
    /// # Errors
    /// If the runtime has no room for a socket.
    pub fn open(self, service: &Rc<Service>) -> anyhow::Result<()> {
        if let Some(listener) = self.directory {
            let acceptor = TcpAcceptor::new(listener)?;
            tokio::task::spawn_local(answer(acceptor, Rc::clone(service)));
        }
        Ok(())
    }
}

fn listen(global: &Global, port: Port) -> anyhow::Result<TcpListener> {
    let number = global.port_of(port)?;
    daemon::listen_tcp(global.listen, number).with_context(|| {
        let parameter = port.parameter();
        let at = global.listen.map(|address| format!(" of {address}"));
        format!(
            "cannot listen on TCP port {number}{} for {port}; if it is taken, set {parameter} in [GLOBAL]",
            at.unwrap_or_default()
        )
    })
}

/// Answers questions, for ever.
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
    // What a client does wrong is its own business: it was told, or is gone.
    let _ = serve_umldir_v1(stream, service, Session::remote(from), limits).await;
}
