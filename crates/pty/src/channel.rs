//! A channel: always read, kept, logged; any number of watchers, one writer. Part of the umlmon daemon.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use config::ChannelName;
use tokio::sync::{Mutex, Notify};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clients::Clients;
use crate::output::Output;
use crate::pace::Pace;
use crate::push::Push;
use crate::{Chunk, ClientInfo, Endpoint, Error, Log, Nudge, Screen, Standstill, WindowSize};

/// How far back to search for output that paints a screen, in bytes: as far as a client shows former output.
const LATELY: u64 = 4096;
/// How much the screen answers until a client types, or another kernel starts, in bytes: a guest that asks and does not
/// read must not be filled with answers, see [`crate::pace`].
const ANSWERED_MAX: usize = 2048;
/// The first and the longest pause while the guest does not read what is typed.
const WRITE_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

/// The implementation of one `conN` or `sslN`.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    endpoint: Rc<Endpoint>,
    nudge: Rc<Nudge>,
    output: Output,
    pub(crate) clients: RefCell<Clients>,
    /// Counts the notifications to readers besides data: changes of the writer, and calls of [`Channel::wake`].
    generation: Cell<u64>,
    changed: Notify,
    /// The client whose input is being typed; a queue, so input of one client is never mixed or reordered.
    turn: Mutex<()>,
    pace: Pace,
    /// What the screen has answered since a client typed, in bytes.
    answered: Cell<usize>,
    push: Rc<Push>,
    /// What clients want to type and is not in the terminal yet, in bytes.
    waiting: Cell<usize>,
    /// How many kernels have ended.
    ended: Cell<u64>,
    tasks: OnceCell<[AbortHandle; 2]>,
}

impl Channel {
    /// Opens the terminal and starts reading it, which goes on until the channel is dropped. Needs the runtime and a
    /// `LocalSet`.
    ///
    /// # Errors
    /// [`Error::Open`] if no pseudo terminal is available.
    pub fn open(name: ChannelName, log: Option<Log>, nudge: Rc<Nudge>) -> Result<Rc<Self>, Error> {
        let cannot = |source| Error::Open {
            channel: name,
            source,
        };
        let endpoint = Endpoint::open().map_err(cannot)?;
        let size = endpoint.size().map_err(cannot)?;
        let output = Output::new(name, log, size).map_err(cannot)?;
        Ok(Self::begin(name, endpoint, output, nudge))
    }

    /// Starts reading a terminal.
    pub(crate) fn begin(
        name: ChannelName,
        endpoint: Endpoint,
        output: Output,
        nudge: Rc<Nudge>,
    ) -> Rc<Self> {
        let endpoint = Rc::new(endpoint);
        let push = Rc::new(Push::new(endpoint.clone(), nudge.clone()));
        let channel = Rc::new(Self {
            name,
            endpoint,
            nudge,
            output,
            clients: RefCell::default(),
            generation: Cell::new(0),
            changed: Notify::new(),
            turn: Mutex::new(()),
            pace: Pace::new(),
            answered: Cell::new(0),
            push,
            waiting: Cell::new(0),
            ended: Cell::new(0),
            tasks: OnceCell::new(),
        });
        let reader = read_for_ever(channel.endpoint.clone(), Rc::downgrade(&channel));
        let told = Rc::downgrade(&channel);
        let wake = move || told.upgrade().iter().for_each(|channel| channel.wake());
        let pusher = channel.push.clone().push_for_ever(wake);
        let tasks = [
            tokio::task::spawn_local(reader).abort_handle(),
            tokio::task::spawn_local(pusher).abort_handle(),
        ];
        channel.tasks.get_or_init(|| tasks);
        // Also shows what the host's kernel can do.
        channel.drain();
        channel
    }

    /// The name.
    pub fn name(&self) -> ChannelName {
        self.name
    }

    /// A descriptor for the kernel, see [`Endpoint::kernel_slave`].
    ///
    /// # Errors
    /// [`Error::Terminal`].
    pub fn kernel_slave(&self) -> Result<OwnedFd, Error> {
        self.endpoint
            .kernel_slave()
            .map_err(|e| self.cannot("open the kernel's side of", e))
    }

    /// To be called when a kernel has ended: reads its last output, so that it is kept, and discards input that it did
    /// not read.
    ///
    /// # Errors
    /// [`Error::Terminal`].
    pub fn kernel_ended(&self) -> Result<(), Error> {
        while !self.drain() {}
        self.pace.reset();
        self.ended.set(self.ended.get() + 1);
        self.answered.set(0);
        self.endpoint.reset().map_err(|e| self.cannot("reset", e))
    }

