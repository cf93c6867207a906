//! The monitor of a VM on this host: its socket, and why it cannot be reached. Runs in the clients.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use cli::{Exit, Failure};
use rpc_xdr::client::connect;

use crate::stream::{Connection, Monitor, Stream};

/// Where the monitor of a VM on this host listens.
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) socket: PathBuf,
    /// The failure if no process listens there.
    pub(crate) absent: Failure,
}

impl Near {
    /// Connects, within the limit. After that, calls have no time limit.
    pub(crate) fn connect(&self, limit: Duration) -> Result<Connection, Failure> {
        let stream = connect(&self.socket, limit).map_err(|error| self.unreachable(&error))?;
        stream.set_write_timeout(None)?;
        Ok(Connection {
            monitor: Monitor::new(Stream::Unix(stream)),
            proved: None,
        })
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => self.absent.clone(),
            ErrorKind::PermissionDenied => Failure::new(
                Exit::NotAuthorised,
                format_args!("no permission to connect to its monitor at {socket}"),
            ),
            _ => Failure::new(
                Exit::Failed,
                format_args!("cannot connect to {socket}: {error}"),
            ),
        }
    }
}
