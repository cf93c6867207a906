//! What the host must have: memory, networks, services (umladmin).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use config::{Nic, StartType};
use net::user::PROGRAM;

use super::subject::{Finding, Subject};

const TUN: &str = "/dev/net/tun";
const MAPPINGS: &str = "/proc/sys/vm/max_map_count";
/// As many mappings as a large build in a guest needs, and as newer distributions allow.
const ENOUGH_MAPPINGS: u64 = 1_048_576;
/// Pages of 4 KB in a megabyte.
const PAGES: u64 = 256;

/// Memory for the guests, and a file system that can hold it.
pub(super) fn memory(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let host = fs::read_to_string("/proc/meminfo").ok();
    if let Some(total) = host.as_deref().and_then(total_megabytes) {
        findings.extend(too_much(subject, total));
    }
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    findings.extend(no_tmpfs(&systems));
    findings
}

fn no_tmpfs(systems: &str) -> Option<Finding> {
    let is_there = systems.contains("\ttmpfs\n");
    (!is_there).then(|| {
        Finding::new(
            "/proc/filesystems",
            "this host has no tmpfs, which holds the memory of guests",
            "boot a kernel with CONFIG_TMPFS",
        )
    })
}

fn total_megabytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes / 1024)
}

fn too_much(subject: &Subject, total: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for vm in subject.vms.iter().filter(|vm| u64::from(vm.mem) > total) {
        findings.push(Finding::new(
            subject.places.param(vm.name.as_str(), "mem"),
            format!(
                "{} is configured with {} MB of memory, but this host has {total}",
                vm.name, vm.mem
            ),
            "reduce mem",
        ));
    }
    let booted = subject.vms.iter().filter(|vm| vm.start == StartType::Boot);
    let sum: u64 = booted.map(|vm| u64::from(vm.mem)).sum();
    if sum > total && findings.is_empty() {
        findings.push(Finding::new(
            subject.places.path().display(),
            format!("the VMs with start = boot are configured with {sum} MB of memory together, but this host has {total}"),
            "reduce mem, or start fewer; guests that use all their memory would end with bus errors",
        ));
    }
    findings
}

/// As many mappings as a process of a guest may need: each piece of its memory is one on the host.
pub(super) fn mappings(subject: &Subject) -> Vec<Finding> {
    let allowed = fs::read_to_string(MAPPINGS).ok();
    let allowed = allowed.and_then(|number| number.trim().parse().ok());
    allowed.map_or_else(Vec::new, |allowed| too_few(subject, allowed))
}

/// A piece has at least one page, so a guest whose pages are fewer than the mappings never has too few of them.
fn too_few(subject: &Subject, allowed: u64) -> Vec<Finding> {
    let largest = subject.vms.iter().max_by_key(|vm| vm.mem);
    let note = largest.filter(|vm| allowed < ENOUGH_MAPPINGS.min(u64::from(vm.mem) * PAGES));
    let note = note.map(|vm| {
        Finding::note(
            MAPPINGS,
            format!(
                "{allowed} mappings for each process are few for the {} MB of {}: large programs of the guest, such as \
                 compilers, end with SIGSEGV",
                vm.mem, vm.name
            ),
            format!("sysctl vm.max_map_count={ENOUGH_MAPPINGS}"),
        )
    });
    note.into_iter().collect()
}

/// The tun device, and the interfaces that networks are attached to.
pub(super) fn networks(subject: &Subject) -> Vec<Finding> {
    networks_by(subject, Path::new(TUN))
}

