//! All channels of the VM: which there are, their logs, and the kernel's ends of them (umlmon, the monitor process).
//!
//! A channel lives as long as the configuration names it, whether or not a kernel runs: clients stay attached over
//! reboots and restarts.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use config::{ChannelName, LogName, Terminal, Vm};
use files::{LogDir, OLD};
use pty::{Channel, Error, Held, Identity, Log, LogStyle, Nudge};
use serde::{Deserialize, Serialize};

use crate::second::nudged::Nudged;

/// The channel of the kernel's own messages. It exists even if it is not configured: the kernel's last messages are
/// needed to know why it ended.
pub const CON0: ChannelName = ChannelName::Con(0);

/// What the record of a running VM says about one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Its name.
    pub name: String,
    /// The name of its log file, if it has one.
    pub logfile: Option<String>,
    /// Where in its output the run of the kernel begins.
    pub run_start: u64,
    /// What tells its descriptors from others.
    pub identity: Identity,
}

/// The channels of the VM.
#[derive(Debug)]
pub struct Channels {
    logdir: LogDir,
    nudged: Nudged,
    nudge: Rc<Nudge>,
    style: Cell<LogStyle>,
    all: RefCell<BTreeMap<ChannelName, (Terminal, Rc<Channel>)>>,
    /// Where in each channel the present or last run of the kernel begins.
    run_starts: RefCell<BTreeMap<ChannelName, u64>>,
}

impl Channels {
    /// Opens the channels that are configured. Needs the runtime and a `LocalSet`.
    ///
    /// # Errors
    /// If no pseudo terminal is available, or a log file cannot be opened.
    pub fn open(vm: &Vm, logdir: LogDir) -> Result<Channels, Error> {
        let channels = Channels::none(logdir);
        channels.adapt(vm)?;
        Ok(channels)
    }

    fn none(logdir: LogDir) -> Channels {
        let nudged = Nudged::default();
        Channels {
            logdir,
            nudge: Nudge::new(nudged.clone()),
            nudged,
            style: Cell::default(),
            all: RefCell::default(),
            run_starts: RefCell::default(),
        }
    }

    /// What of each channel must outlive the monitor, con0 first: for the run that begins, after
    /// [`Channels::kernel_slaves`]. The descriptors are for its second process, the rest for its record.
    ///
    /// # Errors
    /// If no descriptors are left.
    pub fn held(&self) -> Result<Vec<(ChannelRecord, Held)>, Error> {
        let all = self.all.borrow();
        let held = all.iter().map(|(name, (terminal, channel))| {
            let held = channel.held()?;
            let record = ChannelRecord {
                name: name.to_string(),
                logfile: terminal.logfile.as_ref().map(|log| log.to_string()),
                run_start: self.run_start(*name),
                identity: held.identity().map_err(|source| Error::Adopt {
                    channel: *name,
                    source,
                })?,
            };
            Ok((record, held))
        });
        held.collect()
    }

    /// Goes on with the channels of a monitor that has ended, see [`Channel::adopt`]. `vm` is the configuration of the
    /// run; a changed one is for [`Channels::apply`]. Needs the runtime and a `LocalSet`.
    ///
    /// # Errors
    /// If a record or descriptor is not what it must be, or a log file cannot be opened.
    pub fn adopt(
        vm: &Vm,
        logdir: LogDir,
        held: Vec<(ChannelRecord, Held)>,
    ) -> Result<Channels, Error> {
        let channels = Channels::none(logdir);
        channels.style.set(style(vm));
        for (record, held) in held {
            channels.adopt_one(&record, held)?;
        }
        Ok(channels)
    }

    fn adopt_one(&self, record: &ChannelRecord, held: Held) -> Result<(), Error> {
        let name: ChannelName = record.name.parse().map_err(unknown)?;
        let logfile = record.logfile.as_deref().map(str::parse).transpose();
        let terminal = Terminal {
            logfile: logfile.map_err(unknown)?,
        };
        let log = self.log(&terminal)?;
        let channel = Channel::adopt(name, held, &record.identity, log, Rc::clone(&self.nudge))?;
        let start = record.run_start.min(channel.range().end);
        self.run_starts.borrow_mut().insert(name, start);
        self.all.borrow_mut().insert(name, (terminal, channel));
        Ok(())
    }

    /// Adapts the channels to a configuration that may have changed: before each start.
    ///
    /// # Errors
    /// As [`Channels::open`], or if there is no room for a log that the configuration names now.
    pub fn apply(&self, vm: &Vm) -> Result<(), Error> {
        self.room_for_new_logs(vm)?;
        self.adapt(vm)
    }

    fn adapt(&self, vm: &Vm) -> Result<(), Error> {
        let wanted = configured(vm);
        self.all
            .borrow_mut()
            .retain(|name, _| wanted.contains_key(name));
        let style = style(vm);
        let same_style = self.style.replace(style) == style;
        for (name, terminal) in wanted {
            let present = self.all.borrow().get(&name).cloned();
            let channel = match present {
                Some((same, channel)) if same == terminal && same_style => channel,
                Some((_, channel)) => {
                    channel.set_log(self.log(&terminal)?);
                    channel
                }
                None => {
                    let channel =
                        Channel::open(name, self.log(&terminal)?, Rc::clone(&self.nudge))?;
                    tell_of_losses(&channel);
                    channel
                }
            };
            channel.resize_history((vm.history as usize) << 10)?;
            self.all.borrow_mut().insert(name, (terminal, channel));
        }
        Ok(())
    }

