//! What `config.json` says of a container, as the helper in the guest is told it (the server of a pod).

use std::path::Path;

use anyhow::bail;
use guest_line::{Capabilities, Container, Limits, Mount, Rights, Source};
use oci_spec::runtime::{Capabilities as Names, LinuxResources, Process, Spec};
use rustix::mount::MountFlags;

use crate::volumes::{self, Volumes};

/// Types of file systems that the guest's kernel makes for a container.
const KERNELS: [&str; 6] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2"];
/// Options of mounts that are flags; a leading `no` or its absence takes one away.
const FLAGS: [(&str, MountFlags); 9] = [
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
    ("strictatime", MountFlags::STRICTATIME),
    ("sync", MountFlags::SYNCHRONOUS),
];
/// Options that mean nothing in a guest: how mounts propagate, and what is the usual anyway.
const WITHOUT_MEANING: [&str; 16] = [
    "bind",
    "rbind",
    "rw",
    "suid",
    "dev",
    "exec",
    "async",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
    "defaults",
];

/// The container with this identifier whose root is on the disk with this number.
pub(crate) fn container(
    id: &str,
    disk: u8,
    spec: &Spec,
    volumes: &mut Volumes,
) -> anyhow::Result<Container> {
    let linux = spec.linux().clone().unwrap_or_default();
    let mut mounts = Vec::new();
    for wanted in spec.mounts().iter().flatten() {
        mounts.push(mount(wanted, volumes)?);
    }
    let bytes = |paths: &Option<Vec<String>>| -> Vec<Vec<u8>> {
        paths
            .iter()
            .flatten()
            .map(|path| path.clone().into_bytes())
            .collect()
    };
    Ok(Container {
        id: id.to_owned(),
        disk,
        read_only_root: spec
            .root()
            .as_ref()
            .and_then(|root| root.readonly())
            .unwrap_or(false),
        hostname: None,
        mounts,
        masked: bytes(linux.masked_paths()),
        read_only: bytes(linux.readonly_paths()),
        sysctls: linux
            .sysctl()
            .iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        limits: linux.resources().as_ref().map(limits).unwrap_or_default(),
        rights: spec.process().as_ref().map(rights).unwrap_or_default(),
    })
}

/// What is mounted.
fn mount(wanted: &oci_spec::runtime::Mount, volumes: &mut Volumes) -> anyhow::Result<Mount> {
    let target = wanted.destination();
    let options = wanted.options().clone().unwrap_or_default();
    let kind = wanted.typ().as_deref().unwrap_or("bind");
    let (flags, rest) = flags(&options);
    let source = match (kind, volumes::bound(wanted)) {
        // Memory of the host is none of the guest's.
        _ if target == Path::new(volumes::MEMORY) => Source::Kernel("tmpfs".into()),
        (_, Some(source)) => {
            Source::Bind(volumes.find(source, flags.contains(MountFlags::RDONLY))?)
        }
        ("cgroup" | "cgroup2", _) => Source::Kernel("cgroup2".into()),
        (kind, _) if KERNELS.contains(&kind) => Source::Kernel(kind.into()),
        (kind, _) => bail!(
            "{}: a VM cannot mount a file system of the type {kind}",
            target.display()
        ),
    };
    // Those of the host's mount mean nothing to the guest's.
    let options = match volumes::is_bind(wanted) || kind.starts_with("cgroup") {
        true => String::new(),
        false => rest.join(","),
    };
    Ok(Mount {
        source,
        target: target.as_os_str().as_encoded_bytes().to_vec(),
        flags: u64::from(flags.bits()),
        options: options.into_bytes(),
    })
}

/// The flags among options, and the options that are those of the file system.
fn flags(options: &[String]) -> (MountFlags, Vec<String>) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options {
        match FLAGS.iter().find(|(name, _)| name == option) {
            Some((_, flag)) => flags |= *flag,
            None if WITHOUT_MEANING.contains(&option.as_str()) => {}
            None => rest.push(option.clone()),
        }
    }
    (flags, rest)
}

