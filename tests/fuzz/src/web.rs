//! What browsers, and anybody else who connects, send to umlweb: requests, and after an upgrade the frames of a
//! WebSocket.

use std::io::{self, Cursor, Read, Write};

use umlweb::http::{Bad, parse};
use umlweb::websocket::{MAX_MESSAGE, over, token};

/// Bytes of the head of a request, and of its body, that are too many.
const TOO_MUCH: usize = 64 << 10;

/// A peer that says this, and hears nothing.
struct Saying<'a>(Cursor<&'a [u8]>);

impl Read for Saying<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Saying<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads `data` as requests, one after the other, and what follows an upgrade, or all of it, as messages.
pub fn target(data: &[u8]) {
    let mut rest = data;
    loop {
        match parse(rest) {
            Ok(Some((request, head, body))) => {
                assert!(head <= rest.len() && head + body < TOO_MUCH);
                assert!(request.path.starts_with('/') && !request.has("transfer-encoding"));
                // Whatever a header has, looking at it does no harm.
                let _ = (
                    request.cookie("umlweb"),
                    request.parameter("vm"),
                    request.header("host"),
                );
                rest = rest.get(head + body..).unwrap_or_default();
                if token(&request).is_some() {
                    return converse(rest);
                }
            }
            Ok(None) => break,
            Err(Bad::Status(status)) => {
                assert!((400..500).contains(&status));
                break;
            }
            Err(Bad::Gone) => unreachable!("bytes do not go"),
        }
    }
    converse(data);
}

fn converse(data: &[u8]) {
    let mut socket = over(Saying(Cursor::new(data)));
    while let Ok(message) = socket.read() {
        assert!(message.len() <= MAX_MESSAGE);
    }
}

/// A login, a request for a WebSocket, and frames of it.
pub fn seeds() -> Vec<Vec<u8>> {
    let login = "POST /api/login HTTP/1.1\r\nHost: localhost:8873\r\nOrigin: http://localhost:8873\r\n\
                 Sec-Fetch-Site: same-origin\r\nCookie: a=b; umlweb=0123\r\nContent-Length: 29\r\n\r\n\
                 {\"vm\":\"vm1\",\"password\":\"word\"}";
    let upgrade = "GET /socket/console?vm=vm1&channel=con1&offset=7 HTTP/1.1\r\nHost: localhost\r\n\
                   Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: umlweb, token\r\n\r\n";
    let page = "GET /app.js HTTP/1.1\r\nHost: [::1]:8873\r\nIf-None-Match: \"0\"\r\n\r\n";
    // Masked, as those of browsers are.
    let frame = |kind: u8, text: &str| {
        let mask = [1, 2, 3, 4];
        let masked = text.bytes().zip(mask.iter().cycle()).map(|(c, m)| c ^ m);
        let length = u8::try_from(text.len()).expect("a short text");
        let mut frame = vec![kind, 0x80 | length];
        frame.extend(mask);
        frame.extend(masked);
        frame
    };
    let frames = [
        frame(0x81, r#"{"ack":4096}"#),
        frame(0x81, r#"{"mode":"take"}"#),
        frame(0x02, "ls"),
        frame(0x80, "\n"),
        frame(0x89, ""),
        frame(0x88, "\u{3}"),
    ]
    .concat();
    vec![
        login.into(),
        page.into(),
        [page, login].concat().into(),
        [upgrade.as_bytes(), &frames].concat(),
        frames,
    ]
}
