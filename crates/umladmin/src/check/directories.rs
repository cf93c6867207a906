//! The directories that root works in: owned by root, and exchangeable by root only (umladmin).

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::subject::{AS_ROOT, Finding, Subject};

/// Writable by the group or by others.
const WRITABLE: u32 = 0o022;
/// Only the owner of a file may rename it.
const STICKY: u32 = 0o1000;

/// A directory, and where it is configured.
type Placed = (String, PathBuf);

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let configured = configured(subject);
    let used: BTreeSet<&Path> = configured.iter().map(|(_, path)| path.as_path()).collect();
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, path) in &configured {
        let steps: Vec<&Path> = path.ancestors().collect();
        for step in steps.into_iter().rev() {
            if seen.insert(step) {
                // Where root makes files, any user could take their names first.
                let sticky_is_enough = !used.contains(step);
                findings.extend(fault(step, sticky_is_enough).map(|(problem, what)| {
                    Finding::new(place, format!("{} {problem}", step.display()), what)
                }));
            }
        }
    }
    let below = below(subject);
    findings.extend(below.iter().filter_map(link));
    findings.extend(read_only(configured.iter().chain(&below)));
    findings
}

/// The directories that are named in the configuration, or have a default there.
fn configured(subject: &Subject) -> Vec<Placed> {
    let global = &subject.config.global;
    let place = |section: &str, param: &str| subject.places.param(section, param);
    let mut all = vec![
        (place("GLOBAL", "vardir"), global.vardir.clone()),
        (place("GLOBAL", "shared"), global.shared.clone()),
        (place("GLOBAL", "rundir"), global.rundir.clone()),
    ];
    for vm in &subject.vms {
        all.push((place(vm.name.as_str(), "jaildir"), vm.jaildir.clone()));
        all.push((place(vm.name.as_str(), "logdir"), vm.logdir.clone()));
    }
    all
}

/// The directories that are never reached through a link.
fn below(subject: &Subject) -> Vec<Placed> {
    let global = &subject.config.global;
    let place = subject.places.param("GLOBAL", "shared");
    let shared = ["disks", "kernels", "locks", "macpool"];
    let mut all: Vec<Placed> = shared
        .map(|name| (place.clone(), global.shared.join(name)))
        .into();
    for vm in &subject.vms {
        let place = |param| subject.places.param(vm.name.as_str(), param);
        let inside = ["disks", "tmp", "shared"];
        all.extend(inside.map(|name| (place("jaildir"), vm.jaildir.join(name))));
        all.push((place("logdir"), vm.logdir.clone()));
    }
    all
}

fn link((place, path): &Placed) -> Option<Finding> {
    let is_link = fs::symlink_metadata(path).ok()?.is_symlink();
    is_link.then(|| {
        let shown = path.display();
        Finding::new(
            place,
            format!("{shown} is a symbolic link, which root does not follow there"),
            format!("make it a directory; to have it elsewhere, mount that on it: mount --bind DIRECTORY {shown}"),
        )
    })
}

/// The file systems that cannot be written, each once. Shared disks and kernels are only read.
fn read_only<'a>(directories: impl Iterator<Item = &'a Placed>) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for (place, path) in directories {
        let is_read = path.ends_with("shared/disks") || path.ends_with("shared/kernels");
        let there = path.ancestors().find(|path| path.exists());
        let Some(there) = there.filter(|_| !is_read) else {
            continue;
        };
        let device = fs::metadata(there).map(|found| found.dev()).ok();
        let flags = statvfs(there).map(|found| found.f_flag);
        if flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY)) && seen.insert(device)
        {
            findings.push(Finding::new(
                place,
                format!(
                    "{} is on a file system that is mounted read-only",
                    path.display()
                ),
                "mount it read-write (mount -o remount,rw), or name a directory elsewhere",
            ));
        }
    }
    findings
}

/// The fault of a directory, if it has one; a missing one is made as it should be.
fn fault(path: &Path, sticky_is_enough: bool) -> Option<(String, String)> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return Some((format!("cannot be examined: {error}"), AS_ROOT.into())),
    };
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

    const VM: &str = "[vm1]\nvmuser = nobody\nmem = 64\n";

    /// I19
    #[test]
    fn a_sticky_bit_is_not_enough_where_root_makes_files() {
        let dir = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (var, above) = (dir.path().join("var"), dir.path());
        fs::create_dir(&var).unwrap();
        for path in [above, &var] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o1777)).unwrap();
        }
        let var = var.display();
        assert_eq!(
            findings(check, VM, above),
            [format!(
                "umlmon:2: {var} can be changed by others than root (mode 1777); chmod go-w {var}\n"
            )]
        );
    }

    /// I19
    #[test]
    fn links_where_root_follows_none_are_told() {
        let dir = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        for (parent, name, line) in [
            ("var/shared", "kernels", 1),
            ("var/vm1/jail", "disks", 4),
            ("var/vm1", "log", 4),
        ] {
            let parent = dir.path().join(parent);
            fs::create_dir_all(&parent).unwrap();
            let link = parent.join(name);
            std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
            let found = findings(check, VM, dir.path()).concat();
            let expected = format!(
                "umlmon:{line}: {} is a symbolic link, which root does not follow there; make it",
                link.display()
            );
            assert!(found.starts_with(&expected), "{found}");
            fs::remove_file(link).unwrap();
        }
        // Above them they may be.
        fs::remove_dir_all(dir.path().join("var")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("var")).unwrap();
        assert_eq!(findings(check, VM, dir.path()), [""; 0]);
    }
}
