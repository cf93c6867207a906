//! TLS on the connection to another host, and which certificate is accepted: one that is signed by an authority in the
//! file of `-ca`, or the one that the host had when it was used first.
//!
//! A peer that does not know the password cannot pass as the monitor in any case: the proof of it is bound to the
//! connection. The check of the certificate prevents that another peer gets proofs on which to try passwords.

use std::fmt::Write as _;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cli::{Exit, Failure};
use rpc_xdr::auth::{BINDING_LABEL, BINDING_LENGTH};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::call::tell;
use crate::known::KnownHosts;
use crate::stream::TlsStream;
use crate::target::Host;

/// The name that RFC 9289 gives to RPC in TLS (ALPN).
const SUNRPC: &[u8] = b"sunrpc";

/// Whether TLS is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// If the host offers it; required if the host offered it before.
    #[default]
    Auto,
    /// Always.
    Require,
    /// Never.
    Off,
}

/// How a certificate is checked.
#[derive(Debug)]
enum Trust {
    /// By a certification authority's file.
    Authority(PathBuf),
    /// By what was remembered at the first use, in the user's file under a name.
    FirstUse(KnownHosts, String),
    /// Not at all: the way to the monitor leads through this host only, and the proof of the password is bound to the
    /// connection.
    Unchecked,
}

/// TLS with one host.
#[derive(Debug)]
pub(crate) struct Tls {
    wish: Wish,
    host: Host,
    trust: Trust,
}

/// A TLS connection, and the steps that remain when the monitor has proved that it knows the password.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) stream: TlsStream,
    /// What a proof of the password is bound to.
    pub(crate) binding: Vec<u8>,
    /// The certificate that is to be remembered.
    pub(crate) new: Option<NewHost>,
}

/// A certificate of a host that is used for the first time.
#[derive(Debug)]
pub(crate) struct NewHost(String);

impl Tls {
    /// With `ca`, the file of a certification authority; without, trust on first use. `port` is the known port that
    /// leads to the host, which may be the beginning of a tunnel.
    pub(crate) fn new(
        wish: Wish,
        ca: Option<&Path>,
        host: &Host,
        port: u16,
    ) -> Result<Tls, Failure> {
        let trust = match ca {
            Some(file) => Trust::Authority(file.to_owned()),
            None => Trust::FirstUse(KnownHosts::of_user()?, name_of(host, port)),
        };
        let host = host.clone();
        Ok(Tls { wish, host, trust })
    }

    /// For a monitor that is reached through root's sockets of this host.
    pub(crate) fn within(host: &Host) -> Tls {
        Tls {
            wish: Wish::Auto,
            host: host.clone(),
            trust: Trust::Unchecked,
        }
    }

