//! The output of a guest on one channel: read always, kept, shown, logged, each byte once, however often the monitor
//! ends meanwhile. Part of the umlmon daemon.
//!
//! The order of the steps for a piece decides that. It is moved into the pipe; it is put into the history; the state
//! says that it is there, that it is pending, and where the log ends; it is drawn, and appended to the log; it is taken
//! out of the pipe; the state says that it is not pending. So the next monitor finds one of these:
//!
//! | state | pipe | then |
//! |---|---|---|
//! | nothing pending | a piece | nothing has been done with it: it is processed |
//! | pending | the piece | it is in the history; the rest of it is appended to the log, and it is taken away |
//! | pending | less, or nothing | all has been done with it, and what is left is taken away |

use std::cell::{Cell, Ref, RefCell};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use config::ChannelName;

use crate::held::refused;
use crate::log::Intent;
use crate::memory::Memory;
use crate::sizes::Sizes;
use crate::state::{State, View};
use crate::transit::{READ_BYTES, Transit};
use crate::{Chunk, Error, HISTORY_BYTES, History, Log, Screen, WindowSize};

/// How often the pipe is filled before other tasks may run.
const PIECES_IN_A_ROW: usize = 2;

/// What has come of the output of one channel.
#[derive(Debug)]
pub(crate) struct Output {
    name: ChannelName,
    transit: Transit,
    history: RefCell<History>,
    /// The screen; there is none before the guest has written something.
    screen: RefCell<Option<Screen>>,
    sizes: RefCell<Sizes>,
    log: RefCell<Option<Log>>,
    /// How much of the output the view in the memory shows.
    viewed: Cell<u64>,
    /// An error of the memory has been told.
    told: Cell<bool>,
}

/// What has been read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drained {
    /// Something was.
    pub any: bool,
    /// The terminal is empty now.
    pub all: bool,
}

impl Output {
    /// Of a terminal that has a window of this size: rows and columns.
    ///
    /// # Errors
    /// If there are not enough descriptors.
    pub(crate) fn new(
        name: ChannelName,
        log: Option<Log>,
        (rows, columns): (u16, u16),
    ) -> io::Result<Self> {
        let output = Self::with(name, Transit::new()?, History::new(HISTORY_BYTES)?, log);
        output.sizes.borrow_mut().push(0, rows, columns);
        Ok(output)
    }

    /// Goes on with that of a former monitor.
    ///
    /// # Errors
    /// If the memory says what cannot be.
    pub(crate) fn adopt(
        name: ChannelName,
        (transit, memory): (Transit, Memory),
        log: Option<Log>,
        (rows, columns): (u16, u16),
    ) -> io::Result<Self> {
        let state = memory.state.load(memory.file())?.unwrap_or_default();
        let damaged = || refused("the memory does not say what it has");
        let state = State::from_bytes(&state).ok_or_else(damaged)?;
        let view = memory.view.load(memory.file())?.unwrap_or_default();
        let view = View::from_bytes(&view).unwrap_or_default();
        let history = History::adopt(memory, state.kept.clone())?;
        let output = Self::with(name, transit, history, log);
        output.finish(&state)?;
        let sizes = Sizes::adopt(view.sizes.clone(), state.kept.end);
        let offset = if sizes.is_some() { state.kept.end } else { 0 };
        let mut sizes = sizes.unwrap_or_default();
        let former = sizes.last().map(|size| (size.rows, size.columns));
        output.show(&view, former.unwrap_or((rows, columns)));
        // The monitor may have ended before it could say so.
        sizes.push(offset, rows, columns);
        output.sizes.replace(sizes);
        if let Some(screen) = &mut *output.screen.borrow_mut() {
            screen.resize(rows, columns);
        }
        Ok(output)
    }

    fn with(name: ChannelName, transit: Transit, history: History, log: Option<Log>) -> Self {
        Self {
            name,
            transit,
            history: RefCell::new(history),
            screen: RefCell::default(),
            sizes: RefCell::default(),
            log: RefCell::new(log),
            viewed: Cell::new(0),
            told: Cell::new(false),
        }
    }

