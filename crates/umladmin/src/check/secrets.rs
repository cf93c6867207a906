//! Who can read the passwords and the key of TLS, and change the configuration (umladmin).

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use config::{AuthPolicy, Password, TlsPolicy};

use super::subject::{Finding, Subject, remedy};

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let path = subject.places.path();
    let Ok(found) = fs::metadata(path) else {
        return Vec::new();
    };
    let (mode, shown) = (found.mode() & 0o7777, path.display());
    let mut findings = Vec::new();
    if found.uid() != 0 || mode & 0o022 != 0 {
        let owner = found.uid();
        findings.push(Finding::new(
            &shown,
            format!("others than root can change it (owner {owner}, mode {mode:04o}), and with it what root does"),
            format!("chown root {shown}; chmod go-w {shown}"),
        ));
    }
    let global = subject.config.global.password.iter().map(|_| "GLOBAL");
    let vms = subject.vms.iter().filter(|vm| vm.password.is_some());
    let holder = global.chain(vms.map(|vm| vm.name.as_str())).next();
    if let (Some(section), true) = (holder, mode & 0o004 != 0) {
        findings.push(Finding::new(
            subject.places.param(section, "password"),
            format!("everybody can read the password (mode {mode:04o})"),
            format!("chmod o-r {shown}"),
        ));
    }
    findings.extend(logins(subject));
    findings.extend(certificate(subject));
    findings.extend(check_site(subject));
    findings
}

/// Logins of version 1, where they can be used.
fn logins(subject: &Subject) -> Vec<Finding> {
    let global = &subject.config.global;
    let passwords = subject.vms.iter().map(|vm| &vm.password);
    let is_usable = passwords
        .chain([&global.password])
        .any(|password| matches!(password, Some(Password::Md5(_))));
    if global.auth == AuthPolicy::Strong || !(global.tcp || global.tcp_redir) || !is_usable {
        return Vec::new();
    }
    vec![Finding::note(
        subject.places.param("GLOBAL", "auth"),
        "auth is any: clients may log in with version 1, and who listens to that can try passwords on his own machine",
        "set auth = strong, unless other programs than umlwatch log in",
    )]
}

/// The site command, which root runs for users.
fn check_site(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(program) = &subject.config.global.sitecmd {
        let place = subject.places.param("GLOBAL", "sitecmd");
        let shown = program.display();
        match fs::metadata(program) {
            Err(error) => findings.push(Finding::new(
                place,
                format!("the site command {shown} cannot be run: {error}"),
                remedy(&error, "install it, or remove the parameter"),
            )),
            Ok(found) if found.mode() & 0o111 == 0 || !found.is_file() => {
                findings.push(Finding::new(
                    place,
                    format!("the site command {shown} is not an executable file"),
                    format!("chmod +x {shown}"),
                ))
            }
            Ok(found) if found.uid() != 0 || found.mode() & 0o022 != 0 => {
                findings.push(Finding::new(
                    place,
                    format!(
                        "others than root can change the site command {shown}, which root runs"
                    ),
                    format!("chown root {shown}; chmod go-w {shown}"),
                ))
            }
            Ok(_) => {}
        }
    }
    findings
}

/// Certificate and key of TLS, which the monitors read for each connection.
fn certificate(subject: &Subject) -> Vec<Finding> {
    let global = &subject.config.global;
    let mut findings = Vec::new();
    if global.tls == TlsPolicy::Off {
        return findings;
    }
    for (param, path) in [
        ("tls_certificate", &global.tls_certificate),
        ("tls_key", &global.tls_key),
    ] {
        let Some(path) = path else { continue };
        let (place, shown) = (subject.places.param("GLOBAL", param), path.display());
        let is_open = |found: &fs::Metadata| found.uid() != 0 || found.mode() & 0o077 != 0;
        match fs::metadata(path) {
            Err(error) => findings.push(Finding::new(
                place,
                format!("{shown} cannot be used: {error}"),
                remedy(&error, "put it there, or remove tls"),
            )),
            Ok(found) if param == "tls_key" && is_open(&found) => findings.push(Finding::new(
                place,
                format!("others than root can read the key {shown}, so it would be rejected"),
                format!("chown root {shown}; chmod 600 {shown}"),
            )),
            Ok(_) => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn put(path: &Path, mode: u32) {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_site_command_that_cannot_be_run_or_trusted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("site");
        let shown = program.display().to_string();
        let found = || findings(check_site, "sitecmd = DIR/site\n", dir.path()).concat();
        assert!(found().starts_with(&format!(
            "umlmon:4: the site command {shown} cannot be run: No such file"
        )));
        put(&program, 0o644);
        let wanted = format!(
            "umlmon:4: the site command {shown} is not an executable file; chmod +x {shown}\n"
        );
        assert_eq!(found(), wanted);
        put(&program, 0o775);
        let wanted = format!(
            "umlmon:4: others than root can change the site command {shown}, which root runs; \
             chown root {shown}; chmod go-w {shown}\n"
        );
        assert_eq!(found(), wanted);
        put(&program, 0o755);
        assert_eq!(found(), "");
    }

    #[test]
    fn logins_that_give_a_listener_something() {
        let verifier = format!("password = $opaque$1${}\n", "A".repeat(427));
        let dir = Path::new("/nonexistent");
        for (text, is_told) in [
            ("tcp = true\npassword = abc\n", true),
            ("tcp_redir = true\nauth = any\npassword = abc\n", true),
            ("tcp = true\nauth = strong\npassword = abc\n", false),
            ("password = abc\n", false),
            ("tcp = true\n", false),
            (&format!("tcp = true\n{verifier}"), false),
        ] {
            let said = findings(logins, text, dir).concat();
            assert_eq!(
                said.contains("set auth = strong"),
                is_told,
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn certificates_that_are_missing_and_keys_for_all() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let text = "tls = allow\ntls_certificate = DIR/cert\ntls_key = DIR/key\n";
        let found = || findings(certificate, text, dir.path()).concat();
        let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
        put(&key, 0o640);
        let said = found();
        assert!(said.starts_with(&format!(
            "umlmon:5: {} cannot be used: No such file",
            cert.display()
        )));
        let open = format!(
            "umlmon:6: others than root can read the key {}, so it would be rejected; chown root ",
            key.display()
        );
        assert!(said.contains(&open), "{said}");
        put(&cert, 0o644);
        put(&key, 0o600);
        assert_eq!(found(), "");
        let off = findings(
            certificate,
            &text.replace("allow", "off"),
            Path::new("/nonexistent"),
        );
        assert_eq!(off, [""; 0]);
    }
}
