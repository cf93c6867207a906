//! Who is addressed, and the connection to its monitor.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cli::{Exit, Failure};
use config::{Config, Overview, VmName};
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::{CtlCode, CtlError, UmlmonctrlV1Client};

/// The monitor's client over its Unix Domain socket.
pub(crate) type Client = UmlmonctrlV1Client<UnixStream>;

/// A VM, and the connection to its monitor as soon as there is one.
pub struct Session {
    vm: VmName,
    socket: PathBuf,
    /// Whether the configuration names the VM; None if the configuration could not be read.
    configured: Option<bool>,
    config: PathBuf,
    client: Option<Client>,
}

impl Session {
    /// Finds the socket of `VM`, `VM@localhost`. `config` is the file of `-config`; without it, a configuration that
    /// is missing or not readable means that the built-in directories are used, as users need no access to it.
    pub fn find(target: &str, config: Option<&Path>) -> Result<Session, Failure> {
        let (vm, host) = target.split_once('@').unwrap_or((target, "localhost"));
        if host != "localhost" {
            return Err(Failure::new(
                Exit::Failed,
                format_args!(
                    "{target}: other hosts cannot be reached in this version; run umlwatch there"
                ),
            ));
        }
        let vm: VmName = vm.parse().map_err(Failure::usage)?;
        let path = config.unwrap_or(Path::new(Config::DEFAULT_PATH));
        let read = read_config(path, config.is_some())?;
        let built_in = Overview::parse("", path).map_err(|e| Failure::new(Exit::Failed, e));
        let configured = read.as_ref().map(|config| config.has(&vm));
        let config = read.map_or(built_in, Ok)?;
        Ok(Session {
            socket: config.global.ctrl(&vm),
            vm,
            configured,
            config: path.to_owned(),
            client: None,
        })
    }

    /// The VM.
    pub fn vm(&self) -> &VmName {
        &self.vm
    }

    /// The client, connected if it is not yet.
    pub(crate) fn client(&mut self) -> Result<&mut Client, Failure> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.connect()?,
        };
        Ok(self.client.insert(client))
    }

    /// A client of its own, for a session that reads and writes at the same time.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|e| self.unreachable(&e))?;
        Ok(Client::new(stream))
    }

    /// Forgets the connection, so that the next command makes a new one.
    pub(crate) fn disconnect(&mut self) {
        self.client = None;
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let (vm, socket) = (&self.vm, self.socket.display());
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused
                if self.configured == Some(false) =>
            {
                let config = self.config.display();
                Failure::new(
                    Exit::Failed,
                    format_args!("there is no such VM in {config}"),
                )
            }
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::new(
                Exit::NotRunning,
                format_args!("no monitor is running for it; 'umladmin start {vm}' starts one"),
            ),
            ErrorKind::PermissionDenied => Failure::new(
                Exit::NotAuthorised,
                format_args!("you may not command it: {socket}: permission denied"),
            ),
            _ => Failure::new(
                Exit::Failed,
                format_args!("cannot connect to {socket}: {error}"),
            ),
        }
    }
}

fn read_config(path: &Path, asked_for: bool) -> Result<Option<Overview>, Failure> {
    match File::open(path) {
        Err(e)
            if !asked_for
                && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
        {
            Ok(None)
        }
        _ => Overview::load(path)
            .map(Some)
            .map_err(|e| Failure::new(Exit::Failed, e)),
    }
}

/// The monitor's refusal as ours.
pub(crate) fn refused(error: CtlError) -> Failure {
    let exit = match error.code {
        CtlCode::NotRunning => Exit::NotRunning,
        CtlCode::NotAuthorised => Exit::NotAuthorised,
        CtlCode::Timeout => Exit::Timeout,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.text)
}

/// A conversation that broke down. A monitor that has ended takes its connections along.
pub(crate) fn broken(error: ClientError) -> Failure {
    match error {
        ClientError::Lost(error) => {
            Failure::new(Exit::NotRunning, error).about("the monitor has gone")
        }
        error => Failure::new(Exit::Failed, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_need_no_configuration() {
        let missing = Path::new("/nonexistent/umlmon");
        assert!(read_config(missing, false).unwrap().is_none());
        assert_eq!(read_config(missing, true).unwrap_err().exit, Exit::Failed);
        let built_in = Overview::parse("", missing).unwrap();
        let socket = built_in.global.ctrl(&"vm1".parse().unwrap());
        assert_eq!(socket, Path::new("/var/lib/umlmon/vm1/ctrl"));
    }
}
