//! HTTP/1.1 as far as browsers need it here: a request is read whole, within bounds; an answer has a length (umlweb).
//!
//! No body comes in chunks, and no header is folded: browsers send neither to pages of ours. Whatever is odd ends the
//! connection, so nothing can be smuggled in.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::stream::Stream;

/// Bytes of the head of a request, and of its body, at most.
const MAX_HEAD: usize = 8 * 1024;
const MAX_BODY: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// How long a request may take to arrive, and a connection may be silent before the next one.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug, Default)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path of the address, from its `/` on.
    pub path: String,
    /// What follows the `?`.
    pub query: String,
    headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug)]
pub enum Bad {
    /// The connection has ended, or was silent for too long.
    Gone,
    /// It is no valid request, or too large: the status to answer with.
    Status(u16),
}

impl From<io::Error> for Bad {
    fn from(_: io::Error) -> Bad {
        Bad::Gone
    }
}

impl Request {
    /// One of these headers, for tests of what is made of them.
    #[cfg(test)]
    pub fn of(method: &str, headers: impl Iterator<Item = (String, String)>) -> Request {
        Request {
            method: method.to_owned(),
            headers: headers.collect(),
            ..Request::default()
        }
    }

    /// The value of a header that occurs once; None if it does not, or occurs more than once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// Whether there is such a header at all.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known == name)
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.header("cookie")?.split(';');
        let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
        pairs.find_map(|(known, value)| (known == name).then_some(value))
    }

    /// The value of a parameter of the query, as it stands there: the values that pages of ours send need no encoding.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Whether a comma-separated header has this word.
    pub fn says(&self, name: &str, word: &str) -> bool {
        let mut words = self.header(name).unwrap_or_default().split(',');
        words.any(|said| said.trim().eq_ignore_ascii_case(word))
    }
}

/// The next request of a connection. `rest` is what has been read beyond the one before.
///
/// # Errors
/// [`Bad`]
pub(crate) fn read(stream: &mut Stream, rest: &mut Vec<u8>) -> Result<Request, Bad> {
    let until = Instant::now() + ARRIVAL;
    let (mut request, head, length) = loop {
        if let Some(parsed) = parse(rest)? {
            break parsed;
        }
        if rest.len() >= MAX_HEAD {
            return Err(Bad::Status(431));
        }
        fill(stream, rest, until)?;
    };
    rest.drain(..head);
    while rest.len() < length {
        fill(stream, rest, until)?;
    }
    request.body = rest.drain(..length).collect();
    Ok(request)
}

/// Reads once.
fn fill(stream: &mut Stream, into: &mut Vec<u8>, until: Instant) -> Result<(), Bad> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Bad::Gone);
    }
    stream.set_patience(left)?;
    let mut buffer = [0; 4096];
    let read = loop {
        match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if read == 0 {
        return Err(Bad::Gone);
    }
    into.extend_from_slice(buffer.get(..read).unwrap_or_default());
    Ok(())
}

/// The head of a request if it is complete, its length, and that of the body.
///
/// # Errors
/// [`Bad::Status`] if it is none that a browser sends, or too large.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, Bad> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(head)) if head <= MAX_HEAD => head,
        Ok(httparse::Status::Complete(_)) => return Err(Bad::Status(431)),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Bad::Status(400)),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        ..Request::default()
    };
    for header in parsed.headers.iter() {
        let value = std::str::from_utf8(header.value).map_err(|_| Bad::Status(400))?;
        let name = header.name.to_ascii_lowercase();
        request.headers.push((name, value.to_owned()));
    }
    if parsed.version != Some(1) || request.has("transfer-encoding") || !path.starts_with('/') {
        return Err(Bad::Status(400));
    }
    let length = match request.header("content-length") {
        Some(text) if text.bytes().all(|c| c.is_ascii_digit()) => {
            text.parse().unwrap_or(usize::MAX)
        }
        None if !request.has("content-length") => 0,
        _ => return Err(Bad::Status(400)),
    };
    match length {
        0..=MAX_BODY => Ok(Some((request, head, length))),
        _ => Err(Bad::Status(413)),
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// 200, 404, ...
    pub status: u16,
    /// Beside those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// Its content.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer of this type.
    pub fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Type", kind.to_owned())],
            body: body.into(),
        }
    }

    /// A sentence for people.
    pub fn text(status: u16, text: &str) -> Answer {
        Answer::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// A value for our pages.
    pub fn json(status: u16, value: &serde_json::Value) -> Answer {
        Answer::new(status, "application/json", value.to_string())
    }

    /// With another header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends it; `last` if the connection ends with it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) fn send(&self, stream: &mut Stream, last: bool) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let connection = if last { "close" } else { "keep-alive" };
        let length = self.body.len();
        head.push_str(&format!(
            "Content-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        ));
        stream.set_patience(ARRIVAL)?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        stream.flush()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<(Request, usize, usize)>, u16> {
        parse(text.as_bytes()).map_err(|bad| match bad {
            Bad::Gone => 0,
            Bad::Status(status) => status,
        })
    }

    #[test]
    fn a_request_is_taken_apart() {
        let text = "POST /api/vm?vm=vm1&n=2 HTTP/1.1\r\nHost: a:1\r\nCookie: x=1; key=abc\r\n\
                    Connection: keep-alive, Upgrade\r\nContent-Length: 2\r\n\r\nhi";
        let (request, head, length) = parsed(text).unwrap().unwrap();
        assert_eq!((head + length, length), (text.len(), 2));
        assert_eq!((&*request.method, &*request.path), ("POST", "/api/vm"));
        assert_eq!(request.parameter("vm"), Some("vm1"));
        assert_eq!(request.cookie("key"), Some("abc"));
        assert_eq!(request.header("host"), Some("a:1"));
        assert!(request.says("connection", "upgrade") && !request.says("connection", "up"));
        assert!(parsed(&text[..40]).unwrap().is_none());
    }

    #[test]
    fn what_browsers_do_not_send_is_refused() {
        for (text, status) in [
            ("GET / HTTP/1.0\r\n\r\n", 400),
            ("GET http://a/ HTTP/1.1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                413,
            ),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
            ("\u{0}\r\n\r\n", 400),
        ] {
            assert_eq!(parsed(text).unwrap_err(), status, "{text:?}");
        }
        let twice = parsed("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").unwrap();
        assert_eq!(twice.unwrap().0.header("host"), None);
    }
}
