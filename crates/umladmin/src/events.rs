//! `umladmin events`: what happens to several VMs, merged as it happens (umladmin).
//!
//! One thread waits for all of them. The end of a monitor is reported; when it runs again, its events are shown from
//! its start on.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cli::{Exit, Failure};
use client::events::{Place, WAIT_MS, ends_monitor, line, lines, present_state, remark};
use client::{Client, Monitor, answered, broken};
use config::{Config, VmName};
use rpc_xdr::client::{ClientError, Ticket};
use rpc_xdr::umlmonctrl::{EventPage, EventReadArgs, EventReadResult, VmInfoResult};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::SIGINT;

use crate::report::Report;
use crate::selection;

/// How often to check whether a monitor runs by now.
const AGAIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// How long a monitor may take for its first answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(config: &Config, names: &[&str], json: bool) -> Result<Exit, Failure> {
    let vms = selection::named_or_all(config, names)?;
    if let Some(unknown) = vms.iter().find(|vm| !selection::is_configured(config, vm)) {
        let why = format!(
            "{unknown}: there is no such VM in {}",
            config.path.display()
        );
        return Err(Failure::new(Exit::Failed, why));
    }
    let report = Report::new();
    let exit = selection::tell_nameless(config, names, &report, Exit::Done);
    selection::tell_if_none(config, &vms, &report);
    if vms.is_empty() {
        return Ok(exit);
    }
    let (interrupt, pressed) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, pressed)?;
    let mut listeners: Vec<_> = vms
        .into_iter()
        .map(|vm| Listener::new(config, vm, json))
        .collect();
    loop {
        for listener in &mut listeners {
            listener.connect_if_it_runs(&report)?;
        }
        if wait(&interrupt, &listeners) {
            return Ok(Exit::Done);
        }
        for listener in &mut listeners {
            listener.take(&report)?;
        }
        if report.is_unheard() {
            return Ok(Exit::Done);
        }
    }
}

/// Waits for events, for Ctrl-C, or until it is time to look for monitors that do not run; true for Ctrl-C.
fn wait(interrupt: &UnixStream, listeners: &[Listener<'_>]) -> bool {
    let all_run = listeners.iter().all(|listener| listener.open.is_some());
    let streams = listeners
        .iter()
        .filter_map(|listener| listener.open.as_ref());
    let streams = streams.map(|open| open.monitor.rpc.stream().as_fd());
    let mut fds: Vec<_> = std::iter::once(interrupt.as_fd())
        .chain(streams)
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    // An error is reported when the streams are read.
    let _ = poll(&mut fds, (!all_run).then_some(&AGAIN));
    fds.first().is_some_and(|fd| !fd.revents().is_empty())
}

/// A VM whose events are shown.
struct Listener<'a> {
    config: &'a Config,
    vm: VmName,
    json: bool,
    /// The connection to its monitor, if that runs.
    open: Option<Open>,
    /// It has been reported that its monitor does not run.
    told: bool,
    /// The last event that is known, if its monitor has run since this program started.
    place: Option<Place>,
    /// Its monitor has said that it ends.
    ends: bool,
}

struct Open {
    monitor: Monitor,
    reading: Ticket<EventReadResult>,
}

impl<'a> Listener<'a> {
    fn new(config: &'a Config, vm: VmName, json: bool) -> Self {
        Listener {
            config,
            vm,
            json,
            open: None,
            told: false,
            place: None,
            ends: false,
        }
    }

    fn say(&self, report: &Report, kind: &str, text: &str) -> Result<(), Failure> {
        report.print(&remark(self.vm.as_str(), kind, text, self.json))
    }

    /// Begins to listen, if there is a monitor and no connection yet.
    fn connect_if_it_runs(&mut self, report: &Report) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        match self.connect() {
            Ok((open, begin, place)) => {
                self.open = Some(open);
                self.told = false;
                if self.place.replace(place).is_some() {
                    self.say(report, "monitor-started", "its monitor is running again")?;
                }
                report.print(&begin)
            }
            Err(_) if self.told => Ok(()),
            Err(failure) => {
                self.told = true;
                let why = match failure.exit {
                    Exit::NotRunning => "its monitor is not running".to_owned(),
                    _ => failure.message,
                };
                self.say(report, "monitor-missing", &format!("{why}; waiting for it"))
            }
        }
    }

    /// The connection, the line with the present state, and the place after which events are asked for.
    fn connect(&self) -> Result<(Open, String, Place), Failure> {
        let client = Client::at(&self.vm, self.config.global.ctrl(&self.vm));
        let mut monitor = client.with_limit(PATIENCE).connect()?.monitor;
        let mut read = |after| {
            let page = monitor.event_read(&EventReadArgs { after, wait_ms: 0 });
            answered(page.map(EventReadResult::into_result))
        };
        let (place, last) = match self.place {
            None => {
                let place = Place::now(read)?;
                (place, place.last())
            }
            Some(mut place) => {
                let page = read(place.before())?;
                place.find(&page);
                (place, page.last)
            }
        };
        let info = answered(monitor.vm_info().map(VmInfoResult::into_result))?;
        let line = line(self.vm.as_str(), &present_state(&info, last), self.json);
        let args = EventReadArgs {
            after: place.last(),
            wait_ms: WAIT_MS,
        };
        let reading = monitor.send_event_read(&args).map_err(broken)?;
        Ok((Open { monitor, reading }, line, place))
    }

    /// Shows what has come.
    fn take(&mut self, report: &Report) -> Result<(), Failure> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let asked = match open.next_page() {
            Ok(None) => return Ok(()),
            Ok(Some(page)) => {
                self.ends |= ends_monitor(&page);
                report.print(&lines(self.vm.as_str(), &page, self.json))?;
                if let Some(place) = &mut self.place {
                    place.pass(&page);
                }
                open.ask(page.last)
            }
            Err(error) => Err(error),
        };
        asked.or_else(|error| self.end(report, &broken(error)))
    }

    /// The connection has ended.
    fn end(&mut self, report: &Report, failure: &Failure) -> Result<(), Failure> {
        self.open = None;
        self.told = true;
        let text = match (failure.exit, std::mem::take(&mut self.ends)) {
            (Exit::NotRunning, true) => "its monitor has ended".to_owned(),
            (Exit::NotRunning, false) => "its monitor has ended unexpectedly".to_owned(),
            _ => format!("its monitor has ended: {failure}"),
        };
        self.say(report, "monitor-ended", &text)
    }
}

impl Open {
    /// What has come; None if nothing has.
    fn next_page(&mut self) -> Result<Option<EventPage>, ClientError> {
        let stream = self.monitor.rpc.stream();
        let mut fds = [PollFd::new(stream, PollFlags::IN)];
        let now = Timespec::default();
        if !poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0) {
            return Ok(None);
        }
        self.monitor.rpc.fill()?;
        let Some(reply) = self.monitor.rpc.next_reply()? else {
            return Ok(None);
        };
        match self.reading.result(&reply)? {
            EventReadResult::Ok(page) => Ok(Some(page)),
            EventReadResult::Error(error) => Err(ClientError::BadReply(error.text)),
        }
    }

    /// Asks for the events after this one.
    fn ask(&mut self, after: u64) -> Result<(), ClientError> {
        let args = EventReadArgs {
            after,
            wait_ms: WAIT_MS,
        };
        self.reading = self.monitor.send_event_read(&args)?;
        Ok(())
    }
}
