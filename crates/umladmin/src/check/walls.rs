//! Which of the walls around the VMs this host and this configuration leave out (umladmin). docs/SECURITY.md says what
//! each of them is for.

use super::subject::{Finding, Subject};

const GROUPS: &str = "mount cgroup2 with this controller on /sys/fs/cgroup, as systemd does; in a container, let it have groups \
                      of its own";

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let host = Host {
        landlock: jail::has_landlock(),
        without: jail::missing_controllers(),
    };
    let mut findings = missing(subject, &host);
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

/// The walls of the host.
struct Host {
    landlock: bool,
    /// The controllers of control groups that it lacks, with the reasons.
    without: Vec<(&'static str, String)>,
}

/// What the host does not have.
fn missing(subject: &Subject, host: &Host) -> Vec<Finding> {
    if subject.vms.is_empty() {
        return Vec::new();
    }
    let landlock = (!host.landlock).then(|| {
        Finding::note(
            "this host",
            "has no Landlock, so only the jail keeps VMs away from the host's files",
            "boot a kernel of 5.13 or later with landlock in CONFIG_LSM or in the parameter lsm=",
        )
    });
    let groups = host.without.iter().map(|(controller, why)| {
        let effect = match *controller {
            "memory" => "overhead_limit has no effect",
            "pids" => "pids_limit counts all processes of the user",
            "cpu" => "a busy VM slows the others down, and cpu_limit has no effect",
            _ => "a VM that uses its disks a lot slows the others down",
        };
        let problem = format!("has no control groups with {controller}, so {effect} ({why})");
        Finding::note("this host", problem, GROUPS)
    });
    landlock.into_iter().chain(groups).collect()
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
    fn the_walls_that_a_host_lacks_are_told() {
        let dir = std::path::Path::new("/nonexistent");
        let none: fn(&Subject) -> Vec<Finding> = |subject| {
            let without = vec![("memory", "why".to_owned()), ("cpu", "why".to_owned())];
            let landlock = false;
            missing(subject, &Host { landlock, without })
        };
        let told = findings(none, VM, dir);
        let [landlock, memory, cpu] = &told[..] else {
            panic!("{told:?}")
        };
        let begins = |line: &str, text| assert!(line.starts_with(text), "{line}");
        begins(landlock, "this host: note: has no Landlock");
        begins(
            memory,
            "this host: note: has no control groups with memory, so overhead_limit has no effect (why); mount",
        );
        begins(
            cpu,
            "this host: note: has no control groups with cpu, so a busy VM",
        );
        assert_eq!(findings(none, "", dir), [""; 0]);
        let all: fn(&Subject) -> Vec<Finding> = |subject| {
            let (landlock, without) = (true, Vec::new());
            missing(subject, &Host { landlock, without })
        };
        assert_eq!(findings(all, VM, dir), [""; 0]);
    }
}
