//! A console in a page: output goes there by its offset, input comes back (umlweb).
//!
//! A frame of output is 8 bytes of offset, most significant first, and data. The page acknowledges what its terminal
//! has processed; at most [`WINDOW`] bytes are under way. A page that connects again says from which offset it goes on,
//! so it does not matter which of browser, umlweb, monitor and guest was gone meanwhile. Frames of text are values in
//! JSON.

use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use client::{Monitor, broken, refused, result_in};
use config::{ChannelName, VmName};
use rpc_xdr::client::{ClientError, Reply, Stream as _, Ticket};
use rpc_xdr::umlmonctrl::{
    ConChunk, ConMode, ConOpenArgs, ConOpenResult, ConReadArgs, ConReadResult, ConResizeArgs,
    ConScreenArgs, ConSizesArgs, ConSizesResult, ConWriteArgs, CtlCode, CtlResult, VmState,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::{Value, json};
use tungstenite::{Error, Message};

use crate::sessions::Session;
use crate::sizes::Sizes;
use crate::web::Asked;
use crate::websocket::{NO_SESSION, Socket};

/// Bytes of output that the page has not acknowledged, at most.
const WINDOW: u64 = 256 * 1024;
/// Bytes of one read, at most, and the least that is worth one.
const READ_MAX: u64 = 64 * 1024;
const READ_MIN: u64 = 4 * 1024;
/// How long more output may gather when there just was some, unless it was as much as one read gives. A guest that
/// writes line by line would else cause thousands of messages in each second; a screen is drawn 60 times.
const GATHERING: Duration = Duration::from_millis(8);
/// How long one poll for output may wait, in milliseconds.
const POLL_MS: u32 = 20_000;
/// Bytes of one write; small, so that a slow guest delays little.
const WRITE_MAX: usize = 4096;
/// Bytes of input that the guest has not taken, at most. Pages of ours send no more than half of it ahead.
const AHEAD_MAX: usize = 128 * 1024;
/// How much of the former output a page gets first, in bytes.
const REPLAY: u64 = 128 * 1024;
/// How long after a failed connection the next one is tried.
const RETRY: Duration = Duration::from_secs(1);
/// How often a session is looked at that may have ended.
const LOOK: Duration = Duration::from_secs(1);

/// What a page says, beside what is typed.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
enum Said {
    /// Its terminal has processed everything before this offset.
    Ack(u64),
    /// It wants the right to write, takes it from somebody else, or gives it back.
    Mode(Wish),
    /// Rows and columns of its window.
    Resize(u32, u32),
    /// Its user is there.
    Here,
}

#[derive(Deserialize, Debug, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Wish {
    Watch,
    Write,
    Take,
}

/// Why it ends.
enum End {
    /// The browser has gone.
    Gone,
    /// The page is told, and does not try again.
    Told(u16, &'static str),
}

impl From<Error> for End {
    fn from(_: Error) -> End {
        End::Gone
    }
}

/// A console in a page.
struct Console<'a> {
    asked: &'a Asked<'a>,
    session: &'a Session,
    vm: VmName,
    channel: ChannelName,
    socket: Socket,
    link: Option<Link>,
    retry: Instant,
    /// When the next output may be asked for.
    next_read: Instant,
    /// Offset of the next byte for the page; None until it has got the first one.
    offset: Option<u64>,
    acknowledged: u64,
    wish: Wish,
    typed: Vec<u8>,
    /// Bytes that the guest has taken, and those that were said to be.
    taken: u64,
    /// The size of its window, for the guest.
    size: Option<(u32, u32)>,
    /// Those that the guest has written for.
    sizes: Sizes,
    /// What the page was told last.
    told: Value,
}

