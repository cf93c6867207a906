//! What the played monitor tells of its VM and disks.

use rpc_xdr::umlmonctrl::*;

/// Two pages with a disk each.
pub(crate) fn disks(after: &[u8]) -> DiskPage {
    let base = DiskEntry {
        disk: b"/disks/base.dsk".to_vec(),
        r#type: DiskType::Dsk,
        size: 1 << 30,
        allocated: 1 << 20,
        modified: 7,
        backing: Vec::new(),
        note: String::new(),
        users: vec![DiskUser {
            vm: "vm2".into(),
            writing: false,
            role: "backing file of /disks/x.cow".into(),
        }],
    };
    let cow = DiskEntry {
        disk: b"/disks/root.cow".to_vec(),
        r#type: DiskType::Cow,
        backing: b"/disks/\x1bbase.dsk".to_vec(),
        note: "it is broken".into(),
        users: Vec::new(),
        ..base.clone()
    };
    match after {
        b"" => DiskPage {
            disks: vec![base],
            more: true,
        },
        _ => DiskPage {
            disks: vec![cow],
            more: false,
        },
    }
}

pub(crate) fn last_end() -> VmLastEnd {
    VmLastEnd {
        how: VmEnd::Panicked,
        exit_status: 1,
        exit_signal: 0,
        time: 1_795_491_152,
        text: "no\x1b]0;x init".into(),
    }
}

fn client(who: &str, idle: u32) -> ConClient {
    ConClient {
        who: who.into(),
        since: 0,
        idle,
    }
}

pub(crate) fn info(state: VmState, held: bool) -> VmInfo {
    let setting = |param: &str, value: &str, origin| ConfigSetting {
        param: param.into(),
        value: value.into(),
        origin,
    };
    VmInfo {
        vm: "vm1".into(),
        daemon_version: "0.1.0".into(),
        monitor_pid: 100,
        monitor_since: 1_795_491_000,
        uid: 1000,
        state,
        state_since: 1_795_491_152,
        responding: true,
        fault: String::new(),
        uptime: 61,
        reboots: 1,
        ready: false,
        last_end: last_end(),
        child_pid: 101,
        kernel_pid: 102,
        kernel_version: "Linux 6.1 \u{9b}".into(),
        mem_mb: 64,
        mem_used: 20 << 20,
        mem_now_mb: 64,
        mem_available: 30 << 20,
        cpu_ns: 1_250_000_000,
        disk_read_bytes: 3 << 20,
        disk_written_bytes: 5 << 20,
        bounded_by: "memory pids".into(),
        confined_by: "namespaces network seccomp".into(),
        processors: "1".into(),
        channels: vec![console(held)],
        disks: vec![disk()],
        nics: vec![NicInfo {
            eth: "eth0".into(),
            specification: b"bridged(bridge_if=br0,proxy_if=p0)".to_vec(),
            note: String::new(),
            link: Some(nic_link()),
        }],
        shares: vec![ShareInfo {
            share: "share0".into(),
            directory: b"/srv/job".to_vec(),
            path: b"/src".to_vec(),
            read_only: false,
            owner: ShareOwner::Unmapped,
            uid: 1000,
            note: "its file system cannot map owners".into(),
        }],
        settings: vec![
            setting("mem", "64", ConfigOrigin::Main),
            setting("start", "manual", ConfigOrigin::Default),
        ],
        pending: vec![setting("mem", "128", ConfigOrigin::User)],
    }
}

fn console(held: bool) -> ConInfo {
    let eva = client("uid 7 (eva)", 61);
    ConInfo {
        channel: "con0".into(),
        terminal: b"pty:con0".to_vec(),
        writer: held.then_some(eva),
        watchers: Vec::new(),
        bytes: 2048,
        rows: 24,
        columns: 80,
    }
}

fn disk() -> DiskInfo {
    DiskInfo {
        ubd: "ubd0".into(),
        file: b"/disks/r\xffoot.dsk".to_vec(),
        size: 1 << 30,
        allocated: 1 << 20,
        backing: Vec::new(),
        durable: DiskDurable::Write,
        read_only: false,
        note: String::new(),
    }
}

fn nic_link() -> NicLink {
    NicLink {
        guest_if: "vec0".into(),
        transport: "vec".into(),
        proxy_if: "p0".into(),
        bridge_if: "br0".into(),
        host_if: String::new(),
        proxy_addr: String::new(),
        guest_addr: String::new(),
        proxy_hwaddr: "FE:00:00:00:00:01".into(),
        guest_hwaddr: "0A:12:BC:AF:32:00".into(),
        open: true,
        received_bytes: 3 << 20,
        received_packets: 2100,
        received_dropped: 7,
        sent_bytes: 90,
        sent_packets: 1,
        sent_dropped: 0,
    }
}

/// What happens: three events, of which one is missed, and nothing more.
pub(crate) fn events(after: u64) -> EventPage {
    let event = |number, kind, verb: &str, who: &str, text: &str, detail: &str| VmEvent {
        number,
        time_ms: 1_795_491_152_345,
        kind,
        state: VmState::Running,
        channel: String::new(),
        verb: verb.into(),
        who: who.into(),
        text: text.into(),
        detail: detail.into(),
    };
    let events = [
        event(
            4,
            EventKind::Request,
            "sysrq",
            "eva",
            "sysrq h requested (eva)",
            "h",
        ),
        event(
            5,
            EventKind::Guest,
            "",
            "",
            "the guest says: \x1b[2Jhi",
            "\x1b[2Jhi",
        ),
    ];
    let events = events.into_iter().filter(|event| event.number > after);
    let events: Vec<VmEvent> = events.collect();
    EventPage {
        missed: u64::from(after < 3),
        last: events.last().map_or(2, |event| event.number),
        events,
    }
}
