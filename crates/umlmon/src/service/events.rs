//! The procedures by which clients learn what happens (umlmon, the monitor process).

use std::time::UNIX_EPOCH;

use rpc_xdr::umlmonctrl::*;

use crate::events::{Event, Happening};
use crate::service::{Service, patience, wire};

impl Service {
    pub(super) async fn read_events(&self, args: &EventReadArgs) -> EventPage {
        let wait = patience(args.wait_ms);
        let max = CTL_EVENTS_MAX as usize;
        let page = self.setup.events.read(args.after, max, wait).await;
        EventPage {
            events: page.events.iter().map(event).collect(),
            last: page.last,
            missed: page.missed,
        }
    }
}

fn event(event: &Event) -> VmEvent {
    let (kind, channel, who, detail) = parts(&event.what);
    let verb = match &event.what {
        Happening::Request { wish, .. } | Happening::Refused { wish, .. } => wish.verb,
        _ => "",
    };
    let time = event.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    VmEvent {
        number: event.number,
        time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        kind,
        state: wire::state(event.phase),
        channel,
        verb: verb.into(),
        who: wire::text(who),
        text: wire::text(event.what.to_string()),
        detail: wire::text(detail),
    }
}

/// Kind, channel, client and detail.
fn parts(what: &Happening) -> (EventKind, String, String, String) {
    let none = String::new;
    match what.clone() {
        Happening::State(_) => (EventKind::State, none(), none(), none()),
        Happening::End(end) => (EventKind::End, none(), none(), end.to_string()),
        Happening::Ready => (EventKind::Ready, none(), none(), none()),
        Happening::Guest(text) => (EventKind::Guest, none(), none(), text),
        Happening::Panic(text) => (EventKind::Panic, none(), none(), text),
        Happening::Hang | Happening::Silent(_) => (EventKind::Hang, none(), none(), none()),
        Happening::Request { who, wish } => (EventKind::Request, none(), who, wish.object),
        Happening::Refused { who, why, .. } => (EventKind::Refused, none(), who, why),
        Happening::Attached { channel, who, mode } => {
            (EventKind::Attached, channel.to_string(), who, mode.into())
        }
        Happening::Detached { channel, who } => {
            (EventKind::Detached, channel.to_string(), who, none())
        }
        Happening::Disk { failure, .. } => {
            (EventKind::Disk, none(), none(), failure.unwrap_or_default())
        }
        Happening::Shutdown => (EventKind::Shutdown, none(), none(), none()),
        Happening::Adopted => (EventKind::Adopted, none(), none(), none()),
    }
}