fn networks_by(subject: &Subject, tun: &Path) -> Vec<Finding> {
    let mut findings = taken_twice(subject);
    let mut tun_is_told = fs::metadata(tun).is_ok_and(|found| found.file_type().is_char_device());
    for vm in &subject.vms {
        for (number, nic) in &vm.eth {
            let place = subject
                .places
                .param(vm.name.as_str(), &format!("eth{number}"));
            if let Some(doubt) = nic.doubt() {
                let suggestion = "write one of the forms in umlmon(5), NETWORK INTERFACES, or what the kernel knows";
                findings.push(Finding::new(&place, doubt, suggestion));
            }
            let (interface, bridge) = match nic {
                Nic::Raw(_) => continue,
                Nic::HostToHost { host_if, .. } => (host_if.as_ref(), false),
                Nic::Bridged { bridge_if, .. } => (Some(bridge_if), true),
                Nic::Nat { .. } | Nic::User { .. } | Nic::Netns { .. } => (None, false),
            };
            findings.extend(missing(nic, &place));
            if !std::mem::replace(&mut tun_is_told, true) {
                let problem = format!("{TUN} is missing; networks need it");
                findings.push(Finding::new(&place, problem, "modprobe tun"));
            }
            let Some(interface) = interface.map(ToString::to_string) else {
                continue;
            };
            // Not in /sys, which may be that of another network namespace. If the query fails, nothing is reported.
            let Ok(found) = net::kind(&interface) else {
                continue;
            };
            if found.is_none() {
                let suggestion = match bridge {
                    true => format!(
                        "create it: ip link add {interface} type bridge; ip link set {interface} up"
                    ),
                    false => "name an interface that ip link shows".to_owned(),
                };
                let problem = format!("there is no interface {interface} on this host");
                findings.push(Finding::new(place, problem, suggestion));
            } else if bridge && found != Some(net::Kind::Bridge) {
                let problem = format!("the interface {interface} is not a bridge");
                findings.push(Finding::new(
                    place,
                    problem,
                    "name a bridge, or use host_to_host",
                ));
            }
        }
    }
    findings
}

/// What a network needs of the host, besides interfaces, and is not there.
fn missing(nic: &Nic, place: &str) -> Option<Finding> {
    match nic {
        Nic::Nat { .. } => net::networks::missing().map(|(program, package)| {
            let problem = format!("nat(...) needs {program}, which is not there");
            Finding::new(place, problem, format!("apt install {package}"))
        }),
        Nic::User { .. } if !Path::new(PROGRAM).exists() => {
            let problem = format!("user(...) needs {PROGRAM}, which is not there");
            Some(Finding::new(place, problem, "apt install slirp4netns"))
        }
        // Somebody else makes it, perhaps not before the VM is to start.
        Nic::Netns { path, .. } if !path.exists() => {
            let problem = format!("there is no network namespace {} now", path.display());
            let suggestion = "make it before the VM starts, as with ip netns add";
            Some(Finding::note(place, problem, suggestion))
        }
        _ => None,
    }
}

/// Names of interfaces on the host, and addresses, that only one VM at a time can have.
fn taken_twice(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for vm in &subject.vms {
        for (number, nic) in &vm.eth {
            let (name, param) = (vm.name.as_str(), format!("eth{number}"));
            let place = subject.places.param(name, &param);
            let interface = nic.proxy_if().map(|name| format!("the interface {name}"));
            let address = match nic {
                Nic::HostToHost { guest_addr, .. } => Some(format!("the address {guest_addr}")),
                Nic::Netns { path, interface } => {
                    Some(format!("the interface {interface} of {}", path.display()))
                }
                _ => None,
            };
            for thing in interface.into_iter().chain(address) {
                let user = format!("{param} of {name}");
                if let Some(other) = first.get(&thing) {
                    findings.push(Finding::new(
                        &place,
                        format!("{other} and {user} have {thing}: only one can use it at a time"),
                        "choose another one",
                    ));
                } else {
                    first.insert(thing, user);
                }
            }
        }
    }
    findings
}

/// The names of the TCP ports that have no numbers.
pub(super) fn services(subject: &Subject) -> Vec<Finding> {
    unnumbered(
        subject,
        &fs::read_to_string("/etc/services").unwrap_or_default(),
    )
}

