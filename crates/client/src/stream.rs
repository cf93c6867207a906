//! The connection to a monitor, of any kind. Runs in the clients.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rpc_xdr::client;
use rpc_xdr::pake::Proved;
use rpc_xdr::umlmonctrl::UmlmonctrlV1Client;
use rustix::io::Errno;
use rustls::{ClientConnection, IoState};

/// The procedures of a monitor, at the other end of a stream.
pub type Monitor = UmlmonctrlV1Client<Stream>;

/// A connection to the monitor of a VM that accepts calls.
#[derive(Debug)]
pub struct Connection {
    /// The procedures of the monitor.
    pub monitor: Monitor,
    /// What is left of the login; None for a monitor on this host.
    pub proved: Option<Proved>,
}

/// A stream to a monitor.
#[derive(Debug)]
pub enum Stream {
    /// To one on this host.
    Unix(UnixStream),
    /// To one on another host, in the clear.
    Tcp(TcpStream),
    /// To one on another host, in TLS.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// How long a read may take; None is forever. A write has no time limit.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_patience(&self, limit: Option<Duration>) -> io::Result<()> {
        let tcp = match self {
            Stream::Unix(unix) => return unix.set_read_timeout(limit),
            Stream::Tcp(tcp) => tcp,
            Stream::Tls(tls) => &tls.tcp,
        };
        tcp.set_write_timeout(None)?;
        tcp.set_read_timeout(limit)
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(unix) => unix.read(buf),
            Stream::Tcp(tcp) => tcp.read(buf).map_err(gone),
            Stream::Tls(tls) => tls.read(buf).map_err(gone),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(unix) => unix.write(buf),
            Stream::Tcp(tcp) => tcp.write(buf).map_err(gone),
            Stream::Tls(tls) => tls.write(buf).map_err(gone),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(unix) => unix.flush(),
            Stream::Tcp(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush().map_err(gone),
        }
    }
}

impl client::Stream for Stream {
    fn buffered(&self) -> bool {
        match self {
            Stream::Tls(tls) => tls.buffered,
            Stream::Unix(_) | Stream::Tcp(_) => false,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(unix) => unix.as_fd(),
            Stream::Tcp(tcp) => tcp.as_fd(),
            Stream::Tls(tls) => tls.tcp.as_fd(),
        }
    }
}

/// A peer that does not answer at all, as detected by keepalive and the kernel, is not merely a slow one.
fn gone(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::TIMEDOUT) => io::Error::new(
            ErrorKind::ConnectionAborted,
            "the other host does not answer any more",
        ),
        _ => error,
    }
}

/// TLS on a TCP connection.
#[derive(Debug)]
pub struct TlsStream {
    tls: ClientConnection,
    tcp: TcpStream,
    /// Whether a read would give bytes that have been decrypted already.
    buffered: bool,
}

impl TlsStream {
    /// The TLS handshake.
    ///
    /// # Errors
    /// The error of the connection or of the check of the certificate; [`ErrorKind::InvalidData`] is one of TLS.
    pub(crate) fn new(mut tls: ClientConnection, mut tcp: TcpStream) -> io::Result<TlsStream> {
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(TlsStream {
            tls,
            tcp,
            buffered: false,
        })
    }

    /// The connection, to read what was negotiated.
    pub(crate) fn connection(&self) -> &ClientConnection {
        &self.tls
    }

    /// Decrypts what has been read.
    fn process(&mut self) -> io::Result<IoState> {
        let state = self.tls.process_new_packets();
        state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        // The monitor then sees an end, and not a broken connection. This is sent only if there is room: the client
        // does not wait for a monitor that reads nothing any more.
        self.tls.send_close_notify();
        let _ = self.tcp.set_nonblocking(true).and_then(|()| self.flush());
    }
}

impl Read for TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.buffered = false;
        while self.tls.wants_read() {
            let ended = self.tls.read_tls(&mut self.tcp)? == 0;
            self.process()?;
            if ended {
                break;
            }
            // An answer to the peer, such as to new keys.
            self.flush()?;
        }
        let read = self.tls.reader().read(buf)?;
        self.buffered = self.process()?.plaintext_bytes_to_read() > 0;
        Ok(read)
    }
}

impl Write for TlsStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.tls.writer().write(buf)?;
        self.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tcp)?;
        }
        self.tcp.flush()
    }
}
