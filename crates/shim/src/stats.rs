//! What a container uses, in the messages of containerd (the server of a pod).

use std::path::Path;

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use guest_line::Usage;

/// A host has this file if its control groups are those of the second version; engines expect figures of the same.
const SECOND: &str = "/sys/fs/cgroup/cgroup.controllers";

/// The figures, as the engines of this host expect them.
pub(crate) fn message(usage: &Usage) -> containerd_shim_protos::protobuf::Result<Any> {
    match Path::new(SECOND).exists() {
        true => any("io.containerd.cgroups.v2.Metrics", &second(usage)),
        false => any("io.containerd.cgroups.v1.Metrics", &first(usage)),
    }
}

fn any(name: &str, message: &impl Message) -> containerd_shim_protos::protobuf::Result<Any> {
    Ok(Any {
        type_url: name.to_owned(),
        value: message.write_to_bytes()?,
        ..Any::default()
    })
}

fn second(usage: &Usage) -> v2::Metrics {
    let [all, user, system] = usage.cpu_us;
    let [periods, throttled, throttled_us] = usage.throttled;
    v2::Metrics {
        pids: MessageField::some(v2::PidsStat {
            current: usage.processes,
            limit: usage.processes_limit.unwrap_or(0),
            ..v2::PidsStat::default()
        }),
        cpu: MessageField::some(v2::CPUStat {
            usage_usec: all,
            user_usec: user,
            system_usec: system,
            nr_periods: periods,
            nr_throttled: throttled,
            throttled_usec: throttled_us,
            ..v2::CPUStat::default()
        }),
        memory: MessageField::some(v2::MemoryStat {
            usage: usage.memory,
            usage_limit: usage.memory_limit.unwrap_or(u64::MAX),
            inactive_file: usage.inactive_file,
            ..v2::MemoryStat::default()
        }),
        io: MessageField::some(v2::IOStat {
            usage: vec![v2::IOEntry {
                rbytes: usage.io[0],
                wbytes: usage.io[1],
                ..v2::IOEntry::default()
            }],
            ..v2::IOStat::default()
        }),
        memory_events: MessageField::some(v2::MemoryEvents {
            oom_kill: usage.oom_kills,
            ..v2::MemoryEvents::default()
        }),
        ..v2::Metrics::default()
    }
}

/// Docker reads fields of all of these messages, and dies if one of them is missing.
fn first(usage: &Usage) -> v1::Metrics {
    let [all, user, system] = usage.cpu_us.map(|time| time * 1000);
    let [periods, throttled_periods, throttled_us] = usage.throttled;
    let [read, written] = usage.io;
    let bytes = |op: &str, value| v1::BlkIOEntry {
        op: op.into(),
        value,
        ..v1::BlkIOEntry::default()
    };
    v1::Metrics {
        pids: MessageField::some(v1::PidsStat {
            current: usage.processes,
            limit: usage.processes_limit.unwrap_or(0),
            ..v1::PidsStat::default()
        }),
        cpu: MessageField::some(v1::CPUStat {
            usage: MessageField::some(v1::CPUUsage {
                total: all,
                kernel: system,
                user,
                ..v1::CPUUsage::default()
            }),
            throttling: MessageField::some(v1::Throttle {
                periods,
                throttled_periods,
                throttled_time: throttled_us * 1000,
                ..v1::Throttle::default()
            }),
            ..v1::CPUStat::default()
        }),
        memory: MessageField::some(v1::MemoryStat {
            usage: MessageField::some(v1::MemoryEntry {
                limit: usage.memory_limit.unwrap_or(u64::MAX),
                usage: usage.memory,
                ..v1::MemoryEntry::default()
            }),
            swap: MessageField::some(v1::MemoryEntry::default()),
            kernel: MessageField::some(v1::MemoryEntry::default()),
            kernel_tcp: MessageField::some(v1::MemoryEntry::default()),
            total_inactive_file: usage.inactive_file,
            ..v1::MemoryStat::default()
        }),
        blkio: MessageField::some(v1::BlkIOStat {
            io_service_bytes_recursive: vec![bytes("Read", read), bytes("Write", written)],
            ..v1::BlkIOStat::default()
        }),
        ..v1::Metrics::default()
    }
}
