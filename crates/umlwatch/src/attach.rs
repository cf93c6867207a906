//! The terminal connected with a channel: what is typed goes to the guest, what the guest writes is shown, until
//! CTRL-], the end of stdin, or a signal. One connection carries a long poll for output and, beside it, one write
//! after the other.

use std::time::{Duration, Instant};

use cli::{Exit, Failure, Output};
use client::signals::{self, Signals};
use client::words::how_ended;
use client::{Client, Monitor, Outage, answered, broken, refused, result_in};
use nix::sys::signal::Signal;
use rpc_xdr::client::{ClientError, Reply, Ticket};
use rpc_xdr::umlmonctrl::{
    ConChunk, ConMode, ConOpened, ConReadArgs, ConReadResult, ConResizeArgs, ConScreen,
    ConStandstill, ConWriteArgs, CtlCode, CtlResult, VmInfo, VmInfoResult, VmState,
};

use crate::keys::{Escape, Keys, Wish};
use crate::loss::Loss;
use crate::manner::Manner;
use crate::opening::{is_painted, open, painted, reopen};
use crate::place::Place;
use crate::replay::without_questions;
use crate::standstill::Standstill;
use client::terminal::{self, RawTerminal};
use client::waiting::{self, Came};

/// How much of the former output is shown first, in bytes: about two screens.
const REPLAY: u64 = 4096;
/// How long one poll for output may wait, in milliseconds.
const POLL_MS: u32 = 30_000;
/// How much output one reply may carry, in bytes.
const OUTPUT_MAX: u32 = 65_536;
/// How much one write carries, in bytes; small, so that a slow guest delays little.
const WRITE_MAX: usize = 4096;
/// How much may be typed ahead of a guest that does not read, in bytes.
const AHEAD_MAX: usize = 256 * 1024;
/// How long a monitor that has come back may take for an answer.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(3);
/// How long the guest must be silent after the end of stdin.
const QUIET: Duration = Duration::from_secs(1);

/// Why the session is over.
enum End {
    Left,
    Signal(Signal),
}

/// Connects until the user ends the session. The terminal is as before when this returns; a signal that ended the
/// session then has its usual effect.
pub(crate) fn attach(
    client: &Client,
    channel: &str,
    mode: ConMode,
    escape: Escape,
) -> Result<(), Failure> {
    let mut monitor = client.connect()?.monitor;
    let opened = open(&mut monitor, channel, mode)?;
    let screen = painted(&mut monitor, channel, mode)?;
    // A message of which a part has not arrived must not prevent the end of the session.
    monitor.rpc.stream().set_patience(Some(QUIET))?;
    let signals = Signals::hold()?;
    let raw = RawTerminal::enter()?;
    let how = Manner {
        vm: client.vm().as_ref(),
        channel,
        terminal: raw.is_some(),
        watches: mode == ConMode::Watch,
        escape,
    };
    let mut attached = Attached::new(client, monitor, how);
    attached.begin(&opened, screen)?;
    let ended = attached.run(&signals);
    let painted = raw.is_some() && attached.is_connected() && is_painted(client, channel);
    how.farewell(painted, attached.all_typed());
    drop(raw);
    drop(signals);
    if let End::Signal(signal) = ended? {
        signals::obey(signal)?;
    }
    Ok(())
}

/// What is said of input that was sent when the connection broke.
fn unsure(bytes: usize) -> String {
    match bytes {
        1 => "the last key may not have arrived".to_owned(),
        bytes => format!("the last {bytes} bytes that were typed may not have arrived"),
    }
}

/// Whether this input comes from the terminal itself, as an answer to the guest, and not from the user.
fn is_answer(keys: &[u8]) -> bool {
    matches!(keys, [0x1b, b'[' | b']' | b'P', _, _, ..])
}

