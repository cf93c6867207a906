//! Tells the directory service that this monitor runs (umlmon, the monitor process).
//!
//! The registration lasts as long as its connection, so neither side can be wrong about the other for long. Without the
//! service the monitor works as usual: this task never fails, it tries again.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::VmName;
use rpc_xdr::client::{self, ClientError};
use rpc_xdr::umldir::{UmldirV1Client, VmRegisterArgs};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// The first interval between attempts while the service is not there: it may be just restarting. An attempt is one
/// system call. (The kernel could report when the socket is back, but the monitors of a large host would use up root's
/// inotify instances.)
const SOON: Duration = Duration::from_millis(250);
/// The longest interval. In between, the interval is an eighth of the time for which the service has been missing.
const LATER: Duration = Duration::from_secs(5);
/// How long the service may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Why a VM is not registered.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// There is no connection, usually because the service does not run, or not yet.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The connection broke before the answer.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The service refused.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// There is no socket, or no process listens at it.
    fn says_it_does_not_run(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Error::Connect(error) if matches!(error.kind(), NotFound | ConnectionRefused))
    }
}

/// Keeps the VM, with its TCP port, registered with the service that listens in `directory`. Never returns. Dropping
/// this withdraws the registration.
pub async fn announce(vm: VmName, directory: PathBuf, port: Option<u16>) {
    let mut since = Instant::now();
    let mut last_problem = String::new();
    loop {
        match register(&vm, &directory, port).await {
            Ok(client) => {
                tracing::info!("registered with the directory service");
                let why = ended(&client).await;
                tracing::info!("no longer registered with the directory service: {why}");
                since = Instant::now();
                last_problem.clear();
            }
            // The service is not always needed, so it is no fault if it does not run.
            Err(error) if error.says_it_does_not_run() => {}
            Err(error) => {
                let problem = error.to_string();
                if problem != last_problem {
                    tracing::warn!("not registered with the directory service: {problem}");
                }
                last_problem = problem;
            }
        }
        tokio::time::sleep((since.elapsed() / 8).clamp(SOON, LATER)).await;
    }
}

/// Registers the VM; it stays so until the client is dropped or the service ends.
async fn register(
    vm: &VmName,
    directory: &Path,
    port: Option<u16>,
) -> Result<UmldirV1Client<Stream>, Error> {
    let stream = client::connect(&directory.join("ctrl"), Duration::ZERO)?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    // A new stream counts as not writable until the event loop has looked at it, and the call below does not wait.
    stream.writable().await?;
    let mut client = UmldirV1Client::new(Stream(stream));
    let ticket = client.send_vm_register(&VmRegisterArgs {
        vm: vm.to_string(),
        port: port.unwrap_or(0).into(),
    })?;
    let deadline = Instant::now() + ANSWER;
    loop {
        if let Some(reply) = client.rpc.next_reply()? {
            let answer = ticket.result(&reply)?.into_result();
            return match answer {
                Ok(()) => Ok(client),
                Err(refusal) => Err(Error::Refused(refusal.text)),
            };
        }
        let readable = client.rpc.stream().0.readable();
        tokio::time::timeout_at(deadline, readable)
            .await
            .map_err(|_| ClientError::TimedOut)??;
        match client.rpc.fill() {
            // The stream was not readable, although it was reported as readable.
            Ok(()) | Err(ClientError::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the service ends the connection, or sends something that was not requested; says which.
async fn ended(client: &UmldirV1Client<Stream>) -> String {
    let stream = &client.rpc.stream().0;
    loop {
        if let Err(error) = stream.readable().await {
            return error.to_string();
        }
        match stream.try_read(&mut [0]) {
            Ok(0) => return "it has ended".to_owned(),
            Ok(_) => return "it sent something that was not asked for".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// A stream for the client, which reads what is there and does not wait.
struct Stream(UnixStream);

impl client::Stream for Stream {}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Stream {
    // The only call that is ever written fits into the socket's buffer.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    async fn refused(directory: &Path) -> Error {
        match register(&"vm1".parse().unwrap(), directory, None).await {
            Ok(_) => panic!("nobody is there"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn only_a_service_that_does_not_run_is_no_problem() {
        let directory = tempfile::tempdir().unwrap();
        assert!(refused(directory.path()).await.says_it_does_not_run());
        let socket = directory.path().join("ctrl");
        drop(UnixListener::bind(&socket).unwrap());
        assert!(refused(directory.path()).await.says_it_does_not_run());
        std::fs::remove_file(&socket).unwrap();
        std::os::unix::fs::symlink("ctrl", &socket).unwrap();
        let error = refused(directory.path()).await;
        assert!(!error.says_it_does_not_run(), "{error}");
        assert!(error.to_string().starts_with("cannot connect: "), "{error}");
    }
}
