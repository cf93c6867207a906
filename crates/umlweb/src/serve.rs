//! Accepts connections, each served by a thread of its own, and leads each request to what answers it (umlweb).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, Builder};
use std::time::Duration;

use crate::crowd::Place;
use crate::http::{self, Answer, Bad};
use crate::sessions::Session;
use crate::stream::Stream;
use crate::web::{Asked, Web};
use crate::websocket::{self, Socket};
use crate::{api, assets, console, live, walls};

/// Stack of a thread, in bytes.
const STACK: usize = 256 * 1024;
/// How often it is looked for sessions that nobody uses.
const SWEEP: Duration = Duration::from_secs(5);
/// How long accepting pauses when there are no descriptors or threads left.
const PAUSE: Duration = Duration::from_millis(200);

/// Begins to accept.
///
/// # Errors
/// If there are no threads.
pub fn begin(web: &Arc<Web>, listener: TcpListener) -> io::Result<()> {
    let shared = Arc::clone(web);
    Builder::new()
        .name("accept".into())
        .spawn(move || accept(&shared, &listener))?;
    let shared = Arc::clone(web);
    let sweep = move || {
        loop {
            thread::sleep(SWEEP);
            shared.sessions.sweep(false);
        }
    };
    Builder::new().name("sweep".into()).spawn(sweep)?;
    Ok(())
}

fn accept(web: &Arc<Web>, listener: &TcpListener) {
    loop {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let Some(place) = web.crowd.enter(from.ip(), &stream) else {
            continue;
        };
        let shared = Arc::clone(web);
        let serve = move || serve(&shared, stream, from, &place);
        if Builder::new().stack_size(STACK).spawn(serve).is_err() {
            thread::sleep(PAUSE);
        }
    }
}

/// A connection from its beginning to its end. What is wrong with it is its own problem.
fn serve(web: &Web, tcp: TcpStream, from: SocketAddr, place: &Place) {
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let Ok(mut stream) = Stream::new(tcp, web.settings.tls.as_ref()) else {
        return;
    };
    let mut rest = Vec::new();
    loop {
        let request = match http::read(&mut stream, &mut rest) {
            Ok(request) => request,
            Err(Bad::Gone) => break,
            Err(Bad::Status(status)) => {
                let answer = Answer::text(status, "this is no valid request");
                let _ = walls::headers(answer, None).send(&mut stream, true);
                break;
            }
        };
        let asked = Asked {
            web,
            request: &request,
            from,
        };
        place.set_known(web.session(&request).is_some());
        let (answer, nonce) = match asked.answer() {
            Reply::Answer(answer, nonce) => (answer, nonce),
            Reply::Socket(session) => return asked.converse(stream, &session),
        };
        let last = request.says("connection", "close");
        let answer = walls::headers(answer, nonce.as_deref());
        if answer.send(&mut stream, last).is_err() || last {
            break;
        }
    }
    stream.finish();
}

/// What a request leads to.
enum Reply {
    /// An answer, and the nonce of the styles in it.
    Answer(Answer, Option<String>),
    /// A WebSocket of this session.
    Socket(Arc<Session>),
}

impl Asked<'_> {
    fn answer(&self) -> Reply {
        let (web, request) = (self.web, self.request);
        let plain = |answer| Reply::Answer(answer, None);
        if !walls::is_ours(request, &web.settings) {
            let text =
                "this host is not called so; the administrator can add the name with web_name";
            return plain(Answer::text(421, text));
        }
        if request.path.starts_with("/socket/") {
            return match self.may_converse() {
                Some(session) => Reply::Socket(session),
                None => plain(Answer::text(403, "no page of this session asks for it")),
            };
        }
        if request.path.starts_with("/api/") {
            return plain(match walls::is_from_our_page(request, &web.settings) {
                true => api::answer(self).with("Cache-Control", "no-store"),
                false => Answer::text(403, "only pages of this host may do this"),
            });
        }
        if request.method != "GET" {
            return plain(
                Answer::text(405, "there is nothing to be changed here").with("Allow", "GET"),
            );
        }
        match assets::find(&request.path, request.header("if-none-match")) {
            Some((answer, nonce)) => Reply::Answer(answer, nonce),
            None => plain(Answer::text(
                404,
                "there is no such page; the first one is /",
            )),
        }
    }

    /// The session for which a page of ours asks for a WebSocket.
    fn may_converse(&self) -> Option<Arc<Session>> {
        let session = self.web.session(self.request)?;
        let token = websocket::token(self.request)?;
        let may =
            token == session.token && walls::is_from_our_page(self.request, &self.web.settings);
        may.then_some(session)
    }

    /// Serves a WebSocket until it ends.
    fn converse(&self, stream: Stream, session: &Arc<Session>) {
        let Some(used) = session.socket() else {
            return;
        };
        let Ok(socket) = Socket::accept(stream, self.request) else {
            return;
        };
        session.touch();
        // Whichever side has ended it, the other notices.
        let _ = match self.request.path.as_str() {
            "/socket/console" => console::run(self, socket, used.session()),
            _ => live::run(self, socket, used.session()),
        };
    }
}
