//! The way to the monitors of this host for a program that has clients of its own: through umldir, which is told where
//! those clients are, and then with a password like any remote client. Runs in umlweb.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use cli::{Exit, Failure};
use config::VmName;
use rpc_xdr::auth::Key;
use rpc_xdr::client::{Authenticated, ClientError, LoginError, StrongLogin, log_in, start_tls};
use rpc_xdr::umldir::{DirCode, RedirSource, RedirectForArgs, UmlredirV1Client};
use rpc_xdr::umlmonctrl::CtlCode;

use crate::stream::{Monitor, Stream};
use crate::target::Host;
use crate::tls::Tls;

/// The name that is bound into the proof of the password. A monitor takes it for its own host, as tunnels end there.
const HERE: &str = "127.0.0.1";

/// The redirector of this host.
#[derive(Debug, Clone)]
pub struct Passage {
    socket: PathBuf,
    host: Host,
}

/// A connection to a monitor that accepts calls.
#[derive(Debug)]
pub struct Passed {
    /// The procedures of the monitor.
    pub monitor: Monitor,
    /// The password was the master password.
    pub master: bool,
}

impl Passage {
    /// Through the socket `redir` of umldir.
    ///
    /// # Errors
    /// Never, as the name of this host is valid.
    pub fn new(socket: PathBuf) -> Result<Passage, Failure> {
        let host = Host::parse(HERE)?;
        let host = host.ok_or_else(|| Failure::new(Exit::Failed, "this host has no address"))?;
        Ok(Passage { socket, host })
    }

    /// Connects with the monitor of a VM for a client at this address, and proves the password. Each read and write may
    /// take as long as `limit`; later ones forever.
    ///
    /// # Errors
    /// [`Exit::NotAuthorised`] if the password is wrong, [`Exit::Timeout`] if there were too many wrong ones from that
    /// address, [`Exit::NotRunning`] if no monitor of the VM can be reached.
    pub fn connect(
        &self,
        vm: &VmName,
        key: &Key,
        from: SocketAddr,
        limit: Duration,
    ) -> Result<Passed, Failure> {
        // The kernel has one kind of descriptor for all streams; the kinds of the library differ in what else they can
        // be asked for.
        let mut stream = TcpStream::from(self.redirected(vm, from, limit)?);
        let no_monitor = |error: &ClientError| {
            Failure::new(
                Exit::NotRunning,
                format_args!("the monitor of {vm} does not answer: {error}"),
            )
        };
        let tls = Tls::within(&self.host);
        let (stream, binding) = match start_tls(&mut stream).map_err(|e| no_monitor(&e))? {
            false => (Stream::Tcp(stream), Vec::new()),
            true => {
                let secured = tls.start(stream)?;
                (Stream::Tls(Box::new(secured.stream)), secured.binding)
            }
        };
        let login = StrongLogin {
            vm: vm.as_str(),
            host: HERE,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            key,
            binding: &binding,
        };
        let admitted = log_in(stream, &login).map_err(|error| match error {
            LoginError::Refused(error) | LoginError::Disproved(error) => {
                let exit = match error.code {
                    CtlCode::NotAuthorised => Exit::NotAuthorised,
                    CtlCode::Busy => Exit::Timeout,
                    _ => Exit::Failed,
                };
                Failure::new(exit, error.text)
            }
            LoginError::Call(error) => no_monitor(&error),
            error => Failure::new(Exit::Failed, error),
        })?;
        let Authenticated {
            stream,
            seal,
            master,
            ..
        } = admitted;
        stream.set_patience(None)?;
        let mut monitor = Monitor::new(stream);
        if let Some(seal) = seal {
            monitor.rpc.seal(seal);
        }
        Ok(Passed { monitor, master })
    }

    /// A connection to the monitor, on which nothing is proved.
    fn redirected(
        &self,
        vm: &VmName,
        from: SocketAddr,
        limit: Duration,
    ) -> Result<OwnedFd, Failure> {
        let no_service = |why: &dyn std::fmt::Display| {
            let socket = self.socket.display();
            Failure::new(
                Exit::Failed,
                format_args!(
                    "no directory service answers at {socket}: {why}; umldir must run with tcp_redir = true, and know \
                     the user web_user"
                ),
            )
        };
        let stream = rpc_xdr::client::connect(&self.socket, limit).map_err(|e| no_service(&e))?;
        stream.set_write_timeout(Some(limit))?;
        let address = match from.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let args = RedirectForArgs {
            vm: vm.to_string(),
            source: RedirSource {
                address: address.octets(),
                port: from.port().into(),
            },
        };
        let mut client = UmlredirV1Client::new(stream);
        let answer = client.redirect_for(&args).map_err(|e| no_service(&e))?;
        answer.into_result().map_err(|error| match error.code {
            DirCode::NotFound => Failure::new(
                Exit::NotRunning,
                format_args!("no monitor of {vm} can be reached"),
            ),
            _ => Failure::new(Exit::Failed, error.text),
        })?;
        let stream = client.rpc.into_stream().map_err(|e| no_service(&e))?;
        Ok(stream.into())
    }
}
