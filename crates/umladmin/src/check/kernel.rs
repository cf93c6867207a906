//! The kernels: there, executable, and with everything they need to be loaded (umladmin).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use config::{JailPath, Vm};
use jail::Program;
use monitors::look;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::subject::{Finding, Subject, remedy};

/// Looks at what a program needs, and whether it is there.
type Look = fn(&Program) -> Result<Vec<(PathBuf, PathBuf)>, String>;

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    check_by(subject, look::libraries)
}

fn check_by(subject: &Subject, look: Look) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for vm in &subject.vms {
        let place = subject.places.param(vm.name.as_str(), "kernel");
        let Some(kernel) = &vm.kernel else {
            findings.push(Finding::new(
                place,
                format!("{} has no kernel, and cannot be started", vm.name),
                "set kernel = /shared/kernels/linux",
            ));
            continue;
        };
        let path = on_host(&subject.config.global.shared, vm, kernel);
        if !seen.insert(path.clone()) {
            continue;
        }
        if let Some((problem, suggestion)) = fault(&path, look) {
            let shown = path.display();
            findings.push(Finding::new(
                place,
                format!("the kernel {shown} {problem}"),
                suggestion,
            ));
        }
    }
    findings
}

/// Where a file of the jail is on the host.
pub(super) fn on_host(shared: &Path, vm: &Vm, path: &JailPath) -> PathBuf {
    let inside = Path::new(path.as_str());
    match inside.strip_prefix("/shared") {
        Ok(rest) => shared.join(rest),
        Err(_) => vm.jaildir.join(inside.strip_prefix("/").unwrap_or(inside)),
    }
}

fn fault(path: &Path, look: Look) -> Option<(String, String)> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            let suggestion = format!("copy one there, for instance: cp /usr/bin/linux.uml {shown}");
            let suggestion = remedy(&error, suggestion);
            return Some((format!("cannot be used: {error}"), suggestion));
        }
    };
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Some((
            "is not an executable file".into(),
            format!("chmod +x {shown}"),
        ));
    }
    if statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        let suggestion = "remount it with exec, or put the kernel elsewhere";
        return Some((
            "is on a file system that is mounted noexec".into(),
            suggestion.into(),
        ));
    }
    let program = match Program::on_host(path) {
        Ok(program) => program,
        Err(error) => return Some((format!("cannot be used: {error}"), String::new())),
    };
    if let Some(why) = program.doubt() {
        return Some((
            format!("can be changed by others than root: {why}"),
            "make it root's, and writable by root only".into(),
        ));
    }
    let error = look(&program).err()?;
    let suggestion =
        format!("put the missing files into {shown}.lib, or use a statically linked kernel");
    Some((format!("cannot be loaded: {error}"), suggestion))
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;
    use jail::Needs;

    struct Kernels(tempfile::TempDir);

    impl Kernels {
        fn new() -> Kernels {
            let kernels = Kernels(tempfile::tempdir().unwrap());
            fs::create_dir_all(kernels.path("")).unwrap();
            kernels
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("var/shared/kernels").join(name)
        }

        fn put(&self, name: &str, content: &[u8], mode: u32) {
            fs::write(self.path(name), content).unwrap();
            self.set_mode(name, mode);
        }

        fn set_mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        /// What is said of a VM with this line.
        fn with(&self, line: &str) -> String {
            // In this process, as it is no umladmin that can be executed anew.
            let check = |subject: &Subject| {
                check_by(subject, |program| {
                    let found = jail::libraries(program, &Needs::read);
                    found.map_err(|error| error.to_string())
                })
            };
            let text = format!("[vm1]\nvmuser = nobody\nmem = 64\n{line}\n");
            findings(check, &text, self.0.path()).concat()
        }

        #[track_caller]
        fn says(&self, name: &str, expected: &str) {
            let said = self.with(&format!("kernel = /shared/kernels/{name}"));
            assert!(said.contains(expected), "{said}");
            assert!(said.starts_with("umlmon:7: the kernel "), "{said}");
        }
    }

    #[test]
    fn kernels_that_cannot_run() {
        let kernels = Kernels::new();
        kernels.put("closed", b"", 0o644);
        kernels.says("missing", "No such file");
        kernels.says("closed", "is not an executable file; chmod +x");
        let said = kernels.with("");
        assert!(said.contains("umlmon:4: vm1 has no kernel"), "{said}");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        kernels.put("text", b"#!/bin/sh\n", 0o755);
        kernels.says("text", "cannot be loaded");
        let mut needy = fs::read("/bin/true").unwrap();
        kernels.put("true", &needy, 0o755);
        assert_eq!(kernels.with("kernel = /shared/kernels/true"), "");
        let library = b"libc.so.6\0";
        let mut places = needy.windows(library.len());
        let at = places.position(|part| part == library).unwrap();
        needy[at] = b'x';
        kernels.put("needy", &needy, 0o755);
        kernels.says("needy", "xibc.so.6");
        let needy = kernels.path("needy");
        let advice = format!(
            "put the missing files into {}.lib, or use a statically linked",
            needy.display()
        );
        kernels.says("needy", &advice);
    }

    #[test]
    fn kernels_that_others_can_change_or_replace() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let kernels = Kernels::new();
        kernels.put("linux", &fs::read("/bin/true").unwrap(), 0o777);
        kernels.says("linux", "linux can be changed by others than root: ");
        kernels.says("linux", "linux is writable by everybody; make it root's");
        kernels.set_mode("linux", 0o755);
        assert_eq!(kernels.with("kernel = /shared/kernels/linux"), "");
        kernels.set_mode("", 0o777);
        kernels.says("linux", "kernels is writable by everybody; make it root's");
    }
}
