//! Which of the walls around the VMs this host and this configuration leave out (umladmin). docs/SECURITY.md says what
//! each of them is for.

use super::subject::{Finding, Subject};

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mut findings: Vec<_> = missing(subject, jail::has_landlock()).into_iter().collect();
    let on_host = subject.vms.iter().filter(|vm| vm.is_in_network_of_host());
    findings.extend(on_host.map(|vm| {
        let name = vm.name.as_str();
        let raw = vm.eth.iter().find(|(_, nic)| matches!(nic, config::Nic::Raw(_)));
        let param = raw.map_or("kernelarg".to_owned(), |(number, _)| format!("eth{number}"));
        Finding::note(
            subject.places.param(name, &param),
            format!(
                "{name} is in the network namespace of the host, because this is in the kernel's own words: \
                 whoever breaks out of it reaches abstract sockets of the host's programs"
            ),
            "use host_to_host or bridged if one of them can do it",
        )
    }));
    findings
}

/// What the host does not have.
fn missing(subject: &Subject, landlock: bool) -> Option<Finding> {
    let is_told = !landlock && !subject.vms.is_empty();
    is_told.then(|| {
        Finding::note(
            "this host",
            "has no Landlock, so only the jail keeps VMs away from the host's files",
            "boot a kernel of 5.13 or later with landlock in CONFIG_LSM or in the parameter lsm=",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;

    const VM: &str = "[vm1]\nvmuser = nobody\nmem = 64\n";

    #[test]
    fn a_vm_in_the_network_of_the_host_is_told() {
        let dir = std::path::Path::new("/nonexistent");
        let own = |line: &str| {
            let said = findings(check, &format!("{VM}{line}\n"), dir);
            said.into_iter()
                .find(|line| line.contains("is in the network namespace"))
        };
        let told = own("eth3 = tuntap,tap7").unwrap();
        assert!(
            told.starts_with("umlmon:7: note: vm1 is in the network namespace of the host"),
            "{told}"
        );
        assert!(own("kernelarg = vec0:transport=tap").is_some());
        assert_eq!(
            own("eth0 = bridged(bridge_if=br0,proxy_if=p0,proxy_hwaddr=pool,guest_hwaddr=pool)"),
            None
        );
    }

    #[test]
    fn a_host_without_landlock_is_told() {
        let dir = std::path::Path::new("/nonexistent");
        let told = |text: &str| {
            findings(
                |subject| missing(subject, false).into_iter().collect(),
                text,
                dir,
            )
        };
        let [note] = &told(VM)[..] else { panic!() };
        assert!(
            note.starts_with("this host: note: has no Landlock"),
            "{note}"
        );
        assert_eq!(told(""), [""; 0]);
        assert!(
            findings(
                |subject| missing(subject, true).into_iter().collect(),
                VM,
                dir
            )
            .is_empty()
        );
    }
}