/// The connection to the monitor, and the calls on it that are under way.
struct Link {
    monitor: Monitor,
    reading: Option<Ticket<ConReadResult>>,
    /// Output that waits for the sizes of the window within it.
    sizing: Option<(Ticket<ConSizesResult>, ConChunk)>,
    writing: Option<(Ticket<CtlResult>, usize)>,
    resizing: Option<Ticket<CtlResult>>,
    opening: Option<Ticket<ConOpenResult>>,
}

/// Serves the page until it goes, or the session ends.
///
/// # Errors
/// If the page has gone.
pub fn run(asked: &Asked<'_>, mut socket: Socket, session: &Session) -> Result<(), Error> {
    let vm = asked.request.parameter("vm").unwrap_or_default().parse();
    let channel = asked.request.parameter("channel").unwrap_or_default();
    let (Ok(vm), Ok(channel)) = (vm, channel.parse()) else {
        socket.close(4400, "there is no such console");
        return Ok(());
    };
    let offset = asked.request.parameter("offset");
    let offset = offset.and_then(|text| text.parse().ok());
    let mut console = Console {
        asked,
        session,
        vm,
        channel,
        socket,
        link: None,
        retry: Instant::now(),
        next_read: Instant::now(),
        offset,
        acknowledged: offset.unwrap_or(0),
        wish: Wish::Watch,
        typed: Vec::new(),
        taken: 0,
        size: None,
        sizes: Sizes::default(),
        told: Value::Null,
    };
    match console.serve() {
        End::Gone => {}
        End::Told(code, why) => console.socket.close(code, why),
    }
    Ok(())
}