/// The state of a connected terminal.
struct Attached<'a> {
    client: &'a Client,
    /// The connection; None while there is none.
    monitor: Option<Monitor>,
    /// From the loss of a connection until the next one has shown something.
    outage: Option<Outage>,
    how: Manner<'a>,
    out: Output,
    keys: Keys,
    /// The next byte to show.
    place: Place,
    /// Where the former output ends.
    replay_end: u64,
    /// The replay begins within a line, which is not shown.
    cut: bool,
    /// The user has been informed that the VM is down.
    down: bool,
    /// The user has been informed that the VM is suspended.
    suspended: bool,
    /// Whether we may write.
    writer: bool,
    /// The lost right to write, as long as the user may have to be informed again.
    lost: Option<Loss>,
    /// The guest takes no input; the user has been informed.
    standstill: Option<Standstill>,
    /// Typed and not sent.
    typed: Vec<u8>,
    /// Bytes that are sent, and not yet taken.
    sent: usize,
    /// The window size is to be sent.
    resized: bool,
    /// The VM is to be asked for its state.
    ask: bool,
    /// When CTRL-] was typed.
    leaving: Option<Instant>,
    /// When the guest last wrote, or stdin ended; None while there is more to type.
    quiet_since: Option<Instant>,
    reading: Option<Ticket<ConReadResult>>,
    writing: Option<Ticket<CtlResult>>,
    resizing: Option<Ticket<CtlResult>>,
    asking: Option<Ticket<VmInfoResult>>,
}

