//! `-json`: the status as documented, stable JSON. Names are those of proto/umlmonctrl.x; a name once printed
//! stays, new ones may come.

use client::json::{ascii, text};
use client::words;
use rpc_xdr::umlmonctrl::{
    ConClient, ConInfo, ConfigSetting, DiskDurable, NicLink, VmInfo, VmLastEnd,
};
use serde_json::{Value, json};

/// The status page.
pub fn document(info: &VmInfo) -> String {
    ascii(&value(info))
}

fn value(info: &VmInfo) -> Value {
    json!({
        "vm": info.vm,
        "daemon_version": info.daemon_version,
        "monitor_pid": info.monitor_pid,
        "monitor_since": info.monitor_since,
        "uid": info.uid,
        "state": words::state(info.state),
        "state_since": info.state_since,
        "fault": info.fault,
        "responding": info.responding,
        "uptime": info.uptime,
        "reboots": info.reboots,
        "ready": info.ready,
        "last_end": last_end(&info.last_end),
        "child_pid": info.child_pid,
        "kernel_pid": info.kernel_pid,
        "kernel_version": info.kernel_version,
        "mem_mb": info.mem_mb,
        "mem_used": info.mem_used,
        "mem_now_mb": info.mem_now_mb,
        "mem_available": (info.mem_available > 0).then_some(info.mem_available),
        "cpu_ns": info.cpu_ns,
        "disk_read_bytes": info.disk_read_bytes,
        "disk_written_bytes": info.disk_written_bytes,
        "bounded_by": info.bounded_by,
        "confined_by": info.confined_by,
        "processors": info.processors,
        "channels": info.channels.iter().map(channel).collect::<Vec<_>>(),
        "disks": info.disks.iter().map(|disk| json!({
            "ubd": disk.ubd,
            "file": text(&disk.file),
            "size": disk.size,
            "allocated": disk.allocated,
            "backing": text(&disk.backing),
            "sync": disk.durable == DiskDurable::Write,
            "durable": words::durable(disk.durable),
            "read_only": disk.read_only,
            "note": disk.note,
        })).collect::<Vec<_>>(),
        "nics": info.nics.iter().map(|nic| json!({
            "eth": nic.eth,
            "specification": text(&nic.specification),
            "note": nic.note,
            "link": nic.link.as_ref().map(link),
        })).collect::<Vec<_>>(),
        "shares": info.shares.iter().map(|share| json!({
            "share": share.share,
            "directory": text(&share.directory),
            "path": text(&share.path),
            "read_only": share.read_only,
            "owner": words::owner(share.owner),
            "uid": share.uid,
            "note": share.note,
        })).collect::<Vec<_>>(),
        "settings": settings(&info.settings),
        "pending": settings(&info.pending),
    })
}

fn last_end(end: &VmLastEnd) -> Value {
    json!({
        "how": words::end(end.how),
        "exit_status": end.exit_status,
        "exit_signal": end.exit_signal,
        "time": end.time,
        "text": end.text,
    })
}

fn channel(info: &ConInfo) -> Value {
    json!({
        "channel": info.channel,
        "terminal": text(&info.terminal),
        "writer": info.writer.as_ref().map(client),
        "watchers": info.watchers.iter().map(client).collect::<Vec<_>>(),
        "bytes": info.bytes,
        "rows": info.rows,
        "columns": info.columns,
    })
}

fn client(client: &ConClient) -> Value {
    json!({"who": client.who, "since": client.since, "idle": client.idle})
}

fn link(link: &NicLink) -> Value {
    json!({
        "guest_if": link.guest_if,
        "transport": link.transport,
        "proxy_if": link.proxy_if,
        "bridge_if": link.bridge_if,
        "host_if": link.host_if,
        "proxy_addr": link.proxy_addr,
        "guest_addr": link.guest_addr,
        "proxy_hwaddr": link.proxy_hwaddr,
        "guest_hwaddr": link.guest_hwaddr,
        "open": link.open,
        "received_bytes": link.received_bytes,
        "received_packets": link.received_packets,
        "received_dropped": link.received_dropped,
        "sent_bytes": link.sent_bytes,
        "sent_packets": link.sent_packets,
        "sent_dropped": link.sent_dropped,
    })
}

fn settings(settings: &[ConfigSetting]) -> Vec<Value> {
    let setting = |setting: &ConfigSetting| {
        json!({
            "param": setting.param,
            "value": text(&setting.value),
            "origin": words::origin(setting.origin),
        })
    };
    settings.iter().map(setting).collect()
}
