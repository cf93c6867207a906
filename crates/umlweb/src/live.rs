//! What happens to the VMs of a session, told to a page as it happens: states and loads for lists, events, and the
//! screens of those consoles that a wall shows at the moment (umlweb).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use client::{Monitor, answered, broken, result_in};
use config::VmName;
use rpc_xdr::client::{ClientError, Reply, Stream as _, Ticket};
use rpc_xdr::umlmonctrl::{
    ConScreenArgs, ConScreenResult, EventReadArgs, EventReadResult, VmInfo, VmInfoResult,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::{Value, json};
use tungstenite::{Error, Message};

use crate::info;
use crate::sessions::Session;
use crate::web::Asked;
use crate::websocket::{NO_SESSION, Socket};

/// How often figures are asked for, and screens that are shown.
const FIGURES: Duration = Duration::from_secs(2);
const SCREENS: Duration = Duration::from_secs(1);
/// How often it is asked which monitors run, and when one is tried again that was not there.
const LIST: Duration = Duration::from_secs(3);
/// How long one poll for events may wait, in milliseconds.
const POLL_MS: u32 = 20_000;
/// The least time to wait.
const LEAST: Duration = Duration::from_millis(20);
/// Screens that a page may watch at once.
const MAX_TILES: usize = 256;

/// What a page says.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Said {
    /// The consoles that are visible: VM and channel.
    Tiles(Vec<(String, String)>),
    /// Its user is there.
    Here,
}

/// A VM as the page knows it.
struct Vm {
    name: VmName,
    link: Option<Link>,
    retry: Instant,
    /// The number of the last event.
    after: u64,
    figures: Instant,
    /// What the page was told last.
    told: Value,
    /// By channel: how much of it the page has seen as a screen.
    tiles: BTreeMap<String, Option<u64>>,
}

/// The connection to a monitor, and the calls on it that are under way.
struct Link {
    monitor: Monitor,
    /// It has said something.
    ready: bool,
    events: Option<Ticket<EventReadResult>>,
    info: Option<Ticket<VmInfoResult>>,
    screen: Option<(Ticket<ConScreenResult>, String)>,
    /// Screens that have changed.
    due: BTreeSet<String>,
}

/// A page that wants to know.
struct Live<'a> {
    asked: &'a Asked<'a>,
    session: &'a Session,
    socket: Socket,
    /// The page of one VM, which shows all of it.
    only: Option<VmName>,
    vms: BTreeMap<String, Vm>,
    listed: Option<Instant>,
}

/// Serves the page until it goes, or the session ends.
///
/// # Errors
/// If the page has gone.
pub fn run(asked: &Asked<'_>, socket: Socket, session: &Session) -> Result<(), Error> {
    let only = asked.request.parameter("vm").and_then(|vm| vm.parse().ok());
    let mut live = Live {
        asked,
        session,
        socket,
        only,
        vms: BTreeMap::new(),
        listed: None,
    };
    loop {
        if session.has_ended() {
            live.socket.close(NO_SESSION, "the session has ended");
            return Ok(());
        }
        live.turn()?;
    }
}

