//! The kernels: there, executable, and with everything they need to be loaded (umladmin).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use config::{JailPath, Vm};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::subject::{Finding, Subject, remedy};

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
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
        if let Some((problem, suggestion)) = fault(&path) {
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

fn fault(path: &Path) -> Option<(String, String)> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            let suggestion = format!("copy one there, for instance: cp /usr/bin/linux.uml {shown}");
            let suggestion = remedy(&error, suggestion);
            return Some((format!("cannot be used: {error}"), suggestion));
        }
    };
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Some((
            "is not an executable file".into(),
            format!("chmod +x {shown}"),
        ));
    }
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        let problem = "can be changed by others than root";
        return Some((
            problem.into(),
            format!("chown root {shown}; chmod go-w {shown}"),
        ));
    }
    if statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        let suggestion = "remount it with exec, or put the kernel elsewhere";
        return Some((
            "is on a file system that is mounted noexec".into(),
            suggestion.into(),
        ));
    }
    let error = jail::libraries(path).err()?;
    let suggestion =
        format!("put the missing files into {shown}.lib, or use a statically linked kernel");
    Some((format!("cannot be loaded: {error}"), suggestion))
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn kernels_that_cannot_run() {
        let dir = tempfile::tempdir().unwrap();
        let kernels = dir.path().join("var/shared/kernels");
        fs::create_dir_all(&kernels).unwrap();
        let put = |name: &str, content: &[u8], mode| {
            fs::write(kernels.join(name), content).unwrap();
            fs::set_permissions(kernels.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        put("text", b"#!/bin/sh\n", 0o755);
        put("closed", b"", 0o644);
        put("true", &fs::read("/bin/true").unwrap(), 0o755);
        let vm =
            |name: &str, kernel: &str| format!("[{name}]\nvmuser = nobody\nmem = 64\n{kernel}\n");
        let of = |kernel: &str| {
            let text = vm("vm1", &format!("kernel = /shared/kernels/{kernel}"));
            findings(check, &text, dir.path()).concat()
        };
        assert!(of("missing").contains("No such file"));
        assert!(of("closed").contains("is not an executable file; chmod +x"));
        assert!(
            findings(check, &vm("vm1", ""), dir.path())
                .concat()
                .contains("umlmon:4: vm1 has no kernel")
        );
        if rustix::process::geteuid().is_root() {
            assert!(
                of("text").starts_with("umlmon:7: the kernel ")
                    && of("text").contains("cannot be loaded")
            );
            assert_eq!(of("true"), "");
            let mut needy = fs::read("/bin/true").unwrap();
            let library = b"libc.so.6\0";
            let at = needy
                .windows(library.len())
                .position(|part| part == library);
            needy[at.unwrap()] = b'x';
            put("needy", &needy, 0o755);
            let (said, path) = (of("needy"), kernels.join("needy"));
            assert!(
                said.starts_with("umlmon:7: the kernel ") && said.contains("xibc.so.6"),
                "{said}"
            );
            let advice = format!(
                "put the missing files into {}.lib, or use a statically linked",
                path.display()
            );
            assert!(said.contains(&advice), "{said}");
            put("open", &needy, 0o777);
            assert!(of("open").contains("open can be changed by others than root; chown root "));
        }
    }
}