fn unnumbered(subject: &Subject, services: &str) -> Vec<Finding> {
    let global = &subject.config.global;
    let wanted = [
        (
            "umldir",
            "umldir_port",
            (global.tcp || global.tcp_redir) && global.umldir_port.is_none(),
        ),
        (
            "umlredir",
            "umlredir_port",
            global.tcp_redir && global.umlredir_port.is_none(),
        ),
    ];
    let missing = wanted
        .iter()
        .filter(|(name, _, needed)| *needed && !has_service(services, name));
    missing
        .map(|(name, param, _)| {
            Finding::new(
                subject.places.param(
                    "GLOBAL",
                    match global.tcp_redir {
                        true => "tcp_redir",
                        false => "tcp",
                    },
                ),
                format!("/etc/services has no TCP port for {name}"),
                format!("add it there (see etc/services of the package), or set {param}"),
            )
        })
        .collect()
}

fn has_service(services: &str, name: &str) -> bool {
    services.lines().any(|line| {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let own = words.next();
        let port = words.next().unwrap_or_default();
        port.ends_with("/tcp") && (own == Some(name) || words.any(|alias| alias == name))
    })
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;

    #[test]
    fn memory_of_the_host() {
        assert_eq!(
            total_megabytes("MemFree: 1 kB\nMemTotal:       16384000 kB\n"),
            Some(16000)
        );
        let dir = tempfile::tempdir().unwrap();
        let vm = |name: &str, mem: u32| {
            format!("[{name}]\nvmuser = nobody\nmem = {mem}\nstart = boot\n")
        };
        let check = |subject: &Subject| too_much(subject, 1000);
        let found = findings(check, &(vm("a", 600) + &vm("b", 400)), dir.path());
        assert_eq!(found, [""; 0]);
        let found = findings(check, &(vm("a", 600) + &vm("b", 500)), dir.path()).concat();
        assert!(found.contains("1100 MB of memory together"), "{found}");
        let found = findings(check, &vm("a", 1001), dir.path()).concat();
        assert!(
            found.starts_with("umlmon:6: a is configured with 1001 MB"),
            "{found}"
        );
    }

    #[test]
    fn mappings_of_a_process() {
        let dir = Path::new("/nonexistent");
        let vms = "[a]\nvmuser = nobody\nmem = 64\n[b]\nvmuser = nobody\nmem = 256\n";
        let check: fn(&Subject) -> Vec<Finding> = |subject| too_few(subject, 65_530);
        assert_eq!(
            findings(check, vms, dir),
            [
                "/proc/sys/vm/max_map_count: note: 65530 mappings for each process are few for the 256 MB of b: large \
                 programs of the guest, such as compilers, end with SIGSEGV; sysctl vm.max_map_count=1048576\n"
            ]
        );
        let enough: fn(&Subject) -> Vec<Finding> = |subject| too_few(subject, 65_536);
        assert_eq!(findings(enough, vms, dir), [""; 0]);
        let large = vms.replace("256", "8G");
        assert_eq!(findings(enough, &large, dir).len(), 1);
        let more: fn(&Subject) -> Vec<Finding> = |subject| too_few(subject, ENOUGH_MAPPINGS);
        assert_eq!(findings(more, &large, dir), [""; 0]);
        assert_eq!(findings(check, "", dir), [""; 0]);
    }

    #[test]
    fn interfaces_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[a]\nvmuser = nobody\nmem = 64\neth0 = bridged(bridge_if=lo, proxy_if=tapa)\n\
            eth1 = bridged(bridge_if=nobr7, proxy_if=tapb)\n";
        let found = findings(networks, text, dir.path()).concat();
        assert!(
            found.contains("umlmon:7: the interface lo is not a bridge"),
            "{found}"
        );
        assert!(found.contains(
            "umlmon:8: there is no interface nobr7 on this host; create it: ip link add"
        ));
    }

    #[test]
    fn interfaces_of_namespaces() {
        let vm = |name: &str| {
            format!(
                "[{name}]\nvmuser = nobody\nmem = 64\neth0 = netns(path=/nonexistent/pod, if=eth0)\n"
            )
        };
        let found = findings(networks, &(vm("a") + &vm("b")), Path::new("/nonexistent"));
        let [twice, missing, _] = &found[..] else {
            panic!("{found:?}")
        };
        let wanted =
            "eth0 of a and eth0 of b have the interface eth0 of /nonexistent/pod: only one";
        assert!(twice.contains(wanted), "{twice}");
        assert!(
            missing.contains(
                "note: there is no network namespace /nonexistent/pod now; make it before"
            ),
            "{missing}"
        );
    }

    #[test]
    fn text_that_no_kernel_knows() {
        let text = "[a]\nvmuser = nobody\nmem = 64\neth0 = tuntpa,tap0\neth1 = tuntap,tap1\n";
        let found = findings(networks, text, Path::new("/nonexistent"));
        let [found] = &found[..] else {
            panic!("{found:?}")
        };
        let wanted = "umlmon:7: \"tuntpa\" is no network transport of the kernel; did you mean \"tuntap\"?; write";
        assert!(found.starts_with(wanted), "{found}");
    }

    #[test]
    fn interfaces_and_addresses_of_two_vms() {
        let dir = tempfile::tempdir().unwrap();
        let vm = |name: &str, proxy: &str, address: &str| {
            format!(
                "[{name}]\nvmuser = nobody\nmem = 64\n\
                 eth0 = host_to_host(proxy_if={proxy}, proxy_addr=10.0.0.1, guest_addr={address})\n"
            )
        };
        let text = vm("a", "x", "10.0.0.2") + &vm("b", "x", "10.0.0.3") + &vm("c", "y", "10.0.0.2");
        let check = |subject: &Subject| networks_by(subject, Path::new("/dev/null"));
        assert_eq!(
            findings(check, &text, dir.path()),
            [
                "umlmon:11: eth0 of a and eth0 of b have the interface x: only one can use it at a time; \
                 choose another one\n",
                "umlmon:15: eth0 of a and eth0 of c have the address 10.0.0.2: only one can use it at a time; \
                 choose another one\n",
            ]
        );
        let check = |subject: &Subject| networks_by(subject, Path::new("/dev/no/tun"));
        let found = findings(check, &vm("a", "x", "10.0.0.2"), dir.path());
        let wanted = "umlmon:7: /dev/net/tun is missing; networks need it; modprobe tun\n";
        assert_eq!(found, [wanted]);
    }

    #[test]
    fn a_host_without_tmpfs() {
        assert_eq!(no_tmpfs("nodev\tsysfs\nnodev\ttmpfs\n"), None);
        let line = no_tmpfs("nodev\tdevtmpfs\n").unwrap().line();
        assert!(
            line.starts_with("/proc/filesystems: this host has no tmpfs"),
            "{line}"
        );
    }

    #[test]
    fn ports_without_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let found = |global: &str, services: &'static str| {
            // Not a closure of the text, as a check is a function.
            let check = match services {
                "" => |subject: &Subject| unnumbered(subject, ""),
                _ => {
                    |subject: &Subject| unnumbered(subject, "umldir 8871/tcp\numlredir 8872/tcp\n")
                }
            };
            findings(check, global, dir.path())
        };
        let missing = |line: u8, name: &str| {
            format!(
                "umlmon:{line}: /etc/services has no TCP port for {name}; add it there \
                 (see etc/services of the package), or set {name}_port\n"
            )
        };
        assert_eq!(found("tcp = true\n", ""), [missing(4, "umldir")]);
        let both = [missing(4, "umldir"), missing(4, "umlredir")];
        assert_eq!(found("tcp_redir = true\n", ""), both);
        assert_eq!(found("tcp_redir = true\n", "both"), [""; 0]);
        let set = "tcp_redir = true\numldir_port = 1\numlredir_port = 2\n";
        assert_eq!(found(set, ""), [""; 0]);
        assert_eq!(found("", ""), [""; 0]);
    }

    #[test]
    fn services_by_name_and_alias() {
        let services = "umldir 1/udp\numldir\t2704/tcp # x\nother 7/tcp umlredir\n#umlx 3/tcp\n";
        assert!(has_service(services, "umldir") && has_service(services, "umlredir"));
        assert!(!has_service(services, "umlx") && !has_service("umldir 1/udp", "umldir"));
    }
}