impl Live<'_> {
    fn turn(&mut self) -> Result<(), Error> {
        self.list()?;
        self.connect_one()?;
        self.ask()?;
        self.wait();
        self.take_replies()?;
        while let Some(message) = self.socket.next()? {
            match message {
                Message::Text(text) => match serde_json::from_str(text.as_str()) {
                    Ok(said) => self.hear(said),
                    Err(_) => return Err(Error::ConnectionClosed),
                },
                Message::Close(_) => return Err(Error::ConnectionClosed),
                _ => {}
            }
        }
        if self.socket.is_blocked() {
            self.socket.flush()?;
        }
        self.socket.keep_alive(false)
    }

    /// Which VMs there are.
    fn list(&mut self) -> Result<(), Error> {
        if self.listed.is_some_and(|at| at.elapsed() < LIST) {
            return Ok(());
        }
        let first = self.listed.is_none();
        self.listed = Some(Instant::now());
        let names = match &self.only {
            Some(vm) => vec![vm.clone()],
            None => self.asked.web.monitors.list(self.session),
        };
        let known = |name: &String| names.iter().any(|vm| vm.as_str() == name);
        let gone: Vec<String> = self
            .vms
            .keys()
            .filter(|name| !known(name))
            .cloned()
            .collect();
        for name in gone {
            self.vms.remove(&name);
            self.socket.say(&json!({"gone": name}))?;
        }
        for name in names {
            let text = name.to_string();
            self.vms.entry(text).or_insert_with(|| Vm::new(name));
        }
        if first {
            let names: Vec<&String> = self.vms.keys().collect();
            self.socket.say(&json!({"names": names}))?;
        }
        Ok(())
    }

    /// Connects with one monitor at most, so that the page is not left waiting by all of them.
    fn connect_one(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let mut absent = self.vms.values_mut().filter(|vm| vm.link.is_none());
        let Some(vm) = absent.find(|vm| vm.retry <= now) else {
            return Ok(());
        };
        let monitors = &self.asked.web.monitors;
        match monitors.connect(self.session, &vm.name, self.asked.from) {
            Ok(monitor) => {
                vm.link = Some(Link::new(monitor));
                vm.figures = now;
                vm.after = 0;
                Ok(())
            }
            Err(failure) => {
                vm.lose();
                let value = vm.absent(&failure);
                self.socket.say(&value)
            }
        }
    }

    /// Sends the calls that are due.
    fn ask(&mut self) -> Result<(), Error> {
        for vm in self.vms.values_mut() {
            if let Err(error) = vm.ask() {
                vm.lose();
                let value = vm.absent(&broken(error));
                self.socket.say(&value)?;
            }
        }
        Ok(())
    }

    /// Waits until the page or a monitor says something, or something is due.
    fn wait(&mut self) {
        let now = Instant::now();
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, self.socket.is_blocked());
        let mut fds = vec![PollFd::new(&self.socket, wanted)];
        let (mut limit, mut at_once) = (LIST, false);
        for vm in self.vms.values() {
            let due = match &vm.link {
                Some(link) => {
                    let stream = link.monitor.rpc.stream();
                    fds.push(PollFd::new(stream, PollFlags::IN));
                    at_once |= stream.buffered();
                    vm.figures
                }
                None => vm.retry,
            };
            limit = limit.min(due.saturating_duration_since(now));
        }
        // What is due may have been asked for already.
        let limit = match at_once {
            true => Duration::ZERO,
            false => limit.max(LEAST),
        };
        // An interruption is a turn without anything new.
        let _ = poll(&mut fds, Timespec::try_from(limit).ok().as_ref());
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let links = self.vms.values_mut().filter_map(|vm| vm.link.as_mut());
        for (link, ready) in links.zip(ready.into_iter().skip(1)) {
            link.ready = ready || link.monitor.rpc.stream().buffered();
        }
    }

    fn take_replies(&mut self) -> Result<(), Error> {
        let full = self.only.is_some();
        for vm in self.vms.values_mut() {
            match vm.take_replies(full) {
                Ok(news) => news.iter().try_for_each(|value| self.socket.say(value))?,
                Err(failure) => {
                    vm.lose();
                    let value = vm.absent(&failure);
                    self.socket.say(&value)?;
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Here => self.session.touch(),
            Said::Tiles(tiles) => {
                for vm in self.vms.values_mut() {
                    let of_it = tiles.iter().take(MAX_TILES);
                    let of_it = of_it.filter(|(name, _)| name == vm.name.as_str());
                    let seen = of_it.map(|(_, channel)| {
                        let seen = vm.tiles.get(channel).copied().flatten();
                        (channel.clone(), seen)
                    });
                    vm.tiles = seen.collect();
                    vm.figures = vm.figures.min(Instant::now());
                }
            }
        }
    }
}

impl Link {
    fn new(monitor: Monitor) -> Link {
        Link {
            monitor,
            ready: false,
            events: None,
            info: None,
            screen: None,
            due: BTreeSet::new(),
        }
    }
}

impl Vm {
    fn new(name: VmName) -> Vm {
        Vm {
            name,
            link: None,
            retry: Instant::now(),
            after: 0,
            figures: Instant::now(),
            told: Value::Null,
            tiles: BTreeMap::new(),
        }
    }

    fn lose(&mut self) {
        self.link = None;
        self.retry = Instant::now() + LIST;
        self.told = Value::Null;
    }

    /// What the page shows for a VM whose monitor is not there.
    fn absent(&self, failure: &Failure) -> Value {
        let state = match failure.exit {
            Exit::NotAuthorised => "closed",
            _ => "no monitor",
        };
        json!({"vm": {"vm": self.name.as_str(), "state": state, "why": failure.message}})
    }

    fn ask(&mut self) -> Result<(), ClientError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if link.events.is_none() {
            let args = EventReadArgs {
                after: self.after,
                wait_ms: POLL_MS,
            };
            link.events = Some(link.monitor.send_event_read(&args)?);
        }
        if link.info.is_none() && self.figures <= Instant::now() {
            link.info = Some(link.monitor.send_vm_info()?);
            let period = match self.tiles.is_empty() {
                true => FIGURES,
                false => SCREENS,
            };
            self.figures = Instant::now() + period;
        }
        if link.screen.is_none()
            && let Some(channel) = link.due.pop_first()
        {
            let args = ConScreenArgs {
                channel: channel.clone(),
                cells: true,
            };
            link.screen = Some((link.monitor.send_con_screen(&args)?, channel));
        }
        Ok(())
    }

    /// What is new.
    fn take_replies(&mut self, full: bool) -> Result<Vec<Value>, Failure> {
        let mut news = Vec::new();
        let Some(link) = self.link.as_mut().filter(|link| link.ready) else {
            return Ok(news);
        };
        link.ready = false;
        match link.monitor.rpc.fill() {
            Ok(()) | Err(ClientError::TimedOut) => {}
            Err(error) => return Err(broken(error)),
        }
        while let Some(link) = &mut self.link
            && let Some(reply) = link.monitor.rpc.next_reply().map_err(broken)?
        {
            self.take_reply(&reply, full, &mut news)?;
        }
        Ok(news)
    }

    fn take_reply(
        &mut self,
        reply: &Reply,
        full: bool,
        news: &mut Vec<Value>,
    ) -> Result<(), Failure> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if let Some(result) = result_in(reply, &mut link.events)? {
            let page = answered(Ok(result.into_result()))?;
            let first = self.after == 0;
            self.after = page.last;
            if !page.events.is_empty() {
                self.figures = Instant::now();
            }
            let events = page.events.iter().filter(|_| full || !first);
            news.extend(
                events.map(|event| json!({"event": info::event(self.name.as_str(), event)})),
            );
        } else if let Some(result) = result_in(reply, &mut link.info)? {
            let told = answered(Ok(result.into_result()))?;
            let value = match full {
                true => json!({"all": info::all(&told)}),
                false => json!({"vm": info::short(&told)}),
            };
            self.see_tiles(&told);
            if value != self.told {
                news.push(value.clone());
                self.told = value;
            }
        } else if let Some((ticket, channel)) =
            link.screen.take_if(|(ticket, _)| ticket.matches(reply))
        {
            // Who may have no screen now gets it later.
            if let Ok(screen) = ticket.result(reply).map_err(broken)?.into_result() {
                news.push(json!({"tile": {
                    "vm": self.name.as_str(),
                    "channel": channel,
                    "columns": screen.columns,
                    "rows": info::rows(&screen),
                }}));
            }
        }
        Ok(())
    }

    /// Which screens have changed.
    fn see_tiles(&mut self, told: &VmInfo) {
        let Some(link) = &mut self.link else {
            return;
        };
        for (channel, seen) in &mut self.tiles {
            let now = told.channels.iter().find(|it| it.channel == *channel);
            if let Some(now) = now
                && *seen != Some(now.bytes)
            {
                *seen = Some(now.bytes);
                link.due.insert(channel.clone());
            }
        }
    }
}
