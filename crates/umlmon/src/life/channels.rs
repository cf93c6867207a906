//! All channels of the VM: which there are, their logs, and the kernel's ends of them (umlmon, the monitor process).
//!
//! A channel lives as long as the configuration names it, whether or not a kernel runs: clients stay attached over
//! reboots and restarts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use config::{ChannelName, Terminal, Vm};
use files::LogDir;
use pty::{Channel, Error, Log, LogStyle, Nudge};

use crate::life::nudged::Nudged;

/// The channel of the kernel's own messages. It exists even if it is not configured: the kernel's last messages are
/// needed to know why it ended.
pub const CON0: ChannelName = ChannelName::Con(0);

/// The channels of the VM.
#[derive(Debug)]
pub struct Channels {
    logdir: Rc<LogDir>,
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
        let nudged = Nudged::default();
        let channels = Channels {
            logdir: Rc::new(logdir),
            nudge: Nudge::new(nudged.clone()),
            nudged,
            style: Cell::default(),
            all: RefCell::default(),
            run_starts: RefCell::default(),
        };
        channels.apply(vm)?;
        Ok(channels)
    }

    /// Adapts the channels to a configuration that may have changed: before each start.
    ///
    /// # Errors
    /// As [`Channels::open`].
    pub fn apply(&self, vm: &Vm) -> Result<(), Error> {
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
                None => Channel::open(name, self.log(&terminal)?, Rc::clone(&self.nudge))?,
            };
            channel.resize_history((vm.history as usize) << 10);
            self.all.borrow_mut().insert(name, (terminal, channel));
        }
        Ok(())
    }

    /// The kernel to be signalled when it may have missed that a channel can be written again.
    pub fn nudged(&self) -> &Nudged {
        &self.nudged
    }

    fn log(&self, terminal: &Terminal) -> Result<Option<Log>, Error> {
        let style = self.style.get();
        let open = |name: &config::LogName| Log::open(Rc::clone(&self.logdir), name.clone(), style);
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

fn style(vm: &Vm) -> LogStyle {
    LogStyle {
        limit: u64::from(vm.log_limit) << 20,
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
