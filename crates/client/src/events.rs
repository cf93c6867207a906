//! What happens to a VM, as lines for people or for programs; the same for one VM and for several. Runs in the clients.

use cli::printable;
use rpc_xdr::umlmonctrl::{EventKind, EventPage, VmEvent, VmInfo};
use serde_json::{Value, json};

use crate::when::{now, utc};
use crate::{json, words};

/// How long one call waits for an event, in milliseconds.
pub const WAIT_MS: u32 = 60_000;
/// The number that stands for "only events from now on".
const FROM_NOW: u64 = u64::MAX;

/// Where a listener is among the events of a VM, so that it can go on after the monitor was restarted: the next one may
/// have kept them, or count from 1 again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the last event that the listener knows.
    last: u64,
    /// When that was, if it was shown.
    time_ms: Option<u64>,
}

impl Place {
    /// After the event with this number.
    pub fn after(last: u64) -> Place {
        let time_ms = None;
        Place { last, time_ms }
    }

    /// After the latest event. `read` gives the page after the event with a number.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn now<E>(mut read: impl FnMut(u64) -> Result<EventPage, E>) -> Result<Place, E> {
        let last = read(FROM_NOW)?.last;
        let page = read(Place::after(last).before())?;
        Ok(Place::at(last, &page))
    }

    /// After the event with this number, which is in this page if it is still kept.
    fn at(last: u64, page: &EventPage) -> Place {
        let known = page.events.iter().find(|event| event.number == last);
        let time_ms = known.map(|event| event.time_ms);
        Place { last, time_ms }
    }

    /// The number to ask for later events with.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The listener has got this page.
    pub fn pass(&mut self, page: &EventPage) {
        let time = page.events.last().map(|event| event.time_ms);
        (self.last, self.time_ms) = (page.last, time.or(self.time_ms));
    }

    /// The number to ask another monitor with, for the page that [`Place::find`] takes.
    pub fn before(&self) -> u64 {
        self.last.saturating_sub(1)
    }

    /// Finds the place in the events of another monitor: all of them are new, unless the last known one is among them.
    pub fn find(&mut self, page: &EventPage) {
        let is_kept = match page.events.first() {
            Some(event) if event.number == self.last => {
                self.time_ms.is_none_or(|time| time == event.time_ms)
            }
            // There were so many since that the first ones are not kept any more.
            Some(_) => true,
            None => false,
        };
        if !is_kept {
            *self = Place::after(0);
        }
    }
}

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

#[cfg(test)]
mod tests {
    use rpc_xdr::umlmonctrl::VmState;

    use super::*;

    /// The events of a monitor with numbers from `first` to `last`, that come after one of them.
    fn page(first: u64, last: u64, after: u64, time_ms: u64) -> EventPage {
        let event = |number| VmEvent {
            number,
            time_ms,
            kind: EventKind::Ready,
            state: VmState::Running,
            channel: String::new(),
            verb: String::new(),
            who: String::new(),
            text: String::new(),
            detail: String::new(),
        };
        EventPage {
            missed: 0,
            last,
            events: (first.max(after + 1)..=last).map(event).collect(),
        }
    }

    #[test]
    fn a_place_is_found_if_the_events_were_kept() {
        for (events, expected) in [
            // The same, the same and more, so many that it is not kept.
            ((1, 9, 7), 9),
            ((1, 20, 7), 9),
            ((15, 20, 7), 9),
            // Those of another monitor: fewer, and as many.
            ((1, 3, 8), 0),
            ((1, 20, 8), 0),
        ] {
            let mut place = Place::after(3);
            place.pass(&page(1, 9, 3, 7));
            let (first, last, time) = events;
            place.find(&page(first, last, place.before(), time));
            assert_eq!(place.last(), expected, "{events:?}");
        }
        let mut place = Place::after(0);
        place.find(&page(1, 2, place.before(), 7));
        assert_eq!(place.last(), 0);
        // Nothing was shown yet, and the next monitor has as many.
        let mut place = Place::at(3, &page(1, 4, 2, 7));
        place.find(&page(1, 3, place.before(), 8));
        assert_eq!(place.last(), 0);
    }
}
