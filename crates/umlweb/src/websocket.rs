//! A WebSocket of a page of ours, without waiting: one thread serves it and a monitor (umlweb).

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::http::Request;
use crate::stream::Stream;

/// The protocol that pages of ours speak; the browser sends it together with the token.
const PROTOCOL: &str = "umlweb";
/// Bytes of one message of a page.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes that wait for the browser: a screen, and more than may be unacknowledged.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// A browser that is silent for so long is asked whether it is there, and is gone if it does not answer.
const QUESTION: Duration = Duration::from_secs(30);
const GONE: Duration = Duration::from_secs(90);

/// How a page of ours understands that the session has ended.
pub(crate) const NO_SESSION: u16 = 4401;

/// The connection of a page.
pub(crate) struct Socket {
    socket: WebSocket<Stream>,
    /// The connection takes no more at the moment.
    blocked: bool,
    heard: Instant,
    asked: bool,
}

/// The token that came with a request for a WebSocket; None if it is none that a page of ours makes.
pub fn token(request: &Request) -> Option<&str> {
    let version = request.header("sec-websocket-version") == Some("13");
    let upgrade = request.says("upgrade", "websocket") && request.says("connection", "upgrade");
    let (protocol, token) = request.header("sec-websocket-protocol")?.split_once(',')?;
    (request.method == "GET" && version && upgrade && protocol.trim() == PROTOCOL)
        .then_some(token.trim())
}

/// Speaks WebSocket over a stream on which that has been agreed, within the bounds of a page of ours.
pub fn over<S: Read + Write>(stream: S) -> WebSocket<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WAITING)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocket::from_raw_socket(stream, Role::Server, Some(config))
}

impl Socket {
    /// Answers the request, and speaks WebSocket from then on.
    ///
    /// # Errors
    /// If the connection breaks, or the request is not complete.
    pub fn accept(mut stream: Stream, request: &Request) -> io::Result<Socket> {
        let key = request.header("sec-websocket-key");
        let key = key.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes())?;
        stream.flush()?;
        stream.tcp().set_nodelay(true)?;
        stream.tcp().set_nonblocking(true)?;
        Ok(Socket {
            socket: over(stream),
            blocked: false,
            heard: Instant::now(),
            asked: false,
        })
    }

    /// The next message that has arrived; None if there is none yet.
    ///
    /// # Errors
    /// At the end of the connection, or if what came is not valid.
    pub fn next(&mut self) -> Result<Option<Message>, Error> {
        let message = match self.socket.read() {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            other => other?,
        };
        self.heard = Instant::now();
        self.asked = false;
        Ok(Some(message))
    }

    /// Sends a value.
    ///
    /// # Errors
    /// If the connection is lost, or takes nothing for too long.
    pub fn say(&mut self, value: &Value) -> Result<(), Error> {
        self.send(Message::text(value.to_string()))
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// As [`Socket::say`].
    pub fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.send(Message::binary(bytes))
    }

    fn send(&mut self, message: Message) -> Result<(), Error> {
        match self.socket.write(message) {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            other => other?,
        }
        self.flush()
    }

    /// Sends what waits, as far as it is taken.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.blocked = match self.socket.flush() {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => true,
            other => other.map(|()| false)?,
        };
        Ok(())
    }

    /// Whether the connection takes no more at the moment.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Asks a silent browser whether it is there. Not while it has data to take, which may just take long: `busy`.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn keep_alive(&mut self, busy: bool) -> Result<(), Error> {
        let silent = self.heard.elapsed();
        if busy || silent < QUESTION {
            return Ok(());
        }
        if silent > GONE && self.asked {
            return Err(Error::ConnectionClosed);
        }
        if !self.asked {
            self.asked = true;
            // From the question on, it has the whole time.
            self.heard = Instant::now().checked_sub(QUESTION).unwrap_or(self.heard);
            return self.send(Message::Ping(Vec::new().into()));
        }
        Ok(())
    }

    /// Ends the connection, and says why.
    pub fn close(&mut self, code: u16, why: &'static str) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: why.into(),
        };
        // The browser may be gone already.
        let _ = self.socket.close(Some(frame));
        let _ = self.socket.flush();
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.get_mut().finish();
    }
}
