//! The certificate and key of a server, from the files that the configuration names. Runs in umlmon, in the monitor
//! process, and in umlweb, both while they are root.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of a file with certificates or a key, at most.
const MAX_FILE: u64 = 1 << 20;

/// A server of TLS 1.3 that asks clients for no certificate. Each file comes with the name of its parameter.
///
/// # Errors
/// If certificate or key cannot be used, and why.
pub fn server_config(
    (certificate_name, certificate): (&str, &Path),
    (key_name, key): (&str, &Path),
) -> anyhow::Result<ServerConfig> {
    let chain = read(certificate, false)
        .and_then(|pem| Ok(CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?))
        .with_context(|| format!("cannot use {certificate_name} {}", certificate.display()))?;
    ensure!(
        !chain.is_empty(),
        "{certificate_name} {} has no certificate in PEM",
        certificate.display()
    );
    let key = read(key, true)
        .and_then(|pem| Ok(PrivateKeyDer::from_pem_slice(&pem)?))
        .with_context(|| format!("cannot use {key_name} {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("{certificate_name} and {key_name} do not match"))
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