    /// The client that may write.
    pub fn writer(&self) -> Option<ClientInfo> {
        self.clients.borrow().writer()
    }

    /// The clients that may not write, in the order in which they attached.
    pub fn watchers(&self) -> Vec<ClientInfo> {
        self.clients.borrow().watchers()
    }

    /// The offsets of the bytes kept in memory; the end is the number of bytes the guest has written.
    pub fn range(&self) -> Range<u64> {
        self.output.range()
    }

    /// Where the last `lines` lines of what is kept in memory begin.
    pub fn tail(&self, lines: u32) -> u64 {
        self.output.tail(lines)
    }

    /// Returns what is kept in memory from `offset` on, without waiting.
    pub fn peek(&self, offset: u64, max: usize) -> Chunk {
        self.output.peek(offset, max)
    }

    /// Returns what the guest has written from `offset` on; waits for it if there is nothing yet. Empty if there was
    /// nothing in time.
    pub async fn read(&self, offset: u64, max: usize, wait: Duration) -> Chunk {
        let deadline = Instant::now() + wait;
        loop {
            let change = self.changed.notified();
            let chunk = self.peek(offset, max);
            if !chunk.data.is_empty() {
                return chunk;
            }
            if tokio::time::timeout_at(deadline, change).await.is_err() {
                return chunk;
            }
        }
    }

    /// As [`Channel::read`], but returns also as soon as the generation is another than `seen`, and updates that.
    pub(crate) async fn read_or_change(
        &self,
        offset: u64,
        max: usize,
        wait: Duration,
        seen: &Cell<u64>,
    ) -> Chunk {
        let deadline = Instant::now() + wait;
        loop {
            let change = self.changed.notified();
            let chunk = self.peek(offset, max);
            let told = seen.replace(self.generation.get()) != self.generation.get();
            if !chunk.data.is_empty() || told {
                return chunk;
            }
            if tokio::time::timeout_at(deadline, change).await.is_err() {
                return chunk;
            }
        }
    }

