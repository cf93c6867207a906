//! The connection to the monitor of a VM on another host: found through the directory service there, made directly or
//! through the redirector, and authenticated with the password. Runs in the clients.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use config::{Global, Service, VmName};
use rpc_xdr::auth::Key;
use rpc_xdr::client::{
    Authenticated, ClientError, Login, LoginError, StrongLogin, authenticate, log_in, start_tls,
};
use rpc_xdr::umlmonctrl::CtlCode;

use crate::call::tell;
use crate::dial::{addresses, dial};
use crate::directory::{Directory, Offer, redirect, unreachable};
use crate::options::{Options, Via};
use crate::password;
use crate::stream::{Connection, Monitor, Stream};
use crate::target::Host;
use crate::tls::{NewHost, Tls};

/// How long a monitor that could be reached through the redirector as well may take to accept a connection.
const DIRECT_LIMIT: Duration = Duration::from_secs(2);

/// How often a wrong password may be typed.
const TRIES: u32 = 3;

/// A VM on another host.
#[derive(Debug)]
pub(crate) struct Far {
    vm: VmName,
    host: Host,
    via: Via,
    /// The known ports, or why they are not known.
    umldir: config::Result<u16>,
    umlredir: config::Result<u16>,
    tls: Tls,
    password_file: Option<PathBuf>,
    /// Version 1 of the login is used.
    legacy: bool,
    /// The password, once it has been given: it is asked for once.
    key: RefCell<Option<Key>>,
}

/// A connection before the password is proved.
struct Unproved {
    stream: Stream,
    /// What has been connected to.
    address: IpAddr,
    binding: Vec<u8>,
    new: Option<NewHost>,
}

impl Far {
    /// Nothing is connected yet. `global` is the configuration of this host, which has the known ports.
    pub(crate) fn new(
        vm: &VmName,
        host: Host,
        global: &Global,
        options: Options,
    ) -> Result<Far, Failure> {
        let umldir = global.port_of(Service::Umldir);
        let umlredir = global.port_of(Service::Umlredir);
        // The known port that leads to the host.
        let known = match options.via {
            Via::Redirector => umlredir.as_ref().or(umldir.as_ref()),
            Via::Any | Via::Direct => umldir.as_ref(),
        };
        let tls = Tls::new(
            options.tls,
            options.ca.as_deref(),
            &host,
            *known.unwrap_or(&0),
        )?;
        Ok(Far {
            vm: vm.clone(),
            via: options.via,
            umldir,
            umlredir,
            tls,
            password_file: options.password_file,
            legacy: options.legacy,
            key: RefCell::default(),
            host,
        })
    }

    /// Connects, and asks for the password unless it is known. Each step may take as long as `limit`.
    pub(crate) fn connect(&self, limit: Duration) -> Result<Connection, Failure> {
        let mut tries = 0;
        loop {
            // Before the password is asked for, this tries whether there is a monitor. The connection is not kept
            // meanwhile, because the monitor closes one that waits.
            let line = self.open(Instant::now() + limit)?;
            let Some(key) = self.key.borrow().clone() else {
                drop(line);
                self.learn_key()?;
                continue;
            };
            match self.prove(line, &key) {
                Err(LoginError::Disproved(error)) if error.code == CtlCode::NotAuthorised => {
                    *self.key.borrow_mut() = None;
                    tries += 1;
                    if tries >= TRIES || self.password_file.is_some() {
                        return Err(Failure::new(Exit::NotAuthorised, error.text));
                    }
                    tell(&error.text);
                }
                proved => return proved.map_err(|error| self.not_let_in(error)),
            }
        }
    }

    /// Connects without questions to the user; all of it may take as long as `limit`.
    pub(crate) fn connect_unasked(&self, limit: Duration) -> Result<Connection, Failure> {
        let unknown = || Failure::new(Exit::NotAuthorised, "no password was given");
        let key = self.key.borrow().clone().ok_or_else(unknown)?;
        let line = self.open(Instant::now() + limit)?;
        self.prove(line, &key)
            .map_err(|error| self.not_let_in(error))
    }

    /// The password has been changed to this one.
    pub(crate) fn change_key(&self, key: Key) {
        *self.key.borrow_mut() = Some(key);
    }

    /// The name of the VM for questions to the user: `vm1@host`.
    pub(crate) fn name(&self) -> String {
        format!("{}@{}", self.vm, self.host)
    }

    fn learn_key(&self) -> Result<(), Failure> {
        let key = match &self.password_file {
            Some(file) => password::read(file)?,
            None => password::ask(&format!("Password for {}: ", self.name()))?
                .ok_or_else(|| Failure::new(Exit::NotAuthorised, "no password was given"))?,
        };
        *self.key.borrow_mut() = Some(key);
        Ok(())
    }

    /// Both sides prove that they know the password.
    fn prove(&self, line: Unproved, key: &Key) -> Result<Connection, LoginError> {
        let (vm, binding) = (self.vm.as_str(), line.binding.as_slice());
        let admitted = if self.legacy {
            let seal = true;
            let login = Login {
                vm,
                key,
                seal,
                binding,
            };
            authenticate(line.stream, &login)
        } else {
            let (host, address) = (self.host.as_str(), line.address);
            let login = StrongLogin {
                vm,
                host,
                address,
                key,
                binding,
            };
            log_in(line.stream, &login)
        };
        let Authenticated {
            stream,
            seal,
            proved,
            ..
        } = admitted?;
        // From here on, calls have no time limit.
        stream
            .set_patience(None)
            .map_err(|error| LoginError::Call(ClientError::Lost(error)))?;
        if let Some(new) = &line.new {
            // Only now it is certain that the certificate is the host's. If it cannot be remembered, the connection is
            // used nevertheless.
            if let Err(failure) = self.tls.remember(new) {
                tell(&failure.message);
            }
        }
        let mut monitor = Monitor::new(stream);
        if let Some(seal) = seal {
            monitor.rpc.seal(seal);
        }
        Ok(Connection {
            monitor,
            proved: Some(proved),
        })
    }