/// What a process may do.
pub(crate) fn rights(process: &Process) -> Rights {
    let user = process.user();
    let sets = process.capabilities().as_ref();
    let set = |names: Option<&Option<Names>>| names.and_then(Option::as_ref).map_or(0, bits);
    Rights {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        capabilities: Capabilities {
            bounding: set(sets.map(|sets| sets.bounding())),
            effective: set(sets.map(|sets| sets.effective())),
            inheritable: set(sets.map(|sets| sets.inheritable())),
            permitted: set(sets.map(|sets| sets.permitted())),
            ambient: set(sets.map(|sets| sets.ambient())),
        },
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        limits: process
            .rlimits()
            .iter()
            .flatten()
            .filter_map(|limit| {
                Some((
                    resource(&limit.typ().to_string())?,
                    limit.soft(),
                    limit.hard(),
                ))
            })
            .collect(),
        oom_score_adj: process.oom_score_adj(),
    }
}

/// The capabilities in the order of their numbers (linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn bits(names: &Names) -> u64 {
    let number = |name: &str| {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        CAPABILITIES.iter().position(|known| *known == name)
    };
    let numbers = names
        .iter()
        .filter_map(|capability| number(&capability.to_string()));
    numbers.fold(0, |bits, number| bits | 1 << number)
}

/// The number of a resource (getrlimit(2), asm-generic/resource.h).
fn resource(name: &str) -> Option<u32> {
    const RESOURCES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let name = name.strip_prefix("RLIMIT_")?;
    let number = RESOURCES.iter().position(|known| *known == name)?;
    u32::try_from(number).ok()
}

/// What the processes of a container may use together.
pub(crate) fn limits(resources: &LinuxResources) -> Limits {
    let positive = |number: Option<i64>| {
        number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| *number > 0)
    };
    let cpu = resources.cpu().as_ref();
    let quota = positive(cpu.and_then(|cpu| cpu.quota()));
    let period = cpu.and_then(|cpu| cpu.period()).unwrap_or(100_000);
    let shares = cpu
        .and_then(|cpu| cpu.shares())
        .filter(|shares| *shares > 0);
    Limits {
        memory: positive(
            resources
                .memory()
                .as_ref()
                .and_then(|memory| memory.limit()),
        ),
        cpu: quota.map(|quota| (quota, period)),
        // As runc converts it.
        weight: shares.map(|shares| 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142),
        processes: positive(resources.pids().as_ref().map(|pids| pids.limit())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_mounts_are_flags_or_the_file_systems() {
        let options =
            ["nosuid", "ro", "rbind", "rprivate", "mode=755", "size=64k"].map(str::to_owned);
        let (flags, rest) = flags(&options);
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::RDONLY);
        assert_eq!(rest, ["mode=755", "size=64k"]);
    }

    #[test]
    fn rights_have_the_numbers_of_linux() {
        let process: Process = serde_json::from_str(
            r#"{"cwd":"/","user":{"uid":5,"gid":6,"additionalGids":[7]},"noNewPrivileges":true,
                "capabilities":{"bounding":["CAP_CHOWN","CAP_NET_RAW","CAP_CHECKPOINT_RESTORE"]},
                "rlimits":[{"type":"RLIMIT_NOFILE","soft":1024,"hard":4096}]}"#,
        )
        .unwrap();
        let rights = rights(&process);
        assert_eq!((rights.uid, rights.gid, rights.groups), (5, 6, vec![7]));
        assert_eq!(rights.capabilities.bounding, 1 | 1 << 13 | 1 << 40);
        assert_eq!(rights.limits, [(7, 1024, 4096)]);
        assert!(rights.no_new_privileges);
    }

    #[test]
    fn limits_are_those_of_the_second_version_of_control_groups() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":1048576},"cpu":{"shares":1024,"quota":-1},"pids":{"limit":0}}"#,
        )
        .unwrap();
        let limits = limits(&resources);
        assert_eq!(limits.memory, Some(1 << 20));
        assert_eq!((limits.cpu, limits.processes), (None, None));
        assert_eq!(limits.weight, Some(39));
    }
}
