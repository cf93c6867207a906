//! `umladmin certificate`: a certificate that this host signs itself, and its key, in the files that the configuration
//! names: for umlweb, or for the monitors (umladmin).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cli::{Exit, Failure};
use config::{Config, Global};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use sha2::{Digest as _, Sha256};

use crate::report::Report;

const USAGE: &str = "it is used as: certificate web [NAME]..., or certificate tls NAME...";

/// For how long it is valid. Some browsers take no certificate that is valid for longer.
const VALID: Duration = Duration::from_secs(825 * 24 * 60 * 60);
/// The clocks of clients may be slow.
const SLOW: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its key, once they are made.
struct Made {
    certificate: String,
    key: String,
    fingerprint: String,
}

/// Makes the files, which must not be there.
pub(crate) fn run(config: &Config, operands: &[&str]) -> Result<Exit, Failure> {
    let global = &config.global;
    let Some((use_, names)) = operands.split_first() else {
        return Err(Failure::usage(USAGE));
    };
    let (params, files) = match *use_ {
        "web" => (
            ["web_certificate", "web_key"],
            [&global.web_certificate, &global.web_key],
        ),
        "tls" => (
            ["tls_certificate", "tls_key"],
            [&global.tls_certificate, &global.tls_key],
        ),
        _ => return Err(Failure::usage(USAGE)),
    };
    let [Some(certificate), Some(key)] = files else {
        let [first, second] = params;
        return Err(Failure::new(
            Exit::Failed,
            format_args!(
                "[GLOBAL] does not say where it is to be; add, for example, {first} = /etc/ssl/umlmon/{use_}.pem and \
                 {second} = /etc/ssl/umlmon/{use_}-key.pem"
            ),
        ));
    };
    let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    if names.is_empty() && *use_ == "web" {
        names = of_web(global);
    }
    if names.is_empty() {
        return Err(Failure::usage(
            "by which names or addresses is this host called? they belong into the certificate",
        ));
    }
    let made = make(&names).map_err(|why| Failure::new(Exit::Failed, why))?;
    write(certificate, key, &made)?;
    Report::new().print(&format!(
        "{}: for {}, valid for {} days\n{}: its key, for root only\nSHA-256 {}\n",
        certificate.display(),
        names.join(", "),
        VALID.as_secs() / (24 * 60 * 60),
        key.display(),
        made.fingerprint
    ))?;
    Ok(Exit::Done)
}

/// The names by which browsers may call umlweb.
fn of_web(global: &Global) -> Vec<String> {
    let address = global.web_listen.ip();
    let own = (!address.is_unspecified()).then(|| address.to_string());
    global.web_names.iter().cloned().chain(own).collect()
}

fn make(names: &[String]) -> Result<Made, String> {
    let cannot = |error: rcgen::Error| format!("cannot make a certificate: {error}");
    let mut params = CertificateParams::new(names).map_err(|error| {
        format!(
            "cannot make a certificate for {}: {error}",
            names.join(", ")
        )
    })?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common = names.first().map_or("", String::as_str);
    // Longer ones are not valid there; programs look at the other place.
    let common: String = common.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common);
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_err(|_| "the clock of this host is before 1970".to_owned())?;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(SLOW);
    params.not_after = epoch + now + VALID;
    let key = KeyPair::generate().map_err(cannot)?;
    let certificate = params.self_signed(&key).map_err(cannot)?;
    let sum = Sha256::digest(certificate.der());
    let sum: Vec<String> = sum.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(Made {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        fingerprint: sum.join(":"),
    })
}

/// Writes both, or nothing.
fn write(certificate: &Path, key: &Path, made: &Made) -> Result<(), Failure> {
    put(certificate, 0o644, &made.certificate)?;
    put(key, 0o600, &made.key).inspect_err(|_| {
        // A certificate without a key is of no use.
        let _ = fs::remove_file(certificate);
    })
}

/// Makes a file, and the directory that it is to be in.
fn put(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let write = || {
        fs::create_dir_all(path.parent().map_or(PathBuf::from("/"), Path::to_owned))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path);
        file?.write_all(text.as_bytes())
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(
            Exit::Failed,
            format_args!("{} is there already; move it away first", path.display()),
        ),
        _ => Failure::from(error).about(path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn config(dir: &Path, lines: &str) -> Config {
        let lines = lines.replace("DIR", &dir.display().to_string());
        Config::parse(&format!("[GLOBAL]\n{lines}"), "umlmon".as_ref()).unwrap()
    }

    #[test]
    fn both_files_are_made_and_fit() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "web_listen = 192.0.2.7:443\nweb_name = vms.example.org\nweb_certificate = DIR/new/web.pem\n\
                     web_key = DIR/web-key.pem\n";
        let config = config(dir.path(), lines);
        run(&config, &["web"]).unwrap();
        let (certificate, key) = (
            dir.path().join("new/web.pem"),
            dir.path().join("web-key.pem"),
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&certificate) & 0o600, mode(&key)), (0o600, 0o600));
        if rustix::process::geteuid().is_root() {
            daemon::server_config(("web_certificate", &certificate), ("web_key", &key)).unwrap();
        }
        let before = fs::read(&certificate).unwrap();
        let refused = run(&config, &["web", "other.example.org"]).unwrap_err();
        assert!(refused.message.contains("is there already"), "{refused}");
        assert_eq!(fs::read(&certificate).unwrap(), before);
        // The key is there still.
        fs::remove_file(&certificate).unwrap();
        run(&config, &["web"]).unwrap_err();
        assert!(!certificate.exists());
    }

    #[test]
    fn it_must_be_known_where_and_for_whom() {
        let dir = tempfile::tempdir().unwrap();
        let said = |lines: &str, operands: &[&str]| {
            run(&config(dir.path(), lines), operands)
                .unwrap_err()
                .message
        };
        assert_eq!(said("", &[]), USAGE);
        assert_eq!(said("", &["ssh"]), USAGE);
        assert!(said("", &["web"]).contains("add, for example, web_certificate = "));
        let tls = "tls_certificate = DIR/c\ntls_key = DIR/k\n";
        assert!(said(tls, &["tls"]).contains("by which names"));
        assert!(said(tls, &["tls", "ä"]).contains("for ä"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