    /// Whether the host is to be asked for TLS.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wish != Wish::Off
    }

    /// What to do if the host does not offer it: the connection continues without TLS, if that is not suspicious.
    pub(crate) fn missing(&self) -> Result<(), Failure> {
        let host = &self.host;
        let refuse = |why: &str| {
            Err(Failure::new(
                Exit::Failed,
                format_args!("{host} does not offer TLS, {why}"),
            ))
        };
        match &self.trust {
            _ if self.wish == Wish::Require => {
                refuse("and -tls require rejects unencrypted connections")
            }
            Trust::Authority(_) => {
                refuse("so -ca cannot be checked; use -tls off to connect unencrypted")
            }
            Trust::FirstUse(known, name) if known.find(name)?.is_some() => {
                refuse("but did before: this may be an attack; use -tls off to connect unencrypted")
            }
            Trust::FirstUse(..) | Trust::Unchecked => Ok(()),
        }
    }

    /// The TLS handshake on a connection whose peer has agreed to it.
    pub(crate) fn start(&self, tcp: TcpStream) -> Result<Secured, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = Arc::new(Mutex::new(String::new()));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(broken)?;
        let mut config = match &self.trust {
            Trust::Authority(file) => builder.with_webpki_verifier(authority(file, provider)?),
            Trust::FirstUse(..) | Trust::Unchecked => {
                let any = AnyCertificate {
                    provider,
                    fingerprint: Arc::clone(&seen),
                };
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(any))
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![SUNRPC.to_vec()];
        let name = self.server_name(&tcp)?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(broken)?;
        let stream = TlsStream::new(tls, tcp).map_err(|error| self.no_handshake(&error))?;
        let binding = stream
            .connection()
            .export_keying_material(vec![0; BINDING_LENGTH], BINDING_LABEL, None)
            .map_err(broken)?;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Secured {
            stream,
            binding,
            new: self.compare(seen)?,
        })
    }

    /// Remembers a certificate, and informs the user.
    pub(crate) fn remember(&self, new: &NewHost) -> Result<(), Failure> {
        let Trust::FirstUse(known, name) = &self.trust else {
            return Ok(());
        };
        known.add(name, &new.0)?;
        let (host, path) = (&self.host, known.path().display());
        tell(&format!(
            "first connection to {host}: its certificate {} is trusted from now on ({path})",
            new.0
        ));
        Ok(())
    }

    /// Compares what the host has shown with what is remembered.
    fn compare(&self, seen: String) -> Result<Option<NewHost>, Failure> {
        let Trust::FirstUse(known, name) = &self.trust else {
            return Ok(None);
        };
        match known.find(name)? {
            None => Ok(Some(NewHost(seen))),
            Some(before) if before == seen => Ok(None),
            Some(before) => Err(Failure::new(
                Exit::Failed,
                format_args!(
                    "the certificate of {} has changed: it is {seen}, and was {before}. This may be an attack, or the host has a new certificate: ask its administrator, then remove the line '{name}' from {}",
                    self.host,
                    known.path().display()
                ),
            )),
        }
    }

    fn server_name(&self, tcp: &TcpStream) -> Result<ServerName<'static>, Failure> {
        // A name that is not a DNS name can be in no certificate; then the address is used.
        match ServerName::try_from(self.host.as_str().to_owned()) {
            Ok(name) => Ok(name),
            Err(_) => Ok(ServerName::IpAddress(tcp.peer_addr()?.ip().into())),
        }
    }

    fn no_handshake(&self, error: &io::Error) -> Failure {
        let mut text = format!("no TLS connection with {}: {error}", self.host);
        // It has no type of its own.
        if text.contains("CaUsedAsEndEntity") {
            text.push_str(
                " (its certificate is one of an authority; the host needs one with CA:FALSE, see tls_certificate in \
                 umlmon(5))",
            );
        }
        Failure::new(Exit::Failed, text)
    }
}

fn broken(error: rustls::Error) -> Failure {
    Failure::new(Exit::Failed, format_args!("no TLS connection: {error}"))
}

/// The name of a host in the file: a loopback address has its port, because a tunnel may begin there, and each leads to
/// another host.
fn name_of(host: &Host, port: u16) -> String {
    match host.is_loopback() {
        true => format!("[{host}]:{port}"),
        false => host.to_string(),
    }
}

/// Accepts a certificate that a certification authority has signed for the name of the host.
fn authority(
    file: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Failure> {
    let bad = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format_args!("-ca {}: {why}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(&e))? {
        let added = roots.add(certificate.map_err(|e| bad(&e))?);
        added.map_err(|e| bad(&e))?;
    }
    if roots.is_empty() {
        return Err(bad(&"there is no certificate in it (PEM is expected)"));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|e| bad(&e))
}

/// Accepts any certificate whose key the peer has, and notes its fingerprint.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    fingerprint: Arc<Mutex<String>>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = fingerprint(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// SHA-256 of a certificate, by the hash that TLS itself uses.
fn fingerprint(certificate: &[u8]) -> Result<String, rustls::Error> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let missing = || rustls::Error::General("there is no SHA-256".into());
    let suite = suite.tls13().ok_or_else(missing)?;
    let sum = suite.common.hash_provider.hash(certificate);
    let mut text = String::from("sha256:");
    for byte in sum.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_sha_256() {
        // FIPS 180-2, B.1
        assert_eq!(
            fingerprint(b"abc").unwrap(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn each_tunnel_is_a_host_of_its_own() {
        let name = |text| name_of(&Host::parse(text).unwrap().unwrap(), 8871);
        assert_eq!(name("host"), "host");
        assert_eq!(name("10.0.0.1"), "10.0.0.1");
        assert_eq!(name("127.0.0.1"), "[127.0.0.1]:8871");
        assert_eq!(name("::1"), "[::1]:8871");
    }

    #[test]
    fn a_file_without_certificates_is_no_authority() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let failure = authority(file.path(), provider()).unwrap_err();
        assert!(
            failure.message.contains("there is no certificate in it"),
            "{failure}"
        );
        let failure = authority(Path::new("/does/not/exist"), provider()).unwrap_err();
        assert!(
            failure.message.starts_with("-ca /does/not/exist: "),
            "{failure}"
        );
    }
}