    /// Does what is left to do with a piece that a former monitor had begun.
    fn finish(&self, state: &State) -> io::Result<()> {
        let pending = usize::try_from(state.pending).unwrap_or(usize::MAX);
        if pending > 0 {
            let mut piece = self.transit.look()?;
            let is_whole = piece.len() >= pending;
            piece.truncate(pending);
            let mut log = self.log.borrow_mut();
            if let (Some(log), Some(intent), true) = (&mut *log, &state.intent, is_whole) {
                log.append_rest(intent, &piece);
            }
            self.transit.consume(piece)?;
        }
        let last = self.peek(state.kept.end.saturating_sub(1), 1).data;
        let mut log = self.log.borrow_mut();
        if let Some(log) = &mut *log {
            if let (Some(gap), 0) = (&state.intent, pending) {
                log.append_rest(gap, b"");
            }
            log.begins_line(last.iter().all(|last| *last == b'\n'));
        }
        self.say(0, log.as_ref().and_then(Log::gap));
        Ok(())
    }

    /// Makes the screen that a former monitor had: from the view, and what has come after it. Questions have been
    /// answered.
    fn show(&self, view: &View, (rows, columns): (u16, u16)) {
        let kept = self.range();
        let mut screen = Screen::new(rows, columns);
        let mut from = kept.start;
        if !view.redraw.is_empty() && (kept.start..=kept.end).contains(&view.offset) {
            screen.feed(&view.redraw);
            from = view.offset;
            self.viewed.set(from);
        }
        while from < kept.end {
            let chunk = self.peek(from, READ_BYTES);
            if chunk.data.is_empty() {
                break;
            }
            from = chunk.offset + chunk.data.len() as u64;
            screen.feed(&chunk.data);
            screen.answers();
        }
        if kept.end > 0 {
            self.screen.replace(Some(screen));
        }
    }

    /// The pipe.
    pub(crate) fn transit(&self) -> &Transit {
        &self.transit
    }

    /// Writes all that the next monitor must know into the memory, and calls `with` with that.
    pub(crate) fn with_memory<T>(&self, with: impl FnOnce(&Memory) -> T) -> T {
        self.say(0, self.log().as_ref().and_then(Log::gap));
        self.say_view();
        with(self.history.borrow().memory())
    }

    /// Reads what the terminal has, up to a limit. `answer` gets what the screen answers to the guest.
    pub(crate) fn drain(&self, master: BorrowedFd<'_>, answer: impl Fn(&[u8])) -> Drained {
        let mut any = false;
        for _ in 0..PIECES_IN_A_ROW {
            let filled = self.transit.fill(master);
            let processed = self.process(&answer);
            any |= processed;
            // A pipe that was full already takes nothing.
            if filled.all && filled.any == processed {
                return Drained { any, all: true };
            }
        }
        Drained { any, all: false }
    }

    /// Does everything with what is in the pipe; returns whether there was something.
    fn process(&self, answer: &impl Fn(&[u8])) -> bool {
        match self.transit.look() {
            Ok(piece) if piece.is_empty() => false,
            Ok(piece) => {
                self.take(piece, answer);
                true
            }
            // Tried again when more comes.
            Err(error) => {
                self.tell(Err(error));
                false
            }
        }
    }

    fn take(&self, piece: Vec<u8>, answer: &impl Fn(&[u8])) {
        let kept = self.history.borrow_mut().push(&piece);
        self.tell(kept);
        let mut log = self.log.borrow_mut();
        self.say(piece.len() as u64, log.as_ref().and_then(Log::intent));
        self.draw(&piece, answer);
        if let Some(log) = &mut *log {
            log.append(&piece);
        }
        let consumed = self.transit.consume(piece);
        self.tell(consumed);
        self.say(0, log.as_ref().and_then(Log::gap));
        let since_view = self.range().end - self.viewed.get();
        // As long as what is kept reaches back to the view, the screen can be made again.
        if since_view > self.history.borrow().memory().ring() as u64 / 2 {
            self.say_view();
        }
    }

