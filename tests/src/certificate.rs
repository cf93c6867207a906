//! Certificates for connections in TLS (the end-to-end tests).

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};

use crate::World;

/// Has the monitors of a world offer TLS, or as `how` says, with the certificate that [`certify`] or an [`Authority`]
/// makes.
pub fn use_tls(world: &World, how: &str) {
    let path = world.path().display();
    world.global(&format!("tls = {how}"));
    world.global(&format!("tls_certificate = {path}/cert.pem"));
    world.global(&format!("tls_key = {path}/key.pem"));
}

/// Makes a certificate of a world for these hosts, signed by nobody else, and its key. One that was there is replaced.
///
/// # Panics
/// If the files cannot be written.
pub fn certify(world: &World, hosts: &[&str]) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let certificate = params(hosts).self_signed(&key).unwrap();
    write(world, &certificate, &key);
    certificate
}

/// A certification authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new certificate for this name, which no client has seen.
    ///
    /// # Panics
    /// If its key cannot be made.
    pub fn new(name: &str) -> Authority {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes the file that makes it known.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn publish(&self, file: &Path) {
        fs::write(file, self.0.pem()).unwrap();
    }

    /// As [`certify`], but signed by this authority.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn certify(&self, world: &World, hosts: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(hosts).signed_by(&key, &self.0).unwrap();
        write(world, &certificate, &key);
    }
}

fn params(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.into()).collect();
    CertificateParams::new(hosts).unwrap()
}

fn write(world: &World, certificate: &Certificate, key: &KeyPair) {
    fs::write(world.path().join("cert.pem"), certificate.pem()).unwrap();
    world.secret_file("key.pem", &key.serialize_pem());
}
