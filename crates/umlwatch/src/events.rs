//! `-events`: what happens to a VM, one line each, as it happens.

use std::time::Duration;

use cli::{Exit, Failure};
use client::events::{Place, WAIT_MS, ends_monitor, line, lines, present_state, remark};
use client::{Monitor, Stream, answered, broken, signals};
use nix::sys::signal::Signal;
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::{EventReadArgs, EventReadResult};

use crate::disks::Interruption;
use crate::run::Runner;

impl Runner {
    /// Shows the state, and then what happens, until CTRL-C or the end of the monitor. A monitor that is
    /// restarted has not ended.
    pub(crate) fn events(&mut self) -> Result<(), Failure> {
        let mut signals = Interruption::hold()?;
        let mut place = Place::now(|after| {
            let args = EventReadArgs { after, wait_ms: 0 };
            self.call(|client| Ok(client.event_read(&args)?.into_result()))
        })?;
        let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
        let (vm, json) = (self.vm().to_string(), self.style().json);
        self.print(&line(&vm, &present_state(&info, place.last()), json))?;
        let mut ends = false;
        let signal = loop {
            let page = self.events_after(place, &mut signals)?;
            if let Some(signal) = signals.came() {
                break signal;
            }
            let page = match page {
                Err(error @ ClientError::Lost(_)) if ends => return end(broken(error)),
                Err(error @ ClientError::Lost(_)) => {
                    let found = self.find_events(&mut place, error, &mut signals);
                    if let Some(signal) = signals.came() {
                        break signal;
                    }
                    found?;
                    continue;
                }
                page => answered(page.map(EventReadResult::into_result))?,
            };
            ends |= ends_monitor(&page);
            self.print(&lines(&vm, &page, json))?;
            if self.is_unheard() {
                return Ok(());
            }
            place.pass(&page);
        };
        // A call may be under way.
        self.disconnect();
        drop(signals);
        match signal {
            Signal::SIGINT => Ok(()),
            signal => signals::obey(signal),
        }
    }
    /// The next events; waits for them.
    fn events_after(
        &mut self,
        place: Place,
        signals: &mut Interruption,
    ) -> Result<Result<EventReadResult, ClientError>, Failure> {
        let args = EventReadArgs {
            after: place.last(),
            wait_ms: WAIT_MS,
        };
        let send = |monitor: &mut Monitor| monitor.send_event_read(&args);
        let wait = |stream: &Stream| signals.is_answered(stream, Duration::ZERO);
        self.client_mut().try_while(send, wait)
    }

    /// Goes on after a connection broke.
    fn find_events(
        &mut self,
        place: &mut Place,
        error: ClientError,
        signals: &mut Interruption,
    ) -> Result<(), Failure> {
        let args = EventReadArgs {
            after: place.before(),
            wait_ms: 0,
        };
        let client = self.client_mut();
        let pause = |time| signals.pause(time);
        let page = client.ask_again(error, pause, |monitor| {
            Ok(monitor.event_read(&args)?.into_result())
        })?;
        place.find(&page);
        let (what, vm) = (client.what_broke(""), client.vm().to_string());
        let line = remark(&vm, "monitor-restarted", &what, self.style().json);
        self.print(&line)
    }
}

/// The end of a monitor that has said that it ends.
fn end(failure: Failure) -> Result<(), Failure> {
    match failure.exit {
        Exit::NotRunning => Ok(()),
        _ => Err(failure),
    }
}