    fn draw(&self, data: &[u8], answer: impl Fn(&[u8])) {
        let mut screen = self.screen.borrow_mut();
        let screen = screen.get_or_insert_with(|| self.new_screen());
        for data in data.chunks(READ_BYTES) {
            screen.feed(data);
            let answers = screen.answers();
            if !answers.is_empty() {
                answer(&answers);
            }
        }
    }

    /// Writes the state into the memory.
    fn say(&self, pending: u64, intent: Option<Intent>) {
        let history = self.history.borrow();
        let state = State {
            kept: history.range(),
            pending,
            intent,
        };
        let memory = history.memory();
        let said = memory.state.store(memory.file(), &state.to_bytes());
        self.tell(said);
    }

    /// Writes into the memory what is shown.
    fn say_view(&self) {
        let history = self.history.borrow();
        let memory = history.memory();
        let screen = self.screen.borrow();
        let mut view = View {
            offset: history.range().end,
            sizes: self.sizes.borrow().after(0),
            redraw: screen.as_ref().map(Screen::redraw).unwrap_or_default(),
        };
        self.viewed.set(view.offset);
        let mut bytes = view.to_bytes();
        if bytes.len() > memory.view.room() {
            view.redraw.clear();
            bytes = view.to_bytes();
        }
        let said = memory.view.store(memory.file(), &bytes);
        self.tell(said);
    }

    /// Without memory of the host, all goes on; what a next monitor would need may not be there.
    fn tell(&self, result: io::Result<()>) {
        if let Err(error) = result
            && !self.told.replace(true)
        {
            tracing::warn!(channel = %self.name, %error, "cannot keep the output");
        }
    }

    /// The window has this size from now on.
    pub(crate) fn resized(&self, rows: u16, columns: u16) {
        let offset = self.range().end;
        self.sizes.borrow_mut().push(offset, rows, columns);
        if let Some(screen) = &mut *self.screen.borrow_mut() {
            screen.resize(rows, columns);
        }
        self.say_view();
    }

    fn new_screen(&self) -> Screen {
        let sizes = self.sizes.borrow();
        let (rows, columns) = sizes
            .last()
            .map_or((24, 80), |size| (size.rows, size.columns));
        Screen::new(rows, columns)
    }

    /// Looks at the screen.
    pub(crate) fn with_screen<T>(&self, look: impl FnOnce(&Screen) -> T) -> T {
        let mut screen = self.screen.borrow_mut();
        look(screen.get_or_insert_with(|| self.new_screen()))
    }

    /// The offsets of the bytes that are kept.
    pub(crate) fn range(&self) -> Range<u64> {
        self.history.borrow().range()
    }

    /// Where the last lines of what is kept begin.
    pub(crate) fn tail(&self, lines: u32) -> u64 {
        self.history.borrow().tail(lines)
    }

    /// What is kept from `offset` on.
    pub(crate) fn peek(&self, offset: u64, max: usize) -> Chunk {
        self.history.borrow().read(offset, max)
    }

    /// The sizes of the window with a greater number.
    pub(crate) fn sizes_after(&self, number: u64) -> Vec<WindowSize> {
        self.sizes.borrow().after(number)
    }

    /// The log.
    pub(crate) fn log(&self) -> Ref<'_, Option<Log>> {
        self.log.borrow()
    }

    /// Writes another log from now on.
    pub(crate) fn set_log(&self, log: Option<Log>) {
        self.log.replace(log);
    }

    /// Opens the log anew.
    pub(crate) fn reopen_log(&self) -> Result<(), Error> {
        self.log.borrow_mut().as_mut().map_or(Ok(()), Log::reopen)
    }

    /// Keeps so many bytes from now on.
    pub(crate) fn resize_history(&self, bytes: usize) -> io::Result<()> {
        self.history.borrow_mut().resize(bytes)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
