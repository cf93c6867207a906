//! The web interface: the user as which it runs, the way to its monitors, and its certificate (umladmin).

use std::fs;
use std::path::Path;
use std::time::Duration;

use daemon::Account;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};

use super::subject::{AS_ROOT, Finding, Subject};

/// The parameters that show that umlweb is wanted here.
const PARAMS: [&str; 5] = [
    "web_listen",
    "web_name",
    "web_user",
    "web_certificate",
    "web_key",
];

/// A certificate that ends sooner is told.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const MAKE: &str = "move it away, and let umladmin certificate web make another one";

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let global = &subject.config.global;
    let mut set = PARAMS.iter();
    let Some(first) = set.find(|param| subject.places.has("GLOBAL", param)) else {
        return Vec::new();
    };
    let mut findings = user(subject);
    if !global.tcp_redir {
        findings.push(Finding::new(
            subject.places.param("GLOBAL", first),
            "umlweb reaches no monitor without tcp_redir",
            "set tcp_redir = true, and restart umldir and the monitors",
        ));
    }
    if global.web_listen.ip().is_unspecified() && global.web_names.is_empty() {
        findings.push(Finding::new(
            subject.places.param("GLOBAL", "web_listen"),
            "umlweb listens on all addresses, and knows no name by which browsers may call it",
            "set web_name",
        ));
    }
    if let (Some(certificate), Some(key)) = (&global.web_certificate, &global.web_key) {
        findings.extend(pair(subject, certificate, key));
    }
    findings
}

/// The user as which it runs, which must be nobody else's.
fn user(subject: &Subject) -> Vec<Finding> {
    let user = &subject.config.global.web_user;
    let place = subject.places.param("GLOBAL", "web_user");
    let Some(account) = Account::find(user) else {
        return vec![Finding::new(
            place,
            format!("there is no user {user}, as which umlweb runs"),
            "install the package umlweb, or create the user with adduser --system --group",
        )];
    };
    let mut findings = Vec::new();
    if account.uid() == 0 {
        findings.push(Finding::new(
            &place,
            "umlweb does not run as root",
            "set web_user to a user of its own",
        ));
    }
    let same = |vm: &&config::Vm| {
        let of_vm = subject.account(vm).and_then(Result::ok);
        of_vm.is_some_and(|of_vm| of_vm.uid == account.uid())
    };
    if let Some(vm) = subject.vms.iter().find(same) {
        findings.push(Finding::new(
            &place,
            format!(
                "umlweb and {} run as the same user: a guest that escapes can take over the sessions of all browsers",
                vm.name
            ),
            "set web_user to a user of its own",
        ));
    }
    findings
}

/// Certificate and key: usable, for the names by which browsers call it, and valid for some time.
fn pair(subject: &Subject, certificate: &Path, key: &Path) -> Vec<Finding> {
    let place = subject.places.param("GLOBAL", "web_certificate");
    let files = (("web_certificate", certificate), ("web_key", key));
    if let Err(error) = daemon::server_config(files.0, files.1) {
        let suggestion = match rustix::process::geteuid().is_root() {
            true => "umladmin certificate web makes both, if there is no authority to sign one",
            false => AS_ROOT,
        };
        return vec![Finding::new(place, format!("{error:#}"), suggestion)];
    }
    let der = fs::read(certificate)
        .ok()
        .and_then(|pem| CertificateDer::from_pem_slice(&pem).ok());
    let Some(der) = der else { return Vec::new() };
    let Ok(parsed) = ParsedCertificate::try_from(&der) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (n, name) in subject.config.global.web_names.iter().enumerate() {
        let fits = ServerName::try_from(name.as_str())
            .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok());
        if !fits {
            findings.push(Finding::new(
                subject.places.nth("GLOBAL", "web_name", n),
                format!(
                    "the certificate {} is not for {name}",
                    certificate.display()
                ),
                MAKE,
            ));
        }
    }
    let shown = certificate.display();
    let told = if has_ended(&parsed, Duration::ZERO) {
        Some(format!(
            "the certificate {shown} is not valid any more, or not yet"
        ))
    } else if has_ended(&parsed, SOON) {
        Some(format!("the certificate {shown} ends within 30 days"))
    } else {
        None
    };
    findings.extend(told.map(|told| Finding::new(place, told, MAKE)));
    findings
}

/// Whether it is not valid at a time from now.
fn has_ended(certificate: &ParsedCertificate<'_>, after: Duration) -> bool {
    let then = Duration::from_secs(UnixTime::now().as_secs()) + after;
    // Nobody vouches for it here; what is wrong with the certificate itself is found before that.
    let found = verify_server_cert_signed_by_trust_anchor(
        certificate,
        &RootCertStore::empty(),
        &[],
        UnixTime::since_unix_epoch(then),
        default_provider().signature_verification_algorithms.all,
    );
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        found,
        Err(Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;

    const WEB: &str = "tcp_redir = true\nweb_user = daemon\n";

    #[test]
    fn nothing_is_said_where_it_is_not_wanted() {
        let dir = Path::new("/nonexistent");
        assert_eq!(findings(check, "", dir), [""; 0]);
        assert_eq!(findings(check, WEB, dir), [""; 0]);
    }

    #[test]
    fn what_keeps_it_from_its_work_is_told() {
        let dir = Path::new("/nonexistent");
        for (lines, told) in [
            ("web_user = daemon\n", "umlmon:4: umlweb reaches no monitor"),
            (
                "tcp_redir = true\nweb_user = no-such-user\n",
                "umlmon:5: there is no user no-such-user",
            ),
            (
                "tcp_redir = true\nweb_user = root\n",
                "umlmon:5: umlweb does not run as root",
            ),
            (
                "tcp_redir = true\nweb_user = daemon\n[vm1]\nvmuser = daemon\nmem = 64\n",
                "umlmon:5: umlweb and vm1 run as the same user",
            ),
            (
                "tcp_redir = true\nweb_user = daemon\nweb_listen = 0.0.0.0:443\nweb_certificate = /nonexistent\n\
                 web_key = /nonexistent\n",
                "umlmon:6: umlweb listens on all addresses",
            ),
        ] {
            let found = findings(check, lines, dir).concat();
            assert!(found.starts_with(told), "{lines}: {found}");
        }
    }

    #[test]
    fn a_certificate_must_fit() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "{WEB}web_name = a.example\nweb_name = b.example\nweb_certificate = DIR/c.pem\nweb_key = DIR/k.pem\n"
        );
        let found = || findings(check, &text, dir.path()).concat();
        assert!(
            found().starts_with("umlmon:8: cannot use web_certificate"),
            "{}",
            found()
        );
        // For so many days, of which 90 have passed.
        let put = |days: u32| {
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            let day = Duration::from_secs(24 * 60 * 60);
            let now = Duration::from_secs(UnixTime::now().as_secs());
            params.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - day * 90);
            params.not_after = params.not_before + day * days;
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            fs::write(dir.path().join("c.pem"), certificate.pem()).unwrap();
            let path = dir.path().join("k.pem");
            fs::write(&path, key.serialize_pem()).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, mode).unwrap();
        };
        put(121);
        let other = "umlmon:7: the certificate DIR/c.pem is not for b.example";
        let other = other.replace("DIR", &dir.path().display().to_string());
        assert!(found().starts_with(&other), "{}", found());
        assert_eq!(found().lines().count(), 1);
        put(119);
        assert!(found().contains("c.pem ends within 30 days"), "{}", found());
        put(89);
        assert!(
            found().contains("c.pem is not valid any more"),
            "{}",
            found()
        );
    }
}
