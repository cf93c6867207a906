//! What monitors tell of a VM, as values for our pages (umlweb). Pages show them as text, never as markup.

use client::json::text;
use client::words;
use rpc_xdr::umlmonctrl::{
    ConClient, ConInfo, ConScreen, DiskInfo, NicInfo, VmEvent, VmInfo, VmState,
};
use serde_json::{Value, json};

/// What a list shows.
pub fn short(info: &VmInfo) -> Value {
    json!({
        "vm": info.vm,
        "state": words::state(info.state),
        "uptime": info.uptime,
        "ready": info.ready,
        "responding": info.responding,
        "mem_mb": info.mem_now_mb,
        "mem_used": info.mem_used,
        "cpu_ns": info.cpu_ns,
        "last_end": words::how_ended(&info.last_end),
        "fault": info.fault,
        "channels": info.channels.iter().filter(|it| is_open(it)).map(|it| it.channel.as_str()).collect::<Vec<_>>(),
    })
}

/// What the page of a VM shows.
pub fn all(info: &VmInfo) -> Value {
    json!({
        "short": short(info),
        "kernel": info.kernel_version,
        "monitor": info.daemon_version,
        "monitor_since": info.monitor_since,
        "state_since": info.state_since,
        "reboots": info.reboots,
        "processors": info.processors,
        "confined_by": info.confined_by,
        "bounded_by": info.bounded_by,
        "ended": (info.state == VmState::Inactive && info.last_end.time > 0).then_some(info.last_end.time),
        "channels": info.channels.iter().map(channel).collect::<Vec<_>>(),
        "disks": info.disks.iter().map(disk).collect::<Vec<_>>(),
        "networks": info.nics.iter().map(network).collect::<Vec<_>>(),
        "shares": info.shares.iter().map(|share| json!({
            "share": share.share,
            "path": text(&share.path),
            "read_only": share.read_only,
            "note": share.note,
        })).collect::<Vec<_>>(),
        "settings": info.settings.iter().map(|setting| json!({
            "param": setting.param,
            "value": text(&setting.value),
            "origin": words::origin(setting.origin),
        })).collect::<Vec<_>>(),
        "pending": info.pending.iter().map(|setting| json!({
            "param": setting.param,
            "value": text(&setting.value),
        })).collect::<Vec<_>>(),
    })
}

/// Whether clients can be connected with it.
fn is_open(channel: &ConInfo) -> bool {
    channel.terminal.starts_with(b"pty")
}

fn channel(info: &ConInfo) -> Value {
    let client = |client: &ConClient| json!({"who": client.who, "idle": client.idle});
    json!({
        "channel": info.channel,
        "terminal": text(&info.terminal),
        "open": is_open(info),
        "writer": info.writer.as_ref().map(client),
        "watchers": info.watchers.iter().map(client).collect::<Vec<_>>(),
        "bytes": info.bytes,
        "rows": info.rows,
        "columns": info.columns,
    })
}

fn disk(disk: &DiskInfo) -> Value {
    json!({
        "ubd": disk.ubd,
        "file": text(&disk.file),
        "size": disk.size,
        "allocated": disk.allocated,
        "backing": text(&disk.backing),
        "durable": words::durable(disk.durable),
        "read_only": disk.read_only,
        "note": disk.note,
    })
}

fn network(nic: &NicInfo) -> Value {
    let link = nic.link.as_ref().map(|link| {
        json!({
            "guest_if": link.guest_if,
            "guest_addr": link.guest_addr,
            "guest_hwaddr": link.guest_hwaddr,
            "proxy_if": link.proxy_if,
            "bridge_if": link.bridge_if,
            "open": link.open,
            "received_bytes": link.received_bytes,
            "sent_bytes": link.sent_bytes,
        })
    });
    json!({
        "eth": nic.eth,
        "specification": text(&nic.specification),
        "note": nic.note,
        "link": link,
    })
}

/// An event.
pub fn event(vm: &str, event: &VmEvent) -> Value {
    json!({
        "vm": vm,
        "number": event.number,
        "time_ms": event.time_ms,
        "kind": words::event(event.kind),
        "text": event.text,
    })
}

/// The text of a screen, row by row, without blanks at the ends.
pub fn rows(screen: &ConScreen) -> Vec<String> {
    let columns = usize::try_from(screen.columns).unwrap_or(1).max(1);
    let row = |cells: &[rpc_xdr::umlmonctrl::ConCell]| {
        let mut text = String::with_capacity(columns);
        let mut wide = false;
        for cell in cells {
            if !std::mem::take(&mut wide) {
                text.push(char::from_u32(cell.character).unwrap_or(char::REPLACEMENT_CHARACTER));
                wide = cell.style & WIDE != 0;
            }
        }
        text.trim_end().to_owned()
    };
    screen.cells.chunks(columns).map(row).collect()
}

/// The cell is the first half of a wide character (`con_cell`).
const WIDE: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;
    use rpc_xdr::umlmonctrl::ConCell;

    #[test]
    fn a_screen_becomes_rows_of_text() {
        let cell = |c: char, style| ConCell {
            character: c.into(),
            style,
        };
        let screen = ConScreen {
            rows: 2,
            columns: 4,
            cells: vec![
                cell('<', 0),
                cell('漢', WIDE),
                cell(' ', 0),
                cell(' ', 0),
                cell(' ', 0),
                cell('b', 0),
                cell(' ', 0),
                cell(' ', 0),
            ],
            offset: 0,
            cursor_row: 0,
            cursor_column: 0,
            cursor_visible: true,
            plain: true,
            palette: [0; 16],
            drawing: Vec::new(),
        };
        assert_eq!(rows(&screen), ["<漢", " b"]);
    }
}
