//! `-events`: what happens to a VM, one line each, as it happens. umladmin shows those of several VMs in the same form.

use std::time::Duration;

use cli::{Failure, printable};
use nix::sys::signal::Signal;
use rpc_xdr::umlmonctrl::{EventKind, EventPage, EventReadArgs, VmEvent, VmInfo};
use serde_json::{Value, json};

use crate::disks::Interruption;
use crate::info::state_word;
use crate::json;
use crate::run::Runner;
use crate::session::refused;
use crate::terminal;
use crate::when::{now, utc};

/// How long one call waits for an event, in milliseconds.
pub const WAIT_MS: u32 = 60_000;
/// The number that stands for "only what comes".
pub const FROM_NOW: u64 = u64::MAX;

impl Runner {
    /// Shows the state, and then what happens, until CTRL-C or the end of the monitor.
    pub(crate) fn events(&mut self) -> Result<(), Failure> {
        let mut signals = Interruption::hold()?;
        let mut args = EventReadArgs {
            after: FROM_NOW,
            wait_ms: 0,
        };
        let begin = self.call(|client| Ok(client.event_read(&args)?.into_result()))?;
        let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
        let (vm, json) = (self.vm().to_string(), self.style().json);
        self.print(&line(&vm, &present_state(&info, begin.last), json))?;
        args.after = begin.last;
        args.wait_ms = WAIT_MS;
        let signal = loop {
            let page = self.answer(&mut signals, Duration::ZERO, |client| {
                client.send_event_read(&args)
            });
            if let Some(signal) = signals.came() {
                break signal;
            }
            let page = page?.into_result().map_err(refused)?;
            self.print(&lines(&vm, &page, json))?;
            if self.is_unheard() {
                return Ok(());
            }
            args.after = page.last;
        };
        // A call may be under way.
        self.disconnect();
        drop(signals);
        match signal {
            Signal::SIGINT => Ok(()),
            signal => terminal::obey(signal),
        }
    }
}

/// The state as an event, for who begins to listen.
pub fn present_state(info: &VmInfo, number: u64) -> VmEvent {
    VmEvent {
        number,
        time_ms: info.state_since.saturating_mul(1000),
        kind: EventKind::State,
        state: info.state,
        channel: String::new(),
        who: String::new(),
        text: format!("the VM is {}", state_word(info.state)),
        detail: String::new(),
    }
}

/// The lines of a page, the first of which says whether some are missing.
pub fn lines(vm: &str, page: &EventPage, json: bool) -> String {
    let missed = match page.missed {
        0 => String::new(),
        n => remark(
            vm,
            "missed",
            &format!("{n} events before these were missed"),
            json,
        ),
    };
    let events = page.events.iter().map(|event| line(vm, event, json));
    missed + &events.collect::<String>()
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
        "kind": kind_word(event.kind),
        "state": state_word(event.state),
        "channel": event.channel,
        "who": event.who,
        "text": event.text,
        "detail": event.detail,
    })
}

fn kind_word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::State => "state",
        EventKind::End => "end",
        EventKind::Ready => "ready",
        EventKind::Guest => "guest",
        EventKind::Panic => "panic",
        EventKind::Hang => "hang",
        EventKind::Request => "request",
        EventKind::Refused => "refused",
        EventKind::Attached => "attached",
        EventKind::Detached => "detached",
        EventKind::Disk => "disk",
    }
}
