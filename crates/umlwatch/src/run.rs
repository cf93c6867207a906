//! Executes one command after the other.

use std::time::{Duration, Instant};

use cli::{Exit, Failure, Output, Visible};
use client::signals::{self, Signals};
use client::{Client, Monitor, password};
use config::VmName;
use nix::sys::signal::Signal;
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::attach;
use crate::copy;
use crate::exec;
use crate::ssh;
use crate::style::Style;
use crate::{info, json};

/// How many bytes of a log are asked for at once.
const CHUNK: u32 = 65536;

/// How often `-follow` looks for more.
const FOLLOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// The executor of commands: the client of a VM, and where the results go.
pub struct Runner {
    client: Client,
    style: Style,
    out: Output,
    /// The VM was started by a command of this umlwatch.
    started: bool,
}

impl Runner {
    /// Nothing is connected yet.
    pub fn new(client: Client, style: Style) -> Runner {
        let out = Output::stdout();
        Runner {
            client,
            style,
            out,
            started: false,
        }
    }

    /// The VM.
    pub fn vm(&self) -> &VmName {
        self.client.vm()
    }

    /// The connection to the monitor.
    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Whether a command of this umlwatch has started the VM.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// Whether the reader of stdout has gone.
    pub(crate) fn is_unheard(&self) -> bool {
        self.out.is_closed()
    }

    /// How results are shown.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// The channels that the VM has; none if the monitor cannot be asked.
    pub(crate) fn channels(&mut self) -> Vec<String> {
        let info = self.call(|client| Ok(client.vm_info()?.into_result()));
        let channels = info.map_or(Vec::new(), |info| info.channels);
        channels
            .into_iter()
            .map(|channel| channel.channel)
            .collect()
    }

    /// The names of the disks; none if the monitor cannot be asked.
    pub(crate) fn disk_names(&mut self) -> Vec<String> {
        let disks = self.disks().unwrap_or_default();
        let name = |disk: DiskEntry| String::from_utf8(disk.disk).ok();
        disks.into_iter().filter_map(name).collect()
    }

    /// The VM, with its host if that is another one.
    pub(crate) fn name(&self) -> String {
        self.client.name()
    }

