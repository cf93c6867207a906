//! Who can read the passwords, and change the configuration (umladmin).

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::{Finding, Subject};

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
    if let Some(program) = &subject.config.global.sitecmd {
        let place = subject.places.param("GLOBAL", "sitecmd");
        let shown = program.display();
        match fs::metadata(program) {
            Err(error) => findings.push(Finding::new(
                place,
                format!("the site command {shown} cannot be run: {error}"),
                "install it, or take the parameter out",
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