impl Console<'_> {
    fn serve(&mut self) -> End {
        loop {
            match self.turn() {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    fn turn(&mut self) -> Result<(), End> {
        if self.session.has_ended() {
            return Err(End::Told(NO_SESSION, "the session has ended"));
        }
        if self.link.is_none() && self.retry <= Instant::now() {
            match self.begin() {
                Ok(link) => self.link = Some(link),
                Err(failure) => self.lose(&failure)?,
            }
        }
        if let Err(failure) = self.send_calls() {
            self.lose(&failure)?;
        }
        self.wait();
        if let Err(failure) = self.take_replies()? {
            self.lose(&failure)?;
        }
        while let Some(message) = self.socket.next()? {
            self.take(message)?;
        }
        if self.socket.is_blocked() {
            self.socket.flush()?;
        }
        let busy = self.offset.is_some_and(|offset| offset > self.acknowledged);
        Ok(self.socket.keep_alive(busy)?)
    }

    /// The monitor is not there, or refuses: the page is told, and it is tried again.
    fn lose(&mut self, failure: &Failure) -> Result<(), End> {
        if failure.exit == Exit::NotAuthorised {
            return Err(End::Told(NO_SESSION, "the password is not valid any more"));
        }
        self.link = None;
        self.typed.clear();
        self.retry = Instant::now() + RETRY;
        self.tell(json!({"lost": failure.message}))
    }

    /// Tells the page something, unless it was told just that.
    fn tell(&mut self, value: Value) -> Result<(), End> {
        if self.told != value {
            self.socket.say(&value)?;
            self.told = value;
        }
        Ok(())
    }

    /// Connects with the monitor and the channel, and draws the screen for a page that has none yet.
    fn begin(&mut self) -> Result<Link, Failure> {
        let monitors = &self.asked.web.monitors;
        let mut monitor = monitors.connect(self.session, &self.vm, self.asked.from)?;
        let opened = monitor
            .con_open(&self.open_args(ConMode::Watch))
            .map_err(broken)?;
        let opened = opened.into_result().map_err(refused)?;
        // A monitor that has been started anew counts from the beginning.
        let former = self.offset.filter(|offset| *offset <= opened.end);
        let anew = former.is_none();
        let start = former.unwrap_or_else(|| opened.end.saturating_sub(REPLAY).max(opened.start));
        let _ = self.socket.say(&json!({"opened": {
            "start": opened.start, "end": opened.end, "run": opened.run_start, "from": start, "anew": anew,
        }}));
        self.told = Value::Null;
        // Another monitor may count them anew.
        self.sizes = Sizes::default();
        let sizes = monitor.con_sizes(&self.sizes_args()).map_err(broken)?;
        self.sizes.take(sizes.into_result().map_err(refused)?.sizes);
        if anew {
            self.acknowledged = start;
            self.draw(&mut monitor, start)?;
        }
        self.offset = Some(former.unwrap_or(self.offset.unwrap_or(start)));
        let mut link = Link {
            monitor,
            reading: None,
            sizing: None,
            writing: None,
            resizing: None,
            opening: None,
        };
        if !matches!(self.wish, Wish::Watch) {
            let args = self.open_args(ConMode::Write);
            link.opening = Some(link.monitor.send_con_open(&args).map_err(broken)?);
        }
        Ok(link)
    }

    /// Draws a screen that a program paints; lines of text come by themselves.
    fn draw(&mut self, monitor: &mut Monitor, start: u64) -> Result<(), Failure> {
        let args = ConScreenArgs {
            channel: self.channel.to_string(),
            cells: false,
        };
        let screen = monitor.con_screen(&args).map_err(broken)?;
        // Who may have no screen now does without.
        let Ok(screen) = screen.into_result() else {
            self.offset = Some(start);
            return Ok(());
        };
        let size = json!({"screen": {
            "rows": screen.rows,
            "columns": screen.columns,
            "offset": screen.offset,
            "drawing": (!screen.plain).then(|| String::from_utf8_lossy(&screen.drawing)),
        }});
        let _ = self.socket.say(&size);
        if screen.plain {
            self.offset = Some(start);
        } else {
            self.offset = Some(screen.offset);
            self.acknowledged = screen.offset;
        }
        Ok(())
    }

    fn open_args(&self, mode: ConMode) -> ConOpenArgs {
        ConOpenArgs {
            channel: self.channel.to_string(),
            mode,
            who: "web".to_owned(),
        }
    }

    fn sizes_args(&self) -> ConSizesArgs {
        ConSizesArgs {
            channel: self.channel.to_string(),
            after: self.sizes.last(),
        }
    }

    /// Sends whatever is due and not yet sent.
    fn send_calls(&mut self) -> Result<(), Failure> {
        let room = self.room();
        let (Some(link), Some(offset)) = (&mut self.link, self.offset) else {
            return Ok(());
        };
        let is_asked = link.reading.is_some() || link.sizing.is_some();
        if !is_asked && room >= READ_MIN && self.next_read <= Instant::now() {
            let args = ConReadArgs {
                channel: self.channel.to_string(),
                offset,
                max: u32::try_from(room).unwrap_or(0),
                wait_ms: POLL_MS,
            };
            link.reading = Some(link.monitor.send_con_read(&args).map_err(broken)?);
        }
        if link.writing.is_none() && link.opening.is_none() && !self.typed.is_empty() {
            let rest = self.typed.split_off(self.typed.len().min(WRITE_MAX));
            let data = std::mem::replace(&mut self.typed, rest);
            let length = data.len();
            let args = ConWriteArgs {
                channel: self.channel.to_string(),
                data,
            };
            let ticket = link.monitor.send_con_write(&args).map_err(broken)?;
            link.writing = Some((ticket, length));
        }
        if link.resizing.is_none()
            && link.opening.is_none()
            && let Some((rows, columns)) = self.size.take()
        {
            let args = ConResizeArgs {
                channel: self.channel.to_string(),
                rows,
                columns,
            };
            link.resizing = Some(link.monitor.send_con_resize(&args).map_err(broken)?);
        }
        Ok(())
    }

    /// How long until output may be asked for; as long as ever if the page has enough of it.
    fn until_read(&self) -> Duration {
        match self.room() < READ_MIN {
            true => LOOK,
            false => self.next_read.saturating_duration_since(Instant::now()),
        }
    }

    /// Bytes that the page can take.
    fn room(&self) -> u64 {
        let under_way = self.offset.unwrap_or(0).saturating_sub(self.acknowledged);
        WINDOW.saturating_sub(under_way).min(READ_MAX)
    }

    /// Waits until the page or the monitor says something.
    fn wait(&self) {
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, self.socket.is_blocked());
        let mut fds = vec![PollFd::new(&self.socket, wanted)];
        let mut limit = LOOK;
        if let Some(link) = &self.link {
            if link.monitor.rpc.stream().buffered() {
                return;
            }
            fds.push(PollFd::new(link.monitor.rpc.stream(), PollFlags::IN));
            if link.reading.is_none() && link.sizing.is_none() {
                limit = limit.min(self.until_read());
            }
        } else {
            limit = limit.min(self.retry.saturating_duration_since(Instant::now()));
        }
        // An interruption is a turn without anything new.
        let _ = poll(&mut fds, Timespec::try_from(limit).ok().as_ref());
    }

    /// Takes what the monitor has answered; the inner error is that of the monitor.
    fn take_replies(&mut self) -> Result<Result<(), Failure>, End> {
        let Some(link) = &mut self.link else {
            return Ok(Ok(()));
        };
        let stream = link.monitor.rpc.stream();
        if !stream.buffered() && !is_readable(stream) {
            return Ok(Ok(()));
        }
        match link.monitor.rpc.fill() {
            Ok(()) | Err(ClientError::TimedOut) => {}
            Err(error) => return Ok(Err(broken(error))),
        }
        loop {
            let Some(link) = &mut self.link else {
                return Ok(Ok(()));
            };
            match link.monitor.rpc.next_reply() {
                Ok(None) => return Ok(Ok(())),
                Ok(Some(reply)) => match self.take_reply(&reply)? {
                    Ok(()) => {}
                    failed => return Ok(failed),
                },
                Err(error) => return Ok(Err(broken(error))),
            }
        }
    }

    fn take_reply(&mut self, reply: &Reply) -> Result<Result<(), Failure>, End> {
        let Some(link) = &mut self.link else {
            return Ok(Ok(()));
        };
        let read = match result_in(reply, &mut link.reading) {
            Ok(read) => read,
            Err(failure) => return Ok(Err(failure)),
        };
        if let Some(result) = read {
            return match result.into_result() {
                Ok(chunk) => self.take_chunk(chunk),
                Err(error) => Ok(Err(refused(error))),
            };
        }
        if let Some((ticket, chunk)) = link.sizing.take_if(|(ticket, _)| ticket.matches(reply)) {
            let sizes = ticket.result(reply).map(ConSizesResult::into_result);
            return match sizes {
                Ok(Ok(sizes)) => {
                    self.sizes.take(sizes.sizes);
                    self.show(&chunk).map(Ok)
                }
                Ok(Err(error)) => Ok(Err(refused(error))),
                Err(error) => Ok(Err(broken(error))),
            };
        }
        if let Some((ticket, length)) = link.writing.take_if(|(ticket, _)| ticket.matches(reply)) {
            return self.written(ticket.result(reply), length).map(Ok);
        }
        if let Ok(Some(result)) = result_in(reply, &mut link.opening) {
            return self.opened(result).map(Ok);
        }
        // If the size cannot be set, the session goes on.
        Ok(result_in(reply, &mut link.resizing).map(|_| ()))
    }

    fn opened(&mut self, result: ConOpenResult) -> Result<(), End> {
        match result.into_result() {
            Ok(opened) if opened.taken_from.is_empty() => Ok(()),
            Ok(opened) => self.tell(json!({"took": opened.taken_from})),
            Err(error) => {
                self.wish = Wish::Watch;
                let busy = error.code == CtlCode::Busy;
                self.tell(json!({"refused": error.text, "busy": busy}))
            }
        }
    }

    fn written(
        &mut self,
        result: Result<CtlResult, ClientError>,
        length: usize,
    ) -> Result<(), End> {
        self.taken += length as u64;
        if let Ok(CtlResult::Error(error)) = result {
            self.taken += self.typed.len() as u64;
            self.typed.clear();
            self.socket.say(&json!({"not-typed": error.text}))?;
        }
        Ok(self.socket.say(&json!({"taken": self.taken}))?)
    }

    /// Takes output. If somebody else has the right to write, the size of the window can have changed within it, which
    /// is asked for afterwards, so that no change is missing.
    fn take_chunk(&mut self, chunk: ConChunk) -> Result<Result<(), Failure>, End> {
        if chunk.writer || chunk.data.is_empty() {
            return self.show(&chunk).map(Ok);
        }
        let args = self.sizes_args();
        let Some(link) = &mut self.link else {
            return Ok(Ok(()));
        };
        match link.monitor.send_con_sizes(&args) {
            Ok(ticket) => link.sizing = Some((ticket, chunk)),
            Err(error) => return Ok(Err(broken(error))),
        }
        Ok(Ok(()))
    }

    fn show(&mut self, chunk: &ConChunk) -> Result<(), End> {
        let standstill = chunk.standstill.as_ref();
        self.tell(json!({
            "state": client::words::state(chunk.state),
            "writer": chunk.writer,
            "taken-by": chunk.taken_by,
            "standstill": standstill.map(|it| format!("{} bytes: {}", it.bytes, it.why)),
        }))?;
        let (mut offset, mut rest) = (chunk.offset, &chunk.data[..]);
        loop {
            if let Some((rows, columns)) = self.sizes.reach(offset) {
                self.socket.say(&json!({"size": [rows, columns]}))?;
            }
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(self.sizes.until_next(offset, rest.len()));
            let mut frame = offset.to_be_bytes().to_vec();
            frame.extend_from_slice(piece);
            self.socket.send_bytes(frame)?;
            offset = offset.saturating_add(piece.len() as u64);
            rest = later;
        }
        self.offset = Some(offset);
        self.next_read = Instant::now();
        if !chunk.data.is_empty() && (chunk.data.len() as u64) < READ_MAX {
            self.next_read += GATHERING;
        }
        if chunk.state == VmState::Inactive && !chunk.writer {
            self.wish = Wish::Watch;
        }
        Ok(())
    }

    /// Takes a message of the page.
    fn take(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Binary(data) => {
                self.session.touch();
                if self.typed.len() + data.len() > AHEAD_MAX {
                    return Err(End::Told(1008, "too much is typed ahead"));
                }
                self.typed.extend_from_slice(&data);
            }
            Message::Text(text) => match serde_json::from_str(text.as_str()) {
                Ok(said) => self.hear(&said)?,
                Err(_) => return Err(End::Told(1008, "this is not understood")),
            },
            Message::Close(_) => return Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    fn hear(&mut self, said: &Said) -> Result<(), End> {
        match *said {
            Said::Ack(offset) => {
                let sent = self.offset.unwrap_or(0);
                self.acknowledged = self.acknowledged.max(offset.min(sent));
            }
            Said::Here => self.session.touch(),
            Said::Resize(rows, columns) => self.size = Some((rows, columns)),
            Said::Mode(wish) => {
                self.session.touch();
                self.wish = wish;
                self.told = Value::Null;
                let args = self.open_args(match wish {
                    Wish::Watch => ConMode::Watch,
                    Wish::Write => ConMode::Write,
                    Wish::Take => ConMode::Force,
                });
                let sent = self.link.as_mut().map(|link| {
                    link.opening = Some(link.monitor.send_con_open(&args)?);
                    Ok::<_, ClientError>(())
                });
                if let Some(Err(error)) = sent {
                    self.lose(&broken(error))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a read would not wait.
fn is_readable(stream: &client::Stream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}
