//! The answers of the directory service of another host, and its redirector. Neither has to be trusted: in the end, the
//! monitor must prove that it knows the password. Runs in the clients.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use cli::{Exit, Failure};
use config::VmName;
use rpc_xdr::client::{ClientError, Rejection};
use rpc_xdr::umldir::{DirCode, DirError, UmldirV1Client, UmlredirV1Client};

use crate::dial::{addresses, dial};
use crate::target::Host;

/// The ways to the monitor of a VM that its host offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Where the monitor itself listens.
    pub direct: Option<SocketAddr>,
    /// Where the redirector listens.
    pub redirector: Option<SocketAddr>,
}

/// The directory service of another host.
#[derive(Debug)]
pub struct Directory<'a> {
    host: &'a Host,
    /// The address that answered; it is also used for the other ports of the host.
    address: SocketAddr,
    client: UmldirV1Client<TcpStream>,
}

impl<'a> Directory<'a> {
    /// Connects with the directory service that listens on this port. All queries must be answered by this time.
    ///
    /// # Errors
    /// If the host is not known or does not answer, or no directory service runs there.
    pub fn connect(host: &'a Host, port: u16, until: Instant) -> Result<Self, Failure> {
        let stream = dial(&addresses(host, port)?, until).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Failure::new(
                Exit::Failed,
                format_args!(
                    "no directory service answers at {host}, port {port}: umldir is not running there, or neither tcp nor tcp_redir is set in [GLOBAL] of its configuration"
                ),
            ),
            _ => unreachable(host, port, &error),
        })?;
        let address = stream.peer_addr()?;
        let client = UmldirV1Client::new(stream);
        Ok(Directory {
            host,
            address,
            client,
        })
    }

    /// The ways to the monitor of a VM.
    ///
    /// # Errors
    /// If no running monitor of it is registered there.
    pub fn offer(&mut self, vm: &VmName) -> Result<Offer, Failure> {
        let port = self.client.get_port(vm.as_str());
        let direct = match self.answer(port)?.into_result() {
            Ok(told) => self.port(told.port)?,
            Err(error) if error.code == DirCode::NoTcp => None,
            Err(error) => return Err(refused(self.host, vm, error)),
        };
        Ok(Offer {
            direct,
            redirector: self.redirector()?,
        })
    }

    /// Where the redirector of the host listens, if it has one.
    ///
    /// # Errors
    /// If the directory service does not answer as it should.
    fn redirector(&mut self) -> Result<Option<SocketAddr>, Failure> {
        let told = self.client.host_info();
        match self.answer(told)?.into_result() {
            Ok(told) => self.port(told.redirector),
            Err(error) => Err(odd(self.host, &error.text)),
        }
    }

    fn answer<T>(&self, answer: Result<T, ClientError>) -> Result<T, Failure> {
        answer
            .map_err(|error| no_answer(self.host, self.address.port(), "directory service", &error))
    }

    /// A port of the host; 0 is none.
    fn port(&self, port: u32) -> Result<Option<SocketAddr>, Failure> {
        let port =
            u16::try_from(port).map_err(|_| odd(self.host, &format_args!("the port {port}")))?;
        let mut address = self.address;
        address.set_port(port);
        Ok((port != 0).then_some(address))
    }
}

/// Turns a connection to the redirector into one to the monitor of a VM.
///
/// # Errors
/// If what answers is no redirector, or knows no monitor of the VM.
pub fn redirect(stream: TcpStream, host: &Host, vm: &VmName) -> Result<TcpStream, Failure> {
    let port = stream.peer_addr()?.port();
    let mut client = UmlredirV1Client::new(stream);
    let broken = |error| no_answer(host, port, "redirector", &error);
    let answer = client.redirect(vm.as_str()).map_err(broken)?;
    answer
        .into_result()
        .map_err(|error| refused(host, vm, error))?;
    client.rpc.into_stream().map_err(broken)
}

/// The failure of connecting with a host that does not answer.
pub fn unreachable(host: &Host, port: u16, error: &io::Error) -> Failure {
    let why: &dyn Display = match error.kind() {
        // While connecting, this error says nothing more.
        ErrorKind::TimedOut | ErrorKind::WouldBlock => &"no answer in time",
        _ => error,
    };
    Failure::new(
        Exit::Failed,
        format_args!(
            "{host} does not answer at port {port}: {why}. Is the host up? Does a firewall block this port?"
        ),
    )
}

fn no_answer(host: &Host, port: u16, what: &str, error: &ClientError) -> Failure {
    let text = match error {
        ClientError::Rejected(
            Rejection::ProgramUnavailable
            | Rejection::ProgramMismatch { .. }
            | Rejection::ProcedureUnavailable
            | Rejection::RpcMismatch { .. },
        )
        | ClientError::BadReply(_) => {
            format!("the server at {host}, port {port}, is not a compatible {what}: {error}")
        }
        error => format!("the {what} of {host}, port {port}, does not answer: {error}"),
    };
    Failure::new(Exit::Failed, text)
}

/// The answer for a VM that cannot be reached. The service does not reveal which of the reasons it is.
fn refused(host: &Host, vm: &VmName, error: DirError) -> Failure {
    match error.code {
        DirCode::NotFound => Failure::new(
            Exit::NotRunning,
            format_args!(
                "no monitor of {vm} is registered at {host}: there is no such VM, or its monitor is not running"
            ),
        ),
        _ => odd(host, &error.text),
    }
}

fn odd(host: &Host, what: &dyn Display) -> Failure {
    Failure::new(
        Exit::Failed,
        format_args!("the directory service of {host} says: {what}"),
    )
}
