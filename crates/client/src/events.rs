//! What happens to a VM, as lines for people or for programs; the same for one VM and for several. Runs in the clients.

use cli::printable;
use rpc_xdr::umlmonctrl::{EventKind, EventPage, VmEvent, VmInfo};
use serde_json::{Value, json};

use crate::when::{now, utc};
use crate::{json, words};

/// How long one call waits for an event, in milliseconds.
pub const WAIT_MS: u32 = 60_000;
/// The number that stands for "only events from now on".
pub const FROM_NOW: u64 = u64::MAX;

/// The state as an event, for a client that begins to listen.
pub fn present_state(info: &VmInfo, number: u64) -> VmEvent {
    VmEvent {
        number,
        time_ms: info.state_since.saturating_mul(1000),
        kind: EventKind::State,
        state: info.state,
        channel: String::new(),
        verb: String::new(),
        who: String::new(),
        text: format!("the VM is {}", words::state(info.state)),
        detail: String::new(),
    }
}

/// The lines of a page, the first of which says whether some are missing.
pub fn lines(vm: &str, page: &EventPage, json: bool) -> String {
    let missed = match page.missed {
        0 => String::new(),
        n => remark(vm, "missed", &format!("{n} earlier events were lost"), json),
    };
    let events = page.events.iter().map(|event| line(vm, event, json));
    missed + &events.collect::<String>()
}

/// Whether the monitor has said that it ends. Events of the end of its VM may follow.
pub fn ends_monitor(page: &EventPage) -> bool {
    let mut kinds = page.events.iter().map(|event| event.kind);
    kinds.any(|kind| kind == EventKind::Shutdown)
}

/// An event as a line for people, or as a JSON object on a line.
pub fn line(vm: &str, event: &VmEvent, json: bool) -> String {
    match json {
        true => json::line(&value(vm, event)),
        false => readable(event.time_ms / 1000, vm, &event.text),
    }
}

/// A line of the client's own, in the same form; `kind` is for programs.
pub fn remark(vm: &str, kind: &str, text: &str, json: bool) -> String {
    match json {
        true => json::line(&json!({
            "vm": vm, "time_ms": now().saturating_mul(1000), "kind": kind, "text": text,
        })),
        false => readable(now(), vm, text),
    }
}

fn readable(seconds: u64, vm: &str, text: &str) -> String {
    format!("{} {vm}: {}\n", utc(seconds), printable(text.as_bytes()))
}

fn value(vm: &str, event: &VmEvent) -> Value {
    json!({
        "vm": vm,
        "number": event.number,
        "time_ms": event.time_ms,
        "kind": words::event(event.kind),
        "state": words::state(event.state),
        "channel": event.channel,
        "verb": event.verb,
        "who": event.who,
        "text": event.text,
        "detail": event.detail,
    })
}
