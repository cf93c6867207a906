//! `-events`: what happens to a VM, one line each, as it happens.

use std::time::Duration;

use cli::{Exit, Failure};
use client::events::{FROM_NOW, WAIT_MS, ends_monitor, line, lines, present_state};
use client::{refused, signals};
use nix::sys::signal::Signal;
use rpc_xdr::umlmonctrl::EventReadArgs;

use crate::disks::Interruption;
use crate::run::Runner;

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
        let mut ends = false;
        let signal = loop {
            let page = self.answer(&mut signals, Duration::ZERO, |client| {
                client.send_event_read(&args)
            });
            if let Some(signal) = signals.came() {
                break signal;
            }
            let page = match page {
                Err(failure) if ends && failure.exit == Exit::NotRunning => return Ok(()),
                page => page?.into_result().map_err(refused)?,
            };
            ends |= ends_monitor(&page);
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
            signal => signals::obey(signal),
        }
    }
}
