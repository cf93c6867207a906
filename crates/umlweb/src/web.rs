//! What all connections share, and a request with what it needs to be answered (umlweb).

use std::net::SocketAddr;
use std::sync::Arc;

use cli::Failure;

use crate::crowd::Crowd;
use crate::http::Request;
use crate::monitors::Monitors;
use crate::sessions::{Session, Sessions};
use crate::settings::Settings;

/// Connections at once, in all and of those of one source that belong to no session.
const MAX_CONNECTIONS: (usize, usize) = (1024, 128);

/// What all connections share.
pub struct Web {
    /// What is configured.
    pub settings: Settings,
    /// Who has logged in.
    pub sessions: Sessions,
    /// The way to the VMs.
    pub monitors: Monitors,
    /// Who is connected.
    pub crowd: Arc<Crowd>,
}

/// A request that is allowed to do something, and whose it is.
pub struct Asked<'a> {
    /// What all share.
    pub web: &'a Web,
    /// The request.
    pub request: &'a Request,
    /// Where the browser is.
    pub from: SocketAddr,
}

impl Web {
    /// Nobody has logged in yet.
    ///
    /// # Errors
    /// If there is no way to monitors.
    pub fn new(settings: Settings) -> Result<Web, Failure> {
        Ok(Web {
            monitors: Monitors::new(&settings)?,
            settings,
            sessions: Sessions::default(),
            crowd: Crowd::new(MAX_CONNECTIONS.0, MAX_CONNECTIONS.1),
        })
    }

    /// Ends all sessions: their keys are wiped.
    pub fn end(&self) {
        self.sessions.sweep(true);
    }

    /// The session of a request, by its cookie.
    pub fn session(&self, request: &Request) -> Option<Arc<Session>> {
        self.sessions.find(request.cookie(self.cookie())?)
    }

    /// The name of the cookie. The prefix makes browsers insist on TLS, and on this host alone.
    pub fn cookie(&self) -> &'static str {
        match self.settings.tls {
            Some(_) => "__Host-umlweb",
            None => "umlweb",
        }
    }
}
