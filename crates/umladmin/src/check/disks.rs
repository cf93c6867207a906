//! The disks: there, and written by one VM only (umladmin).

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{DiskKind, DiskName, Vm};

use super::{Finding, Subject};

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut users: BTreeMap<PathBuf, String> = BTreeMap::new();
    for vm in &subject.vms {
        for (number, disk) in &vm.ubd {
            let (name, param) = (vm.name.as_str(), format!("ubd{number}"));
            let place = subject.places.param(name, &param);
            let path = on_host(subject, vm, disk);
            // Before the monitor is started for the first time there is no jail, and no place for its disks.
            let is_missing = vm.jaildir.exists() && !path.exists();
            if is_missing && disk.kind() != DiskKind::Dev {
                findings.push(Finding::new(
                    &place,
                    format!(
                        "{disk} of {name} does not exist (it would be {})",
                        path.display()
                    ),
                    format!("make it with umlwatch {name} -disk-create, or copy an image there"),
                ));
            }
            let found = path.canonicalize().unwrap_or(path);
            let user = format!("{param} of {name}");
            if let Some(other) = users.get(&found) {
                findings.push(Finding::new(
                    place,
                    format!("{disk} is {other} and {user}: only one can have it at a time"),
                    "make a copy, or a copy-on-write image for each",
                ));
            } else {
                users.insert(found, user);
            }
        }
    }
    for device in &subject.config.global.devices {
        use std::os::unix::fs::FileTypeExt as _;
        let target = device.target.display();
        let problem = match std::fs::metadata(&device.target) {
            Err(error) => format!("the device {target} cannot be used: {error}"),
            Ok(found) if !found.file_type().is_block_device() => {
                format!("{target} is not a block device")
            }
            Ok(_) => continue,
        };
        let place = subject.places.param("GLOBAL", "device");
        findings.push(Finding::new(
            place,
            problem,
            "name one that is, or take the line out",
        ));
    }
    findings
}

fn on_host(subject: &Subject, vm: &Vm, disk: &DiskName) -> PathBuf {
    let name = disk.as_str().trim_start_matches('/');
    match name.strip_prefix("shared/") {
        Some(rest) => subject.config.global.shared.join(rest),
        None => vm.jaildir.join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::findings;
    use super::*;

    #[test]
    fn disks_that_are_missing_or_used_twice() {
        let dir = tempfile::tempdir().unwrap();
        let vm = |name: &str, disk: &str| {
            format!("[{name}]\nvmuser = nobody\nmem = 64\nubd0 = {disk}\njaildir = DIR/{name}\n")
        };
        let text = vm("a", "/disks/x.dsk")
            + &vm("b", "/disks/x.dsk")
            + &vm("c", "/shared/disks/y.dsk")
            + &vm("d", "/shared/disks/y.dsk");
        let found = findings(check, &text, dir.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("umlmon:22: /shared/disks/y.dsk is ubd0 of c and ubd0 of d"));
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let found = findings(check, &text, dir.path());
        assert!(
            found[0].starts_with("umlmon:7: /disks/x.dsk of a does not exist"),
            "{found:?}"
        );
    }
}
