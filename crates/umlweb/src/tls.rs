//! TLS to browsers: the certificate and its key, read while the process is still root's (umlweb).

use std::sync::Arc;

use config::Global;
use daemon::server_config;
use rustls::ServerConfig;

/// What accepts TLS connections; None if the configuration names no certificate, which it may not on an address that
/// others can reach.
///
/// # Errors
/// If certificate or key cannot be used, and why.
pub fn server(global: &Global) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let (Some(certificate), Some(key)) = (&global.web_certificate, &global.web_key) else {
        return Ok(None);
    };
    let mut config = server_config(("web_certificate", certificate), ("web_key", key))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}
