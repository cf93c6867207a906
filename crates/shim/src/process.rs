//! A process of a container: a thread carries its streams between containerd and the guest (the server of a pod).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use cli::Failure;
use client::Client;
use client::guest::{AGAIN_MS, Event, Running};
use guest_line::{Command, Size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::exit::KILLED;
use crate::io::{Sink, Streams, source};

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    /// Its status, as a shell gives it.
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

impl Exit {
    pub(crate) fn now(status: u32) -> Exit {
        Exit {
            status,
            at: SystemTime::now(),
        }
    }
}

/// What happens to a process that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Happened {
    /// A process of the container was killed because the memory was used up. Only of its first process.
    OutOfMemory,
    /// It has ended. Nothing follows.
    Ended(Exit),
}

/// What a process that runs is told.
#[derive(Debug)]
pub(crate) enum Order {
    Signal(i32),
    Resize(Size),
    EndInput,
}

/// A process that runs, or has ended.
#[derive(Debug)]
pub(crate) struct Process {
    orders: Sender<Order>,
    wake: UnixStream,
}

impl Process {
    /// Begins it, and waits until its program executes. What happens to it is told by a thread.
    pub(crate) fn begin(
        client: Client,
        command: Command,
        streams: &Streams,
        tell: impl Fn(Happened) + Send + 'static,
    ) -> anyhow::Result<Process> {
        let (orders, ordered) = channel();
        let (wake, woken) = UnixStream::pair().context("cannot make a socket")?;
        for socket in [&wake, &woken] {
            socket
                .set_nonblocking(true)
                .context("cannot prepare a socket")?;
        }
        let (begun, begins) = channel();
        let input = source(&streams.stdin)?;
        let ends_input = streams.stdin.is_empty();
        let outputs = [Sink::open(&streams.stdout)?, Sink::open(&streams.stderr)?];
        let carry = move || {
            let running = match Running::begin(&client, command, AGAIN_MS) {
                Ok(running) => running,
                Err(failure) => return drop(begun.send(Err(failure.to_string()))),
            };
            let session = Session {
                running,
                input,
                ends_input,
                outputs,
                ordered,
                woken,
                begun: Some(begun),
            };
            let status = session.run(&tell);
            tell(Happened::Ended(Exit::now(status)));
        };
        let thread = std::thread::Builder::new().name("process".into());
        thread.spawn(carry).context("cannot begin a thread")?;
        match begins.recv() {
            Ok(Ok(())) => Ok(Process { orders, wake }),
            Ok(Err(why)) => Err(anyhow!(why)),
            Err(_) => Err(anyhow!("the VM has ended")),
        }
    }

    /// Tells it something; if it has ended, nothing happens.
    pub(crate) fn tell(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            // If there is no room, it is awake.
            let _ = (&self.wake).write(&[0]);
        }
    }
}

/// What the thread has.
struct Session<'a> {
    running: Running<'a>,
    /// Nothing after its end.
    input: Option<File>,
    /// The input ends when what is in the FIFO was read.
    ends_input: bool,
    outputs: [Sink; 2],
    ordered: Receiver<Order>,
    woken: UnixStream,
    /// Who waits for the beginning.
    begun: Option<Sender<Result<(), String>>>,
}

impl Session<'_> {
    /// Until the process has ended, and all that it wrote is with containerd. Returns its status.
    fn run(mut self, tell: &dyn Fn(Happened)) -> u32 {
        let mut status = None;
        loop {
            match self.turn(tell) {
                Ok(ended) => status = status.or(ended),
                // Nothing more comes, but what has come is passed on.
                Err(failure) => {
                    match self.begun.take() {
                        Some(begun) => drop(begun.send(Err(failure.message))),
                        None => eprintln!("a process is lost with its VM: {failure}"),
                    }
                    return status.unwrap_or(KILLED);
                }
            }
            if let (Some(status), true) = (status, self.outputs.iter().all(Sink::is_empty)) {
                return status;
            }
        }
    }

    /// Waits for something, and does what there is to do. Returns the status of a process that has ended.
    fn turn(&mut self, tell: &dyn Fn(Happened)) -> Result<Option<u32>, Failure> {
        if self.ends_input && self.input.is_none() {
            self.ends_input = false;
            self.running.end_of_input();
        }
        self.running.send()?;
        if let Some(note) = self.running.take_note() {
            eprintln!("{note}");
        }
        let mut ended = None;
        let heard = match self.wait()? {
            true => self.running.heard()?,
            false => Vec::new(),
        };
        for event in heard {
            match event {
                Event::Begun => self
                    .begun
                    .take()
                    .map_or((), |begun| drop(begun.send(Ok(())))),
                Event::OutOfMemory => tell(Happened::OutOfMemory),
                Event::Output(bytes) => self.outputs[0].push(bytes),
                Event::Error(bytes) => self.outputs[1].push(bytes),
                Event::Ended(ending) => {
                    ended = u32::try_from(ending.status()).ok().or(Some(KILLED))
                }
            }
        }
        for sink in &mut self.outputs {
            sink.write(|length| self.running.passed_on(length));
        }
        let _ = self.woken.read(&mut [0; 64]);
        while let Ok(order) = self.ordered.try_recv() {
            match order {
                Order::Signal(number) => self.running.signal(number),
                Order::Resize(size) => self.running.resize(size),
                Order::EndInput => self.ends_input = true,
            }
        }
        self.read_input();
        Ok(ended)
    }

    /// Waits until there is something to do; says whether the guest has said something.
    fn wait(&self) -> Result<bool, Failure> {
        let mut all = vec![PollFd::new(&self.woken, PollFlags::IN)];
        let connection = self.running.connection();
        all.extend(connection.map(|it| PollFd::new(it, PollFlags::IN)));
        let input = self.input.as_ref().filter(|_| self.running.takes_input());
        all.extend(input.map(|input| PollFd::new(input, PollFlags::IN)));
        let full = self.outputs.iter().filter_map(Sink::waits);
        all.extend(full.map(|output| PollFd::new(output, PollFlags::OUT)));
        let waits = self.running.waits();
        let timeout = waits.map(|waits| Timespec::try_from(waits).unwrap_or_default());
        match poll(&mut all, timeout.as_ref()) {
            Ok(_) => {
                Ok(connection.is_some() && all.get(1).is_some_and(|it| !it.revents().is_empty()))
            }
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(Failure::from(std::io::Error::from(error))),
        }
    }

    fn read_input(&mut self) {
        while let Some(input) = self.input.as_mut().filter(|_| self.running.takes_input()) {
            let mut bytes = [0; 8192];
            match input.read(&mut bytes) {
                Ok(length) if length > 0 => {
                    self.running.input(bytes.get(..length).unwrap_or_default())
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.ends_input {
                        self.input = None;
                    }
                    return;
                }
                Ok(_) | Err(_) => {
                    self.input = None;
                    self.ends_input = true;
                }
            }
        }
    }
}
