//! What the threads of umlweb need of the configuration (umlweb).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use config::Global;
use rustls::ServerConfig;

/// What a running umlweb knows of its host.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The names by which it may be called, in lower case and without a port; an IPv6 address is in brackets.
    pub names: Vec<String>,
    /// TLS to browsers; None on a loopback address only.
    pub tls: Option<Arc<ServerConfig>>,
    /// The socket of umldir that tells which monitors run.
    pub directory: PathBuf,
    /// The socket of umldir that leads to them.
    pub redirector: PathBuf,
}

impl Settings {
    /// Those of a configuration.
    pub fn new(global: &Global, tls: Option<Arc<ServerConfig>>) -> Settings {
        let listen = global.web_listen;
        let mut names = Vec::new();
        if !listen.ip().is_unspecified() {
            names.push(bracketed(&listen.ip().to_string()));
        }
        if listen.ip().is_loopback() {
            names.push("localhost".to_owned());
        }
        names.extend(global.web_names.iter().map(|name| bracketed(name)));
        Settings {
            listen,
            names,
            tls,
            directory: global.directory().join("ctrl"),
            redirector: global.directory().join("redir"),
        }
    }

    /// How the address of a page of ours begins.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }
}

/// A host as it is written in an address of the web.
fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}
