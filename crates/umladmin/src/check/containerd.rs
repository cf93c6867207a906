//! The VMs of pods: what their template sets, and what the shim of containerd needs (umladmin).

use std::path::Path;

use monitors::choice;
use monitors::pods::{self, TEMPLATE};

use super::subject::{Finding, Subject};

/// Where the shim is looked for: containerd finds it by its search path.
const SHIM: &str = "containerd-shim-uml-v2";
/// What makes images of root directories, and its package.
const TOOL: (&str, &str) = ("mke2fs", "e2fsprogs");

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| {
        std::env::split_paths(&search).any(|directory| directory.join(program).is_file())
    };
    check_with(subject, &is_there)
}

fn check_with(subject: &Subject, is_there: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let section = format!("template {TEMPLATE}");
    let place = |param: &str| subject.places.param(&section, param);
    let has_template = subject.places.has(&section, "");
    if !has_template && !is_there(SHIM) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if !is_there(SHIM) {
        let what = format!("there is no {SHIM}, which makes VMs of pods");
        findings.push(Finding::new(
            place(""),
            what,
            "install the package umlmon-containerd",
        ));
    }
    if !is_there(TOOL.0) {
        let what = format!("there is no {}, which makes images for pods", TOOL.0);
        findings.push(Finding::new(
            place(""),
            what,
            format!("install the package {}", TOOL.1),
        ));
    }
    let global = &subject.config.global;
    match pods::settings(&subject.config) {
        Err(why) => findings.push(Finding::new(place(""), why, "remove the line")),
        Ok(settings) => {
            let kernel = settings.iter().find(|setting| setting.param == "kernel");
            let kernel =
                kernel.map(|setting| pods::kernel_on_host(global, Path::new(&setting.value)));
            if let Err(why) = choice::kernel(global, kernel.as_deref()) {
                let what = format!("pods have no kernel: {why}");
                findings.push(Finding::new(place("kernel"), what, ""));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;

    fn with_nothing(subject: &Subject) -> Vec<Finding> {
        check_with(subject, &|_| false)
    }

    fn with_all(subject: &Subject) -> Vec<Finding> {
        check_with(subject, &|_| true)
    }

    #[test]
    fn what_pods_need_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(findings(with_nothing, "", directory.path()), [""; 0]);
        let text = "[template containerd]\nmem = 96\nkernel = /shared/kernels/none\n";
        let all = findings(with_nothing, text, directory.path());
        let expected = [
            "umlmon:4: there is no containerd-shim-uml-v2",
            "umlmon:4: there is no mke2fs",
            "umlmon:6: pods have no kernel: ",
        ];
        assert_eq!(all.len(), expected.len(), "{all:?}");
        for (told, expected) in all.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}");
        }
        let text = "[template containerd]\nubd0 = /disks/a.dsk\n";
        let all = findings(with_all, text, directory.path());
        assert!(
            matches!(&all[..], [one] if one.contains("sets ubd0")),
            "{all:?}"
        );
    }
}