    /// Users may give the logs other names at each start. The files with the former names stay, so no new ones are
    /// begun once those are larger than half of `log_quota`.
    fn room_for_new_logs(&self, vm: &Vm) -> Result<(), Error> {
        let cannot = |what, name: &str, source| Error::Log {
            what,
            path: self.logdir.path().join(name),
            source,
        };
        let logs: BTreeSet<_> = vm.logs().map(LogName::as_str).collect();
        let files = self.logdir.files().map_err(|e| cannot("look for", "", e))?;
        let is_there = |log: &str| files.iter().any(|(name, _)| name == log) || self.writes(log);
        let Some(new) = logs.iter().find(|log| !is_there(log)) else {
            return Ok(());
        };
        let others = files
            .iter()
            .filter(|(name, _)| !logs.contains(name.trim_end_matches(OLD)));
        let left: u64 = others.map(|(_, size)| size.div_ceil(1 << 20).max(1)).sum();
        let most = u64::from(vm.log_quota / 2);
        if vm.log_quota == 0 || left <= most {
            return Ok(());
        }
        let why = format!(
            "other files in its directory have {left} MB, and half of log_quota, {most} MB, are for them; remove some, or \
             use one of them"
        );
        Err(cannot("begin", new, io::Error::other(why)))
    }

    /// A channel writes the log of this name, or its file has been removed just now.
    fn writes(&self, log: &str) -> bool {
        let all = self.all.borrow();
        let mut logs = all
            .values()
            .filter_map(|(terminal, _)| terminal.logfile.as_ref());
        logs.any(|name| name.as_str() == log)
    }

    /// The kernel to be signalled when it may have missed that a channel can be written again.
    pub fn nudged(&self) -> &Nudged {
        &self.nudged
    }

    fn log(&self, terminal: &Terminal) -> Result<Option<Log>, Error> {
        let style = self.style.get();
        let open = |name: &LogName| Log::open(&self.logdir, name, style);
        terminal.logfile.as_ref().map(open).transpose()
    }

    /// A channel by its name.
    pub fn get(&self, name: ChannelName) -> Option<Rc<Channel>> {
        self.all
            .borrow()
            .get(&name)
            .map(|(_, channel)| Rc::clone(channel))
    }

    /// All channels with their terminals, con0 first.
    pub fn list(&self) -> Vec<(Terminal, Rc<Channel>)> {
        self.all.borrow().values().cloned().collect()
    }

    /// Where in a channel the present or last run of the kernel begins.
    pub fn run_start(&self, name: ChannelName) -> u64 {
        self.run_starts.borrow().get(&name).copied().unwrap_or(0)
    }

    /// The kernel's end of each channel, con0 first, for a run that begins.
    ///
    /// # Errors
    /// If a terminal cannot be opened once more.
    pub fn kernel_slaves(&self) -> Result<Vec<(ChannelName, OwnedFd)>, Error> {
        let channels = self.list();
        let start = |(_, channel): &(_, Rc<Channel>)| (channel.name(), channel.range().end);
        self.run_starts
            .replace(channels.iter().map(start).collect());
        channels
            .iter()
            .map(|(_, channel)| Ok((channel.name(), channel.kernel_slave()?)))
            .collect()
    }

    /// To be called when the kernel has ended: reads its last messages, and makes the terminals ready for the next one.
    pub fn kernel_ended(&self) {
        for (_, channel) in self.list() {
            if let Err(error) = channel.kernel_ended() {
                tracing::warn!("{error}");
            }
        }
    }

    /// Tells all attached clients to look at the state of the VM.
    pub fn wake(&self) {
        self.list().iter().for_each(|(_, channel)| channel.wake());
    }

    /// Reopens all log files.
    ///
    /// # Errors
    /// The first one; the other files are opened anew nevertheless.
    pub fn rotate(&self) -> Result<(), Error> {
        let results: Vec<_> = self
            .list()
            .iter()
            .map(|(_, channel)| channel.reopen_log())
            .collect();
        results.into_iter().collect()
    }
}

/// Says it if a kill of the monitor can lose output: once, as it is so for all channels.
fn tell_of_losses(channel: &Channel) {
    if channel.name() == CON0 && !channel.loses_nothing() {
        tracing::warn!(
            "the host's kernel cannot move the output of terminals (splice(2)): if the monitor is killed, what it has \
             just read of a console is lost"
        );
    }
}

/// A name in a record that no version of this program writes.
fn unknown(error: config::Error) -> Error {
    Error::Record {
        source: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

fn style(vm: &Vm) -> LogStyle {
    LogStyle {
        limit: vm.log_bytes(),
        timestamps: vm.log_timestamps,
    }
}

/// The channels that a configuration asks for, and con0.
fn configured(vm: &Vm) -> BTreeMap<ChannelName, Terminal> {
    let cons = vm
        .con
        .iter()
        .map(|(n, terminal)| (ChannelName::Con(*n), terminal.clone()));
    let ssls = vm
        .ssl
        .iter()
        .map(|(n, terminal)| (ChannelName::Ssl(*n), terminal.clone()));
    let mut all: BTreeMap<_, _> = cons.chain(ssls).collect();
    all.entry(CON0).or_insert(Terminal { logfile: None });
    all
}
