//! The directories that root works in: owned by root, and exchangeable by root only (umladmin).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::subject::{Finding, Subject};

/// Writable by the group or by others.
const WRITABLE: u32 = 0o022;
/// Only the owner of a file may rename it.
const STICKY: u32 = 0o1000;

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let global = &subject.config.global;
    let place = |section: &str, param: &str| subject.places.param(section, param);
    let mut wanted = vec![
        (place("GLOBAL", "vardir"), global.vardir.clone()),
        (place("GLOBAL", "shared"), global.shared.clone()),
        (place("GLOBAL", "rundir"), global.rundir.clone()),
    ];
    for vm in &subject.vms {
        wanted.push((place(vm.name.as_str(), "jaildir"), vm.jaildir.clone()));
        wanted.push((place(vm.name.as_str(), "logdir"), vm.logdir.clone()));
    }
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, path) in wanted {
        let steps: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
        for step in steps.into_iter().rev() {
            if seen.insert(step.clone()) {
                // Any user could take the pid file of a VM first.
                let sticky_is_enough = step != global.rundir;
                findings.extend(fault(&step, sticky_is_enough).map(|(problem, what)| {
                    Finding::new(&place, format!("{} {problem}", step.display()), what)
                }));
            }
        }
    }
    findings
}

/// The fault of a directory, if it has one; a missing one is made as it should be.
fn fault(path: &Path, sticky_is_enough: bool) -> Option<(String, String)> {
    let found = fs::metadata(path).ok()?;
    let shown = path.display();
    if !found.is_dir() {
        return Some(("is not a directory".into(), "name another one".into()));
    }
    if found.uid() != 0 {
        let problem = format!(
            "belongs to user ID {}, who could replace what root uses",
            found.uid()
        );
        return Some((problem, format!("chown root {shown}")));
    }
    let mode = found.mode() & 0o7777;
    if mode & WRITABLE != 0 && !(sticky_is_enough && mode & STICKY != 0) {
        let problem = format!("can be changed by others than root (mode {mode:04o})");
        return Some((problem, format!("chmod go-w {shown}")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn others_must_not_exchange_directories() {
        let dir = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let text = "[vm1]\nvmuser = nobody\nmem = 64\nlogdir = DIR/log\n";
        assert_eq!(findings(check, text, dir.path()), [""; 0]);
        let (log, run) = (dir.path().join("log"), dir.path().join("run"));
        fs::create_dir(&log).unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(&run, "").unwrap();
        std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
        let found = findings(check, text, dir.path());
        let owner = format!(
            "umlmon:2: {0} belongs to user ID 65534, who could replace what root uses; chown root {0}\n",
            dir.path().display()
        );
        assert!(found.contains(&owner), "{found:?}");
        std::os::unix::fs::chown(dir.path(), Some(0), None).unwrap();
        let (log, run) = (log.display(), run.display());
        assert_eq!(
            findings(check, text, dir.path()),
            [
                format!("umlmon:3: {run} is not a directory; name another one\n"),
                format!(
                    "umlmon:7: {log} can be changed by others than root (mode 0777); chmod go-w {log}\n"
                ),
            ]
        );
    }

    #[test]
    fn a_run_directory_that_others_can_write_is_told() {
        let dir = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let run = dir.path().join("run");
        fs::create_dir(&run).unwrap();
        // As /tmp; that is good enough for directories above.
        fs::set_permissions(&run, fs::Permissions::from_mode(0o1777)).unwrap();
        let text = "[vm1]\nvmuser = nobody\nmem = 64\n";
        let run = run.display();
        assert_eq!(
            findings(check, text, dir.path()),
            [format!(
                "umlmon:3: {run} can be changed by others than root (mode 1777); chmod go-w {run}\n"
            )]
        );
    }
}