    /// Connects with another host before the first command.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        self.client.begin()
    }

    /// Ends the connection; the next command makes a new one.
    pub(crate) fn disconnect(&mut self) {
        self.client.disconnect();
    }

    /// Prints text of this program.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())
    }

    /// Runs a closure while results are shown in another way than the command line says.
    pub(crate) fn styled<T>(&mut self, style: Style, act: impl FnOnce(&mut Runner) -> T) -> T {
        let usual = std::mem::replace(&mut self.style, style);
        let done = act(self);
        self.style = usual;
        done
    }

    /// One call, connecting first if necessary. After a connection broke, the next call connects anew.
    pub(crate) fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Monitor) -> Result<Result<T, CtlError>, ClientError>,
    ) -> Result<T, Failure> {
        self.client.call(call)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out
            .write(bytes)
            .map_err(|e| Failure::new(Exit::Failed, e).about("cannot write to stdout"))
    }

    pub(crate) fn connect(&mut self, channel: &str, mode: ConMode) -> Result<(), Failure> {
        attach::attach(&self.client, channel, mode, self.style.escape)
    }

    pub(crate) fn exec(&mut self, words: &[u8]) -> Result<(), Failure> {
        exec::exec(&self.client, words)
    }

    pub(crate) fn push(&mut self, source: &[u8], to: &[u8]) -> Result<(), Failure> {
        copy::push(&self.client, source, to)
    }

    pub(crate) fn pull(&mut self, source: &[u8], to: &[u8]) -> Result<(), Failure> {
        copy::pull(&self.client, source, to)
    }

    pub(crate) fn ssh(&mut self, words: &[u8]) -> Result<(), Failure> {
        if self.client.name().contains('@') {
            let why = "-ssh is for VMs of this host; on another one, log in there first";
            return Err(Failure::new(Exit::Failed, why));
        }
        let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
        Err(ssh::ssh(&info, words))
    }

    pub(crate) fn start(&mut self, extra: &[Vec<u8>]) -> Result<(), Failure> {
        self.client.start(extra)?;
        self.started = true;
        Ok(())
    }

    pub(crate) fn reclaim(&mut self) -> Result<(), Failure> {
        let bytes = self.client_mut().reclaim()?;
        self.print(&format!(
            "{} are no memory of the host any more\n",
            client::when::size(bytes)
        ))
    }

    pub(crate) fn port(&mut self) -> Result<(), Failure> {
        let tcp = self.call(|client| Ok(client.port_get()?.into_result()))?;
        self.print(&format!("{}\n", tcp.port))
    }

    pub(crate) fn info(&mut self) -> Result<(), Failure> {
        let info = self.client.info()?;
        let text = match self.style.json {
            true => json::document(&info),
            false => info::page(&info),
        };
        self.print(&text)
    }

    pub(crate) fn tail(&mut self, file: &str, lines: u32) -> Result<(), Failure> {
        let args = LogTailArgs {
            file: file.to_owned(),
            lines,
        };
        let range = self.call(|client| Ok(client.log_tail(&args)?.into_result()))?;
        let signals = match self.style.follow {
            true => Some(Signals::hold()?),
            false => None,
        };
        let mut shown = Shown::new(self);
        let mut offset = range.start;
        while (signals.is_some() || offset < range.end) && !shown.runner.out.is_closed() {
            let max = match signals {
                Some(_) => CHUNK,
                None => u32::try_from(range.end - offset).map_or(CHUNK, |rest| rest.min(CHUNK)),
            };
            let args = LogReadArgs {
                file: file.to_owned(),
                offset,
                max,
            };
            let read = |monitor: &mut Monitor| Ok(monitor.log_read(&args)?.into_result());
            let chunk = shown.runner.client.ask(read)?;
            // Otherwise the log was rotated, or is kept in memory and its beginning is gone.
            let goes_on = !chunk.data.is_empty() && chunk.offset >= offset;
            match &signals {
                None if !goes_on => break,
                Some(signals) if chunk.data.is_empty() && pause(signals)? => break,
                _ => {}
            }
            offset = chunk.offset.saturating_add(chunk.data.len() as u64);
            shown.write(&chunk.data)?;
        }
        shown.finish()
    }

    pub(crate) fn change_password(&mut self) -> Result<(), Failure> {
        // A user who may not command the VM must not be asked first.
        self.client.connection()?;
        let name = self.name();
        let old = password::ask(&format!("Old password of {name} (empty if none is set): "))?;
        let new = password::ask(&format!("New password of {name}: "))?;
        let again = password::ask("Repeat the new password: ")?;
        let new = new.ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "the new password is empty; nothing was changed",
            )
        })?;
        if again.is_none_or(|again| again.md5() != new.md5()) {
            return Err(Failure::new(
                Exit::Failed,
                "the two new passwords differ; nothing was changed",
            ));
        }
        self.client.change_password(old.as_ref(), &new)?;
        self.print("The password is changed. It is used from the next connection on.\n")
    }

    pub(crate) fn wait(&mut self, seconds: u32) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_secs(seconds.into());
        let waited = self.client.ask(|monitor| {
            let args = VmWaitArgs {
                seconds: seconds_until(until),
            };
            Ok(monitor.vm_wait(&args)?.into_result())
        })?;
        match waited.inactive {
            true => Ok(()),
            false => Err(Failure::new(
                Exit::Timeout,
                format_args!("it is still running after {seconds} seconds"),
            )),
        }
    }

    pub(crate) fn site(&mut self, arg: &[u8]) -> Result<(), Failure> {
        let args = SiteRunArgs { arg: arg.to_vec() };
        let output = self.call(|client| Ok(client.site_run(&args)?.into_result()))?;
        let mut shown = Shown::new(self);
        shown.write(&output.output)?;
        shown.finish()?;
        if output.truncated {
            eprintln!("umlwatch: the output of the site command was too long and is cut off");
        }
        match output.exit_status {
            _ if output.timed_out => Err(Failure::new(Exit::Timeout, "it did not end in time")),
            0 => Ok(()),
            -1 => Err(Failure::new(Exit::Failed, "it was ended by a signal")),
            status => Err(Failure::new(
                Exit::Failed,
                format_args!("it ended with exit status {status}"),
            )),
        }
    }
}

/// How many seconds it is until then, rounded up.
pub(crate) fn seconds_until(then: Instant) -> u32 {
    let left = then.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Waits a little for more; true if the user has ended it.
fn pause(signals: &Signals) -> Result<bool, Failure> {
    let mut fds = [PollFd::new(signals, PollFlags::IN)];
    let _ = poll(&mut fds, Some(&FOLLOW));
    match signals.next() {
        None | Some(Signal::SIGWINCH) => Ok(false),
        Some(Signal::SIGINT) => Ok(true),
        Some(signal) => signals::obey(signal).map(|()| true),
    }
}

/// Output of the guest for stdout: harmless on a terminal, unchanged elsewhere and with `-raw`.
struct Shown<'a> {
    runner: &'a mut Runner,
    visible: Option<Visible>,
}

impl<'a> Shown<'a> {
    fn new(runner: &'a mut Runner) -> Shown<'a> {
        let filter = runner.out.is_terminal() && !runner.style.raw;
        let visible = filter.then(Visible::default);
        Shown { runner, visible }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.visible {
            Some(visible) => self.runner.write(visible.feed(bytes).as_bytes()),
            None => self.runner.write(bytes),
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        match self.visible.take() {
            Some(mut visible) => self.runner.write(visible.finish().as_bytes()),
            None => Ok(()),
        }
    }
}
