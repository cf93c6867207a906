//! The procedures by which clients learn what happens (umlmon, the monitor process).

use std::time::{Duration, UNIX_EPOCH};

use rpc_xdr::umlmonctrl::*;

use crate::failure::Failure;
use crate::life::events::{Event, Happening, Wish};
use crate::life::state::{Denied, Phase};
use crate::service::session::Session;
use crate::service::{MAX_WAIT, Service, wire};

impl Service {
    /// Tells that a client asks for something, carries it out, and tells if the client does not get it.
    pub(super) async fn asked<T>(
        &self,
        session: &Session,
        wish: impl Into<Wish>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let wish = wish.into();
        self.setup.events.tell(Happening::Request {
            who: session.peer().to_owned(),
            wish: wish.clone(),
        });
        let result = work.await;
        if let Err(failure) = &result {
            self.refused(session, wish, failure);
        }
        result
    }

    /// Tells that a client does not get something, unless everybody has been told already why the start failed.
    pub(super) fn refused(&self, session: &Session, wish: Wish, failure: &Failure) {
        let why = failure.to_string();
        if self
            .monitor
            .status()
            .borrow()
            .last_end
            .is_failed_start(&why)
        {
            return;
        }
        let who = session.peer().to_owned();
        self.setup
            .events
            .tell(Happening::Refused { who, wish, why });
    }

    pub(super) async fn read_events(&self, args: &EventReadArgs) -> EventPage {
        let wait = Duration::from_millis(args.wait_ms.into()).min(MAX_WAIT);
        let max = CTL_EVENTS_MAX as usize;
        let page = self.setup.events.read(args.after, max, wait).await;
        EventPage {
            events: page.events.iter().map(event).collect(),
            last: page.last,
            missed: page.missed,
        }
    }

    pub(super) async fn wait_ready(&self, seconds: u32) -> Result<VmReadiness, Failure> {
        let mut status = self.monitor.status();
        if status.borrow().phase == Phase::Inactive {
            return Err(Denied::NotRunning.into());
        }
        let settled = status.wait_for(|status| status.ready || status.phase == Phase::Inactive);
        // That the time was over shows in what is found.
        let _ = tokio::time::timeout(Duration::from_secs(seconds.into()), settled).await;
        let now = status.borrow();
        Ok(VmReadiness {
            ready: now.ready,
            ended: now.phase == Phase::Inactive,
            last_end: wire::last_end(&now.last_end),
        })
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
        Happening::Hang => (EventKind::Hang, none(), none(), none()),
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
    }
}
