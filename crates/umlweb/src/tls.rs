//! TLS to browsers: the certificate and its key, read while the process is still root's (umlweb).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use config::Global;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of a file with certificates or a key, at most.
const MAX_FILE: u64 = 1 << 20;

/// What accepts TLS connections; None if the configuration names no certificate, which it may not on an address that
/// others can reach.
///
/// # Errors
/// If certificate or key cannot be used, and why.
pub fn server(global: &Global) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let (Some(certificate), Some(key)) = (&global.web_certificate, &global.web_key) else {
        return Ok(None);
    };
    let chain = read(certificate, false)
        .and_then(|pem| Ok(CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?))
        .with_context(|| format!("cannot use web_certificate {}", certificate.display()))?;
    ensure!(
        !chain.is_empty(),
        "web_certificate {} has no certificate in PEM",
        certificate.display()
    );
    let key = read(key, true)
        .and_then(|pem| Ok(PrivateKeyDer::from_pem_slice(&pem)?))
        .with_context(|| format!("cannot use web_key {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("web_certificate and web_key do not match")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// Reads a file; a secret one must be accessible to root only.
fn read(path: &Path, secret: bool) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path)?;
    let status = file.metadata()?;
    if !status.is_file() || status.len() > MAX_FILE {
        bail!("it is not a file, or it is too large");
    }
    if secret && (status.uid() != 0 || status.mode() & 0o077 != 0) {
        bail!("others than root can read it (use chown root and chmod 600)");
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