impl<'a> Attached<'a> {
    fn new(client: &'a Client, monitor: Monitor, how: Manner<'a>) -> Attached<'a> {
        Attached {
            client,
            monitor: Some(monitor),
            outage: None,
            how,
            out: Output::stdout(),
            keys: Keys::new(how.escape),
            place: Place::default(),
            replay_end: 0,
            cut: false,
            down: false,
            suspended: false,
            writer: !how.watches,
            lost: None,
            standstill: None,
            typed: Vec::new(),
            sent: 0,
            resized: false,
            ask: true,
            leaving: None,
            quiet_since: None,
            reading: None,
            writing: None,
            resizing: None,
            asking: None,
        }
    }

    fn begin(&mut self, opened: &ConOpened, screen: Option<ConScreen>) -> Result<(), Failure> {
        self.place.offset = opened.end.saturating_sub(REPLAY).max(opened.start);
        self.replay_end = opened.end;
        self.cut = self.place.offset > opened.start;
        self.how.greet();
        if !opened.taken_from.is_empty() {
            self.how.remark(&format!(
                "{} was taken over from {}",
                self.how.channel, opened.taken_from
            ));
        }
        match screen {
            None => Ok(()),
            Some(screen) => {
                self.place.offset = screen.offset;
                self.cut = false;
                // The present contents of the terminal are scrolled up, so that the user can scroll back to them.
                let rows = usize::try_from(screen.rows).unwrap_or(0);
                self.show(&b"\r\n".repeat(rows))?;
                self.show(&screen.drawing)
            }
        }
    }

    fn run(&mut self, signals: &Signals) -> Result<End, Failure> {
        loop {
            self.connect_again()?;
            if let Err(error) = self.send() {
                self.lose(error)?;
            }
            if self.out.is_closed() || self.is_over() {
                return Ok(End::Left);
            }
            let came = self.wait(signals)?;
            if came.answer {
                self.take_answers()?;
            }
            if came.signal {
                match signals.next() {
                    Some(Signal::SIGWINCH) => self.resized = true,
                    Some(signal) => return Ok(End::Signal(signal)),
                    None => {}
                }
            }
            if came.input {
                self.take_keys()?;
            }
            if self.keys.leaves() && self.leaving.is_none() {
                self.leaving = Some(Instant::now());
            }
            self.give_up_in_time()?;
            if let Some(lost) = self.lost.as_mut().and_then(Loss::due) {
                self.how.remark(&lost);
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.monitor.is_some()
    }

    /// Sends whatever is due and not yet sent: one read, one write, one question, one size.
    fn send(&mut self) -> Result<(), ClientError> {
        let Some(monitor) = &mut self.monitor else {
            return Ok(());
        };
        let channel = || self.how.channel.to_owned();
        if self.reading.is_none() {
            let args = ConReadArgs {
                channel: channel(),
                offset: self.place.offset,
                max: OUTPUT_MAX,
                // The first answer on a new connection tells that it is of use.
                wait_ms: if self.outage.is_some() { 0 } else { POLL_MS },
            };
            self.reading = Some(monitor.send_con_read(&args)?);
        }
        if self.writing.is_none() && !self.typed.is_empty() {
            let rest = self.typed.split_off(self.typed.len().min(WRITE_MAX));
            let args = ConWriteArgs {
                channel: channel(),
                data: std::mem::replace(&mut self.typed, rest),
            };
            self.sent = args.data.len();
            self.writing = Some(monitor.send_con_write(&args)?);
        }
        if self.asking.is_none() && std::mem::take(&mut self.ask) {
            self.asking = Some(monitor.send_vm_info()?);
        }
        if self.resizing.is_none()
            && !self.how.watches
            && std::mem::take(&mut self.resized)
            && let Some((rows, columns)) = terminal::size()
        {
            let args = ConResizeArgs {
                channel: channel(),
                rows: rows.into(),
                columns: columns.into(),
            };
            self.resizing = Some(monitor.send_con_resize(&args)?);
        }
        Ok(())
    }

    /// Takes what the monitor has answered.
    fn take_answers(&mut self) -> Result<(), Failure> {
        let filled = self.monitor.as_mut().map(|monitor| monitor.rpc.fill());
        match filled {
            None | Some(Ok(()) | Err(ClientError::TimedOut)) => {}
            Some(Err(error)) => return self.lose(error),
        }
        while let Some(monitor) = &mut self.monitor
            && let Some(reply) = monitor.rpc.next_reply().map_err(broken)?
        {
            self.take_reply(&reply)?;
        }
        Ok(())
    }

    /// The connection broke. The session goes on if the monitor comes back; what is typed meanwhile is kept.
    fn lose(&mut self, error: ClientError) -> Result<(), Failure> {
        let outage = match self.outage.take() {
            Some(outage) => outage,
            None => Outage::begin(error, self.down)?,
        };
        self.monitor = None;
        (self.reading, self.writing, self.resizing, self.asking) = (None, None, None, None);
        self.standstill = None;
        if !self.how.terminal && self.sent > 0 {
            let why = outage.why();
            let unsure = unsure(self.sent);
            return Err(Failure::new(why.exit, format_args!("{why}; {unsure}")));
        }
        self.outage = Some(outage);
        Ok(())
    }

    /// Connects again, if there is no connection and it is time for it.
    fn connect_again(&mut self) -> Result<(), Failure> {
        let Some(outage) = self.outage.as_mut().filter(|_| self.monitor.is_none()) else {
            return Ok(());
        };
        if outage.is_noticed() {
            self.how.remark(&self.client.what_is_missing());
        }
        let Some(connection) = self.client.attempt(outage)? else {
            return Ok(());
        };
        let mut monitor = connection.monitor;
        monitor.rpc.stream().set_patience(Some(PATIENCE_AT_FIRST))?;
        let writes = self.writer && !self.how.watches;
        match reopen(&mut monitor, self.how.channel, writes) {
            // It has come back only for a moment.
            Err(ClientError::Lost(_) | ClientError::TimedOut) => Ok(()),
            answer => {
                let (opened, info) = answered(answer)?;
                monitor.rpc.stream().set_patience(Some(QUIET))?;
                self.monitor = Some(monitor);
                self.go_on(&opened, &info);
                Ok(())
            }
        }
    }

    /// Goes on where the session was, or, if the VM has ended with its monitor, with the output of its next run.
    fn go_on(&mut self, opened: &ConOpened, info: &VmInfo) {
        let is_found = self.place.find(opened, info);
        if !is_found {
            (self.replay_end, self.cut) = (0, false);
        }
        if self.outage.as_mut().is_some_and(Outage::is_back) {
            let but = match is_found || self.down {
                true => "",
                false => ", and the VM has ended with it",
            };
            self.how.remark(&self.client.what_broke(but));
        }
        if self.sent > 0 {
            self.how.remark(&unsure(std::mem::take(&mut self.sent)));
        }
        self.resized = self.how.terminal;
        self.ask = true;
        self.quiet_since = self.quiet_since.map(|_| Instant::now());
    }

    /// Waits for a key, an answer or a signal.
    fn wait(&self, signals: &Signals) -> Result<Came, Failure> {
        // What is typed before CTRL-] or the end of stdin is still sent; an answer confirms it.
        let quiet_since = self.quiet_since.filter(|_| self.is_quiet_told());
        let ending = self.leaving.or(quiet_since);
        let ending = ending.map(|since| QUIET.saturating_sub(since.elapsed()));
        let lost = self.lost.as_ref().and_then(Loss::waits);
        let limit = self.gives_up().map(Standstill::waits);
        let attempt = self.outage.as_ref().filter(|_| !self.is_connected());
        let attempt = attempt.map(Outage::waits);
        let timeout = [ending, self.keys.waits(), lost, limit, attempt]
            .into_iter()
            .flatten()
            .min();
        // A pipe is not read faster than the guest reads; a terminal always, or CTRL-] would not be noticed.
        let listening = match self.how.terminal {
            true => self.quiet_since.is_none(),
            false => {
                self.quiet_since.is_none() && !self.how.watches && self.typed.len() < AHEAD_MAX
            }
        };
        let stream = self.monitor.as_ref().map(|monitor| monitor.rpc.stream());
        Came::wait(stream, signals, listening, timeout)
    }

    /// Whether the user has ended the session, or stdin has ended and the guest has been silent since.
    fn is_over(&self) -> bool {
        let silent = |since: &Instant| since.elapsed() >= QUIET;
        let left = self
            .leaving
            .is_some_and(|since| self.all_typed() || silent(&since));
        left || (self.quiet_since.is_some_and(|since| silent(&since)) && self.is_quiet_told())
    }

    /// Whether silence means that the guest has nothing more to say.
    fn is_quiet_told(&self) -> bool {
        self.all_typed() && self.is_connected()
    }

    fn all_typed(&self) -> bool {
        self.typed.is_empty() && self.writing.is_none()
    }

    /// Reads what has been typed, or the end of stdin.
    fn take_keys(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        let Some(keys) = waiting::read_stdin(&mut buffer)? else {
            return Ok(());
        };
        if !self.how.terminal {
            if keys.is_empty() {
                self.quiet_since = Some(Instant::now());
            }
            self.typed.extend_from_slice(keys);
            return Ok(());
        }
        if keys.is_empty() {
            self.leaving = Some(Instant::now());
        }
        for wish in self.keys.take(keys) {
            match wish {
                Wish::Leave => self.leaving = Some(Instant::now()),
                Wish::Help => self.how.help(),
                Wish::Type(keys) if self.writer && self.typed.len() < AHEAD_MAX => {
                    self.typed.extend_from_slice(&keys);
                }
                Wish::Type(keys) if is_answer(&keys) => {}
                Wish::Type(_) => {
                    self.lost.iter_mut().for_each(Loss::typed);
                    self.show(b"\x07")?;
                }
            }
        }
        Ok(())
    }

    fn take_reply(&mut self, reply: &Reply) -> Result<(), Failure> {
        if let Some(result) = result_in(reply, &mut self.reading)? {
            let chunk = result.into_result().map_err(refused)?;
            return self.take_chunk(chunk);
        }
        if let Some(result) = result_in(reply, &mut self.writing)? {
            return self.written(result);
        }
        if let Some(VmInfoResult::Ok(info)) = result_in(reply, &mut self.asking)? {
            self.told(&info);
        }
        // If the size cannot be set, the session continues.
        result_in(reply, &mut self.resizing)?;
        Ok(())
    }

    fn written(&mut self, answer: CtlResult) -> Result<(), Failure> {
        self.sent = 0;
        if let Some(since) = &mut self.quiet_since {
            *since = Instant::now();
        }
        match answer {
            CtlResult::Ok => Ok(()),
            CtlResult::Error(error) if !self.how.terminal => Err(refused(error)),
            CtlResult::Error(error) => {
                self.typed.clear();
                // That the VM is down, or the right to write is lost, is reported once, when it happens.
                if self.writer && error.code != CtlCode::NotRunning {
                    self.how.remark(&error.text);
                }
                Ok(())
            }
        }
    }

    fn take_chunk(&mut self, chunk: ConChunk) -> Result<(), Failure> {
        self.outage = None;
        let skipped = chunk.offset.saturating_sub(self.place.offset);
        if skipped > 0 {
            self.how.remark(&format!("{skipped} bytes skipped"));
        }
        let former = self.replay_end.saturating_sub(chunk.offset);
        let former = usize::try_from(former)
            .unwrap_or(usize::MAX)
            .min(chunk.data.len());
        let (former, new) = chunk.data.split_at(former);
        self.show_former(former)?;
        self.show(new)?;
        if let Some(lost) = &mut self.lost {
            lost.shown(new);
        }
        self.place.offset = chunk.offset.saturating_add(chunk.data.len() as u64);
        if let Some(since) = self.quiet_since.as_mut().filter(|_| !chunk.data.is_empty()) {
            *since = Instant::now();
        }
        self.see_state(chunk.state);
        self.see_writer(chunk.writer, &chunk.taken_by)?;
        self.see_standstill(chunk.standstill);
        Ok(())
    }

    fn show_former(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.how.terminal {
            return self.show(bytes);
        }
        let cut = std::mem::take(&mut self.cut);
        let line_end = bytes.iter().position(|byte| *byte == b'\n').filter(|_| cut);
        let from = line_end.map_or(0, |end| end + 1);
        self.show(&without_questions(bytes.get(from..).unwrap_or_default()))
    }

    fn see_state(&mut self, state: VmState) {
        match state {
            // How it ended is queried, and reported when the answer has come.
            VmState::Inactive => self.ask |= !self.down,
            VmState::Starting | VmState::Running if self.down => {
                (self.down, self.ask) = (false, true);
                self.how
                    .remark(&format!("{} is running again", self.how.vm));
            }
            VmState::Running if self.suspended => {
                self.how.remark(&format!("{} was resumed", self.how.vm))
            }
            VmState::Suspended if !self.suspended => {
                self.how.remark(&format!("{} is suspended", self.how.vm))
            }
            _ => {}
        }
        self.suspended = state == VmState::Suspended;
    }

    /// Takes the answer to how the VM is; it may have been started again since.
    fn told(&mut self, info: &VmInfo) {
        self.place.learn(info);
        if info.state == VmState::Inactive && !self.down {
            self.down = true;
            let how = how_ended(&info.last_end);
            self.how.remark(&format!("{} is down: {how}", self.how.vm));
        }
    }

    fn see_writer(&mut self, writer: bool, taken_by: &str) -> Result<(), Failure> {
        if std::mem::replace(&mut self.writer, writer) && !writer {
            let by = if taken_by.is_empty() {
                "somebody else"
            } else {
                taken_by
            };
            let lost = format!("{} was taken over by {by}", self.how.channel);
            if !self.how.terminal && self.quiet_since.is_none() {
                return Err(Failure::new(Exit::Failed, lost));
            }
            self.typed.clear();
            let lost = format!("{lost}; you can go on watching");
            self.how.remark(&lost);
            self.lost = self.how.terminal.then(|| Loss::new(lost));
        }
        Ok(())
    }

    fn see_standstill(&mut self, told: Option<ConStandstill>) {
        let now = told.map(|told| Standstill::new(told, self.typed.len()));
        let now = now.filter(|_| self.writer);
        let before = std::mem::replace(&mut self.standstill, now);
        match (before, &self.standstill) {
            (None, Some(now)) => self.how.remark(&format!("{} {now}", self.how.channel)),
            (Some(_), None) if self.writer && !self.down => {
                self.how
                    .remark(&format!("{} takes input again", self.how.channel));
            }
            _ => {}
        }
    }

    /// The standstill that ends the session if it goes on: what is sent is no terminal, and is not yet sent.
    fn gives_up(&self) -> Option<&Standstill> {
        let sends = !self.how.terminal && !self.all_typed();
        self.standstill.as_ref().filter(|_| sends)
    }

    fn give_up_in_time(&self) -> Result<(), Failure> {
        match self.gives_up() {
            Some(standstill) if standstill.waits().is_zero() => {
                let text = format!("{} {standstill}", self.how.channel);
                Err(Failure::new(Exit::Timeout, text))
            }
            _ => Ok(()),
        }
    }

    fn show(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.out.write(bytes);
        written.map_err(|e| Failure::from(e).about("cannot write to stdout"))
    }
}
