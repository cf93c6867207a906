//! The monitor of a VM on this host: its socket, and why it cannot be reached. Runs in the clients.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use cli::{Exit, Failure};
use config::VmName;
use rpc_xdr::client::connect;
use rpc_xdr::umlmonctrl::AuthNonce;

use crate::stream::{Connection, Monitor, Stream};

/// What is known of a VM on this host.
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) socket: PathBuf,
    /// Whether the configuration names the VM; None if the configuration could not be read.
    pub(crate) configured: Option<bool>,
    pub(crate) config: PathBuf,
}

impl Near {
    /// Connects, within the limit. After that, a call may take as long as it likes.
    pub(crate) fn connect(&self, vm: &VmName, limit: Duration) -> Result<Connection, Failure> {
        let stream = connect(&self.socket, limit).map_err(|e| self.unreachable(vm, &e))?;
        stream.set_write_timeout(None)?;
        Ok(Connection {
            monitor: Monitor::new(Stream::Unix(stream)),
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