    /// Types `data`; waits until it is in the terminal. `may` is called before each step.
    pub(crate) async fn type_in(
        &self,
        data: &[u8],
        may: impl Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let waiting = Waiting::new(&self.waiting, data.len());
        let kernel = self.ended.get();
        let _turn = self.turn.lock().await;
        self.answered.set(0);
        let mut rest = data;
        let mut pause = WRITE_PAUSE.0;
        while !rest.is_empty() {
            may()?;
            self.must_be(kernel)?;
            let room = self.room().min(rest.len());
            let written = match room {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => self.write(rest.get(..room).unwrap_or_default()),
            };
            match written {
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    waiting.less(n);
                    pause = WRITE_PAUSE.0;
                }
                // Polling is better here than epoll, which has no event for data that has been read at the other end.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(WRITE_PAUSE.1);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.cannot("write to", e)),
            }
        }
        Ok(())
    }

    /// Waits until the kernel has taken all that was typed; `may` is called before each step.
    pub(crate) async fn wait_until_taken(
        &self,
        may: impl Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let kernel = self.ended.get();
        let mut pause = WRITE_PAUSE.0;
        while !self.is_taken() {
            may()?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(WRITE_PAUSE.1);
            self.must_be(kernel)?;
        }
        Ok(())
    }

    fn must_be(&self, kernel: u64) -> Result<(), Error> {
        match self.ended.get() == kernel {
            true => Ok(()),
            false => Err(Error::Ended { channel: self.name }),
        }
    }

    /// The input that the kernel does not take, if there is such for some seconds already. Readers are woken when that
    /// begins or ends.
    pub fn standstill(&self) -> Option<Standstill> {
        self.push.standstill(self.waiting.get())
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        let written = self.push.write(data)?;
        self.pace.typed(written);
        Ok(written)
    }

    /// How many bytes may be typed now.
    fn room(&self) -> usize {
        let taken = || self.endpoint.is_taken();
        self.pace.room(taken, self.nudge.peer())
    }

    /// Whether the kernel has read all that was typed.
    pub fn is_taken(&self) -> bool {
        self.endpoint.is_taken()
    }

    /// Sets the window size, in characters.
    ///
    /// # Errors
    /// [`Error::Terminal`].
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        // What the guest wrote for the former size.
        self.drain();
        self.endpoint
            .resize(rows, columns)
            .map_err(|e| self.cannot("set the window size of", e))?;
        self.output.resized(rows, columns);
        Ok(())
    }

    /// Looks at the screen, which shows all up to [`Channel::range`]'s end.
    pub fn with_screen<T>(&self, look: impl FnOnce(&Screen) -> T) -> T {
        self.output.with_screen(look)
    }

    /// Whether the latest output shows the same as the screen: the guest works line by line.
    pub fn is_plain(&self) -> bool {
        let end = self.range().end;
        let lately = self.peek(end.saturating_sub(LATELY), usize::MAX).data;
        self.with_screen(Screen::is_plain) && !addresses(&lately)
    }

    /// The window size: rows and columns.
    ///
    /// # Errors
    /// [`Error::Terminal`].
    pub fn size(&self) -> Result<(u16, u16), Error> {
        self.endpoint
            .size()
            .map_err(|e| self.cannot("ask the window size of", e))
    }

    /// The sizes that the window has had after the one with this number, the latest [`crate::SIZES_MAX`] of them.
    pub fn sizes_after(&self, number: u64) -> Vec<WindowSize> {
        self.output.sizes_after(number)
    }

    /// The log file, if one is configured.
    pub fn log(&self) -> Ref<'_, Option<Log>> {
        self.output.log()
    }

    /// Writes another log file from now on, or none: the configuration may change between two kernels.
    pub fn set_log(&self, log: Option<Log>) {
        self.output.set_log(log);
    }

    /// Keeps so many bytes in memory from now on. Not while a second process holds what [`Channel::held`] returned.
    ///
    /// # Errors
    /// [`Error::Terminal`] if the host has no memory or descriptors left; nothing is changed then.
    pub fn resize_history(&self, bytes: usize) -> Result<(), Error> {
        let resized = self.output.resize_history(bytes);
        resized.map_err(|e| self.cannot("change the history of", e))
    }

    /// Opens the log file anew after a log rotation; without one nothing happens.
    ///
    /// # Errors
    /// [`Error::Log`]; the old file stays in use.
    pub fn reopen_log(&self) -> Result<(), Error> {
        self.output.reopen_log()
    }

    /// Makes all waiting reads of clients return, because something they report has changed, for example the state of
    /// the VM.
    pub fn wake(&self) {
        self.generation.set(self.generation.get() + 1);
        self.changed.notify_waiters();
    }

    /// The generation a new client has seen.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Reads what is there, up to a limit; returns whether that was all.
    pub(crate) fn drain(&self) -> bool {
        let answer = |answers: &[u8]| self.answer(answers);
        let drained = self.output.drain(self.endpoint.master(), answer);
        if drained.any {
            self.changed.notify_waiters();
            self.nudge.drained();
        }
        drained.all
    }

    /// Queries of the guest to its terminal are answered by that of the writer; if there is no writer, the screen
    /// answers, so that a program does not wait without an answer.
    fn answer(&self, answers: &[u8]) {
        let answered = self.answered.get() + answers.len();
        if self.writer().is_none() && answered <= ANSWERED_MAX {
            self.answered.set(answered);
            // If there is no room, the guest does not read.
            let _ = self.write(answers);
        }
    }

    /// The output, and what has come of it.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// The terminal.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sees to it that the kernel takes what a former monitor has typed.
    pub(crate) fn push_on(&self) {
        self.push.push_on();
    }

    pub(crate) fn cannot(&self, what: &'static str, source: io::Error) -> Error {
        Error::Terminal {
            what,
            channel: self.name,
            source,
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.tasks
            .get()
            .into_iter()
            .flatten()
            .for_each(AbortHandle::abort);
    }
}

/// What one write adds to the bytes that wait, until it is over or given up.
struct Waiting<'a> {
    all: &'a Cell<usize>,
    own: Cell<usize>,
}

impl<'a> Waiting<'a> {
    fn new(all: &'a Cell<usize>, bytes: usize) -> Self {
        all.set(all.get() + bytes);
        let own = Cell::new(bytes);
        Self { all, own }
    }

    fn less(&self, bytes: usize) {
        self.all.set(self.all.get().saturating_sub(bytes));
        self.own.set(self.own.get().saturating_sub(bytes));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.less(self.own.get());
    }
}

/// Whether there is a sequence among the bytes that moves the cursor to a place on the screen (CUP, HVP, VPA), or sets
/// a region.
fn addresses(bytes: &[u8]) -> bool {
    let is_parameter = |byte: &u8| byte.is_ascii_digit() || *byte == b';';
    bytes.windows(2).enumerate().any(|(at, pair)| {
        let after = bytes.get(at + 2..).unwrap_or_default();
        let last = after.iter().find(|byte| !is_parameter(byte));
        pair == b"\x1b[" && matches!(last, Some(b'H' | b'f' | b'd' | b'r'))
    })
}

/// Reads the terminal into its channel, whether or not clients watch.
async fn read_for_ever(endpoint: Rc<Endpoint>, channel: Weak<Channel>) {
    let drain = || channel.upgrade().is_none_or(|channel| channel.drain());
    while endpoint.when_readable(drain).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
