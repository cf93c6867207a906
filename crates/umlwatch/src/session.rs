//! Who is addressed, and the connection to its monitor (umlwatch).

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cli::{Exit, Failure};
use config::{Config, Overview, VmName};
use remote::Target;
use rpc_xdr::auth::Key;
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::{AuthNonce, CtlCode, CtlError, UmlmonctrlV1Client};

use crate::far::{Far, Link};
use crate::options::Options;
use crate::stream::Stream;

/// The monitor's client.
pub(crate) type Client = UmlmonctrlV1Client<Stream>;

/// A VM, and the connection to its monitor as soon as there is one.
pub struct Session {
    vm: VmName,
    place: Place,
    link: Option<Link>,
}

/// Where a VM is.
enum Place {
    Here(Here),
    There(Box<Far>),
}

/// What is known of a VM on this host.
struct Here {
    socket: PathBuf,
    /// Whether the configuration names the VM; None if the configuration could not be read.
    configured: Option<bool>,
    config: PathBuf,
}

impl Session {
    /// Finds `VM`, `VM@localhost` or `VM@HOST`. `config` is the file of `-config`; without it, a configuration that is missing
    /// or not readable means that the built-in directories are used, as users need no access to it. The options count
    /// for other hosts only.
    pub fn find(target: &str, config: Option<&Path>, options: Options) -> Result<Session, Failure> {
        let Target { vm, host } = target.parse()?;
        let path = config.unwrap_or(Path::new(Config::DEFAULT_PATH));
        let read = read_config(path, config.is_some())?;
        let built_in = Overview::parse("", path).map_err(|e| Failure::new(Exit::Failed, e));
        let configured = read.as_ref().map(|config| config.has(&vm));
        let global = read.map_or(built_in, Ok)?.global;
        let place = match host {
            Some(host) => Place::There(Box::new(Far::new(&vm, host, &global, options)?)),
            None => Place::Here(Here {
                socket: global.ctrl(&vm),
                configured,
                config: path.to_owned(),
            }),
        };
        Ok(Session {
            vm,
            place,
            link: None,
        })
    }

    /// The VM.
    pub fn vm(&self) -> &VmName {
        &self.vm
    }

    /// The VM as it is called in questions, with its host if that is another one.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::Here(_) => self.vm.to_string(),
            Place::There(far) => far.name(),
        }
    }

    /// Connects with another host at once, so that a password is asked for before anything else. A monitor on this host
    /// may come later.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        match self.place {
            Place::Here(_) => Ok(()),
            Place::There(_) => self.link().map(|_| ()),
        }
    }

    /// The client, connected if it is not yet.
    pub(crate) fn client(&mut self) -> Result<&mut Client, Failure> {
        Ok(&mut self.link()?.client)
    }

    /// The conversation, begun if it is not yet.
    pub(crate) fn link(&mut self) -> Result<&mut Link, Failure> {
        let link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?,
        };
        Ok(self.link.insert(link))
    }

    /// A conversation of its own, for a session that reads and writes at the same time.
    pub(crate) fn connect(&self) -> Result<Link, Failure> {
        match &self.place {
            Place::Here(here) => here.connect(&self.vm),
            Place::There(far) => far.connect(remote::LIMIT),
        }
    }

    /// As [`Session::connect`], where nobody wants to be asked, nor to wait for long. No call may take longer either.
    pub(crate) fn connect_quietly(&self, limit: Duration) -> Option<Client> {
        let link = match &self.place {
            Place::Here(here) => here.connect(&self.vm).ok()?,
            Place::There(far) => far.connect_quietly(limit)?,
        };
        link.client.rpc.stream().set_patience(Some(limit)).ok()?;
        Some(link.client)
    }

    /// Forgets the connection, so that the next command makes a new one.
    pub(crate) fn disconnect(&mut self) {
        self.link = None;
    }

    /// The password has been changed to this one.
    pub(crate) fn change_key(&self, key: Key) {
        if let Place::There(far) = &self.place {
            far.change_key(key);
        }
    }
}

impl Here {
    fn connect(&self, vm: &VmName) -> Result<Link, Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|e| self.unreachable(vm, &e))?;
        Ok(Link {
            client: Client::new(Stream::Unix(stream)),
            server_nonce: AuthNonce::default(),
        })
    }

    fn unreachable(&self, vm: &VmName, error: &io::Error) -> Failure {
        let socket = self.socket.display();
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
        ClientError::Lost(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionAborted
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::NetworkDown
            ) =>
        {
            Failure::new(Exit::Failed, error).about("the connection was lost")
        }
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