    /// A connection to the monitor on which nothing has been proved.
    fn open(&self, until: Instant) -> Result<Unproved, Failure> {
        let mut tcp = self.reach(until)?;
        let address = tcp.peer_addr()?.ip();
        let clear = |tcp| Unproved {
            stream: Stream::Tcp(tcp),
            address,
            binding: Vec::new(),
            new: None,
        };
        if !self.tls.is_wanted() {
            return Ok(clear(tcp));
        }
        if !start_tls(&mut tcp).map_err(|error| self.no_monitor(&error))? {
            return self.tls.missing().map(|()| clear(tcp));
        }
        let secured = self.tls.start(tcp)?;
        Ok(Unproved {
            stream: Stream::Tls(Box::new(secured.stream)),
            address,
            binding: secured.binding,
            new: secured.new,
        })
    }

    fn reach(&self, until: Instant) -> Result<TcpStream, Failure> {
        // The known port of the redirector is enough, and may be all that a tunnel leads to.
        if self.via == Via::Redirector
            && let Ok(port) = self.umlredir
        {
            return self.through_redirector(&addresses(&self.host, port)?, until);
        }
        let port = self.umldir.as_ref();
        let port = *port.map_err(|error| Failure::new(Exit::Failed, error))?;
        let mut directory = Directory::connect(&self.host, port, until)?;
        let mut offer = directory.offer(&self.vm)?;
        drop(directory);
        if self.host.is_loopback()
            && let (Some(redirector), Ok(port)) = (&mut offer.redirector, &self.umlredir)
        {
            // It may be the address of a tunnel.
            redirector.set_port(*port);
        }
        self.follow(offer, until)
    }

    fn follow(&self, offer: Offer, until: Instant) -> Result<TcpStream, Failure> {
        let refuse = |text: String| Err(Failure::new(Exit::Failed, text));
        let (vm, host) = (&self.vm, &self.host);
        match (self.via, offer.direct, offer.redirector) {
            (Via::Direct, None, _) => refuse(format!(
                "the monitor of {vm} does not listen on TCP (tcp is not true at {host}); omit -via, or use -via redirector"
            )),
            (Via::Redirector, _, None) => refuse(format!(
                "{host} has no redirector (tcp_redir is not true there); omit -via, or use -via direct"
            )),
            (Via::Any, None, None) => refuse(format!(
                "{host} does not allow remote access to {vm}: neither tcp nor tcp_redir is true there"
            )),
            (Via::Direct, Some(direct), _) | (Via::Any, Some(direct), None) => dial(
                &[direct],
                until,
            )
            .map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format_args!(
                        "the monitor of {vm} cannot be reached at its port {} of {host}: {error}",
                        direct.port()
                    ),
                )
            }),
            (Via::Any, Some(direct), Some(redirector)) => {
                let soon = until.min(Instant::now() + DIRECT_LIMIT);
                match dial(&[direct], soon) {
                    Ok(tcp) => Ok(tcp),
                    Err(_) => self.through_redirector(&[redirector], until),
                }
            }
            (Via::Any, None, Some(redirector)) | (Via::Redirector, _, Some(redirector)) => {
                self.through_redirector(&[redirector], until)
            }
        }
    }

    fn through_redirector(&self, at: &[SocketAddr], until: Instant) -> Result<TcpStream, Failure> {
        let (host, port) = (&self.host, at.first().map_or(0, SocketAddr::port));
        let tcp = dial(at, until).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Failure::new(
                Exit::Failed,
                format_args!(
                    "no redirector answers at {host}, port {port}: umldir is not running there, or tcp_redir is not set in [GLOBAL] of its configuration"
                ),
            ),
            _ => unreachable(host, port, &error),
        })?;
        redirect(tcp, host, &self.vm)
    }

    fn not_let_in(&self, error: LoginError) -> Failure {
        match error {
            LoginError::Refused(error) | LoginError::Disproved(error) => {
                let exit = match error.code {
                    CtlCode::NotAuthorised | CtlCode::Busy => Exit::NotAuthorised,
                    _ => Exit::Failed,
                };
                Failure::new(exit, error.text)
            }
            LoginError::Call(error) => self.no_monitor(&error),
            LoginError::Impostor => Failure::new(
                Exit::Failed,
                format_args!(
                    "the server that answers for {} does not know the password, so it is not the monitor; no command was sent to it",
                    self.name()
                ),
            ),
            error @ LoginError::Random(_) => Failure::new(Exit::Failed, error),
        }
    }

    /// The peer does not answer as a monitor does before authentication.
    fn no_monitor(&self, error: &ClientError) -> Failure {
        let name = self.name();
        let text = match error {
            ClientError::Rejected(_) | ClientError::BadReply(_) => {
                format!("the server that answers for {name} is not a compatible monitor: {error}")
            }
            ClientError::Lost(error) => format!(
                "the monitor of {name} has closed the connection: {error}; it may have ended, have too many connections, or be so old \
                 that it needs -legacy"
            ),
            error => format!("the monitor of {name} does not answer: {error}"),
        };
        Failure::new(Exit::Failed, text)
    }
}
