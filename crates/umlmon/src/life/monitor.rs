//! The task that owns the VM: only this task changes its state (umlmon, the monitor process).
//!
//! Requests of the clients, messages of the child and notices of the kernel arrive here one after the other. The state
//! machine says what each means; this file carries the actions out.

mod disks;
mod exchange;

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::events::Happening;
use crate::failure::{Denied, Failure};
use crate::life::clock::{self, HostClock};
use crate::life::disk_change::DiskAsk;
use crate::life::ending::{self, Evidence};
use crate::life::kernels::{self, Seen};
use crate::life::run::{Look, Run, RunEvent, SILENCE, Start};
use crate::life::state::{self, Action, Ending, Event, Say, State};
use crate::life::talk::{self, Said, Talk, Turning};
use crate::mconsole::Notice;
use crate::reading::Reading;
use crate::remarks::{self, Remarks, Verdict};
use crate::setup::Setup;
use crate::status::{How, LastEnd, Phase, Status};

/// A kernel that lives this long after its execution, or reports its mconsole, counts as started: its checks of its
/// environment come before that.
const EARLY_DEATH: Duration = Duration::from_millis(250);
/// A guest that reboots sooner than this is restarted with growing delays.
const SHORT_LIFE: Duration = Duration::from_secs(3);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// What the guest writes to /proc/mconsole when its services are ready.
const READY: &str = "ready";

/// Where the answer to a request goes.
pub type Reply = oneshot::Sender<Result<(), Failure>>;

/// What the monitor task is asked for.
pub type Ask = state::Ask<Box<Start>>;

/// What the clients' side sends to the monitor task.
#[derive(Debug)]
enum Message {
    /// Something for the state machine, and where the answer goes.
    Ask(Ask, Reply),
    /// A change of the disks of the kernel that runs.
    Disks(DiskAsk, Reply),
    /// A look at the present run.
    Look(oneshot::Sender<Option<Look>>),
    /// Whether the monitor may be exchanged now.
    MayLeave(oneshot::Sender<bool>),
}

/// The clients' side of the monitor task.
#[derive(Debug, Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    status: watch::Receiver<Status>,
}

impl Handle {
    /// Asks for something and waits for the answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ask(&self, ask: Ask) -> Result<(), Failure> {
        self.answer_to(|reply| Message::Ask(ask, reply)).await
    }

    /// Asks for a change of the disks of the kernel that runs, and waits until the kernel has answered.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn change_disks(&self, ask: DiskAsk) -> Result<(), Failure> {
        self.answer_to(|reply| Message::Disks(ask, reply)).await
    }

    async fn answer_to(&self, message: impl FnOnce(Reply) -> Message) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        let gone = || Failure::Denied(Denied::Quitting);
        self.messages
            .send(message(reply))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Looks at the present run, if there is one.
    pub async fn look(&self) -> Option<Look> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Look(reply)).await.ok()?;
        answer.await.ok()?
    }

    /// Whether the monitor may be exchanged now: without a run, or with one that outlives it.
    pub async fn may_leave(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = self.messages.send(Message::MayLeave(reply)).await;
        asked.is_ok() && answer.await.unwrap_or(false)
    }

    /// The status, and its changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the VM is inactive; false if the time is over first.
    pub async fn inactive_within(&self, time: Duration) -> bool {
        let mut status = self.status.clone();
        let inactive = status.wait_for(|status| status.phase == Phase::Inactive);
        tokio::time::timeout(time, inactive).await.is_ok()
    }
}

/// The monitor task.
pub struct Monitor {
    setup: Rc<Setup>,
    state: State,
    run: Option<Run>,
    messages: mpsc::Receiver<Message>,
    said: (mpsc::UnboundedSender<Said>, mpsc::UnboundedReceiver<Said>),
    turning: Rc<Turning>,
    status: watch::Sender<Status>,
    /// The requests that wait for the outcome of the start, and until when it is still open.
    starter: Option<(Reply, Instant)>,
    /// When the run will have been silent for too long, unless its kernel reports its mconsole before that.
    silent_from: Option<Instant>,
    /// The kernel is up, but the child has not told yet that it executes: these are two ways.
    up_early: bool,
    /// A reboot whose delay is not over: the configuration and arguments of the run that ended.
    reboot: Option<Reboot>,
    /// The delay of the next reboot, if the guest goes on rebooting at once.
    delay: Duration,
    /// The recent remarks of the guest.
    remarks: Remarks,
}

struct Reboot {
    reading: Reading,
    start: Start,
    /// A look at the kernel, which can be another one by now.
    kernel: JoinHandle<Result<Seen, Failure>>,
    due: Instant,
}

impl Reboot {
    /// Waits until it is due, and the kernel has been inspected. Cancel safe.
    async fn ready(&mut self) -> Result<Seen, Failure> {
        sleep_until(self.due).await;
        let looked = (&mut self.kernel).await;
        looked.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
    }
}

impl Monitor {
    /// Makes the task and the handle for the clients' side.
    pub fn new(setup: Rc<Setup>) -> (Monitor, Handle) {
        let (messages, receiver) = mpsc::channel(32);
        let (status, status_receiver) = watch::channel(Status::initial());
        let monitor = Monitor {
            setup,
            state: State::INITIAL,
            run: None,
            messages: receiver,
            said: mpsc::unbounded_channel(),
            turning: Rc::default(),
            status,
            starter: None,
            silent_from: None,
            up_early: false,
            reboot: None,
            delay: Duration::ZERO,
            remarks: Remarks::new(remarks::OF_GUEST, Instant::now().into_std()),
        };
        (
            monitor,
            Handle {
                messages,
                status: status_receiver,
            },
        )
    }

    /// Runs until a [`state::Ask::Quit`] has been carried out.
    pub async fn run(mut self) {
        let clock = HostClock::watch();
        loop {
            let start_settled = self.starter.as_ref().map(|(_, until)| *until);
            let exit = tokio::select! {
                Some(message) = self.messages.recv() => self.on_message(message),
                Some(said) = self.said.1.recv() => self.on_said(said),
                event = next_event(&mut self.run) => self.on_run_event(event),
                () = at(start_settled) => self.started(),
                () = at(self.silent_from) => self.silent(),
                kernel = ready(&mut self.reboot) => self.relaunch(kernel),
                () = clock.jumped() => self.set_guests_clock(),
            };
            if exit {
                return;
            }
            self.record();
        }
    }

    fn on_message(&mut self, message: Message) -> bool {
        match message {
            Message::Look(reply) => {
                // A client that went away needs no answer.
                let _ = reply.send(self.run.as_ref().map(Run::look));
                false
            }
            Message::Disks(ask, reply) => {
                self.change_disks(ask, Asker(Some(reply)));
                false
            }
            Message::MayLeave(reply) => {
                let _ = reply.send(self.may_leave());
                false
            }
            Message::Ask(ask, reply) => match state::asked(self.state, ask) {
                Err(denied) => {
                    Asker(Some(reply)).answer(Err(denied.into()));
                    false
                }
                Ok((next, action)) => {
                    self.enter(next);
                    self.act(action, Asker(Some(reply)))
                }
            },
        }
    }

    /// Something has happened that was not requested.
    fn on_event(&mut self, event: Event) -> bool {
        let (next, action) = state::happened(self.state, event);
        self.enter(next);
        if event == Event::Resumed {
            self.set_guests_clock();
        }
        self.act(action, Asker(None))
    }

    /// A suspended guest is told when it goes on.
    fn set_guests_clock(&self) -> bool {
        if self.state.phase == Phase::Running {
            let helper = Rc::clone(&self.setup.helper);
            tokio::task::spawn_local(clock::set_guests(helper));
        }
        false
    }

    fn enter(&mut self, next: State) {
        let changed = next.phase != self.state.phase;
        self.state = next;
        if changed {
            self.setup.events.tell(Happening::State(next.phase));
            self.status.send_modify(|status| {
                status.phase = next.phase;
                status.since = Instant::now();
            });
        }
        // A stop that comes while a reboot waits makes the reboot pointless.
        if next.stop_pending
            && let Some(reboot) = &mut self.reboot
        {
            reboot.due = Instant::now();
            reboot.kernel.abort();
        }
    }

    /// Carries an action out; true if the daemon must end. The request is answered when the action is done.
    fn act(&mut self, action: Action<Box<Start>>, asker: Asker) -> bool {
        match action {
            Action::Launch(start) => return self.launch(start, asker),
            Action::Relaunch => return self.schedule_reboot(),
            Action::CleanUp => {
                self.clean_up();
                return self.on_event(Event::Cleaned);
            }
            Action::KillChild => {
                asker.answer(Ok(()));
                match &mut self.run {
                    Some(run) => run.kill(),
                    None => return self.on_event(Event::Ended(state::Ending::Down)),
                }
            }
            Action::Say(words) => self.talk(words, asker),
            Action::Nothing => asker.answer(Ok(())),
            Action::Exit => {
                asker.answer(Ok(()));
                return true;
            }
        }
        false
    }

    fn talk(&self, words: Vec<Say>, mut asker: Asker) {
        let Some(run) = &self.run else {
            return asker.answer(Err(Denied::NotRunning.into()));
        };
        let talk = Talk {
            mconsole: Rc::clone(&run.mconsole),
            started: run.started,
            said: self.said.0.clone(),
        };
        let status = self.status.subscribe();
        let turn = self.turning.begin(&words, &talk.said);
        tokio::task::spawn_local(async move {
            let talking = talk::say_all(&talk, &words, status);
            // Whether the kernel is stopped must be known even if the client goes: one request at a time is completed.
            if let Some(turn) = turn {
                let Some(_mine) = asker.unless_gone(turn.mine()).await else {
                    return;
                };
                asker.answer(talking.await);
            } else if let Some(result) = asker.unless_gone(talking).await {
                asker.answer(result);
            }
        });
    }

    fn launch(&mut self, mut start: Box<Start>, asker: Asker) -> bool {
        self.delay = Duration::ZERO;
        self.up_early = false;
        self.status.send_modify(|status| {
            status.reboots = 0;
            status.ready = false;
        });
        let reading = start.reading.take();
        let started = reading
            .unwrap_or_else(|| self.setup.configuration())
            .and_then(|reading| Run::start(&self.setup, reading, *start));
        match started {
            Ok(run) => {
                self.run = Some(run);
                self.starter = asker.0.map(|reply| (reply, Instant::now() + LONGEST_DELAY));
                false
            }
            Err(failure) => {
                self.not_started(&failure);
                asker.answer(Err(failure));
                self.on_event(Event::NotExecuted)
            }
        }
    }

    fn not_started(&mut self, failure: &Failure) {
        self.ended(LastEnd::new(How::NotStarted, failure.to_string()));
    }

    fn ended(&mut self, last_end: LastEnd) {
        self.setup.events.tell(Happening::End(last_end.clone()));
        self.status.send_modify(|status| status.last_end = last_end);
    }

    fn on_run_event(&mut self, event: RunEvent) -> bool {
        match event {
            RunEvent::Executing => {
                self.silent_from = self.run.as_ref().and_then(Run::silent_from);
                let exit = self.on_event(Event::Executing);
                if std::mem::take(&mut self.up_early) {
                    self.answer_starter(Ok(()));
                } else if let Some((_, until)) = &mut self.starter {
                    *until = Instant::now() + EARLY_DEATH;
                }
                exit
            }
            RunEvent::NotExecuted(text) => {
                let failure = Failure::Failed(text);
                self.not_started(&failure);
                self.answer_starter(Err(failure));
                self.on_event(Event::NotExecuted)
            }
            RunEvent::Notice(notice) => {
                self.on_notice(notice);
                false
            }
            RunEvent::Spare => {
                self.reclaim();
                false
            }
            RunEvent::Ended(exit) => self.on_end(&exit),
        }
    }

    /// A guest that is suspended must not run for that.
    fn reclaim(&self) {
        if let Some(run) = &self.run
            && self.state.phase == Phase::Running
        {
            let memory = Rc::clone(&run.memory);
            tokio::task::spawn_local(async move {
                if let Err(why) = memory.reclaim().await {
                    tracing::debug!("no memory was given back: {why}");
                }
            });
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            // A client that gets the answer "started" must find it running.
            Notice::Ready if self.state.phase == Phase::Starting => self.up_early = true,
            Notice::Ready => self.answer_starter(Ok(())),
            Notice::Guest(text) if text == READY => self.guest_ready(),
            said => match self.remarks.judge(Instant::now().into_std()) {
                Verdict::Log => self.remark(said),
                Verdict::Enough => {
                    tracing::warn!("the guest sends too many messages; some are not logged");
                }
                Verdict::Drop => {}
            },
        }
    }

    /// A repetition is not reported again.
    fn guest_ready(&mut self) {
        if !self.status.borrow().ready {
            self.setup.events.tell(Happening::Ready);
            self.status.send_modify(|status| status.ready = true);
            self.setup.helper.guest_is_ready();
        }
    }

    fn remark(&self, said: Notice) {
        self.setup.events.tell(match said {
            Notice::Ready => return,
            Notice::Hang => Happening::Hang,
            Notice::Guest(text) => Happening::Guest(text),
            Notice::Panic(text) => Happening::Panic(text),
        });
    }

    /// The outcome of the start is known: the kernel is up, or at least still alive.
    fn started(&mut self) -> bool {
        self.answer_starter(Ok(()));
        false
    }

    /// The time is over in which the kernel should have reported its mconsole.
    fn silent(&mut self) -> bool {
        self.silent_from = None;
        if self
            .run
            .as_ref()
            .is_some_and(|run| run.silent_from().is_some())
        {
            self.setup.events.tell(Happening::Silent(SILENCE.as_secs()));
        }
        false
    }

    fn answer_starter(&mut self, result: Result<(), Failure>) {
        if let Some((reply, _)) = self.starter.take() {
            let _ = reply.send(result);
        }
    }

    fn on_end(&mut self, exit: &crate::life::run::Exit) -> bool {
        let Some(run) = &mut self.run else {
            return false;
        };
        let con0 = run.con0_tail();
        let (ending, last_end) = ending::judge(&Evidence {
            status: exit.status,
            signal: exit.signal,
            killed: run.killed(),
            out_of_memory: run.out_of_memory(),
            panic: run.panic(),
            con0: &con0,
        });
        self.answer_starter(match ending {
            // It was up, although its end may be heard of sooner.
            Ending::Rebooted => Ok(()),
            Ending::Down => Err(Failure::Failed(format!(
                "the kernel ended at once: {last_end}"
            ))),
        });
        self.ended(last_end);
        self.on_event(Event::Ended(ending))
    }

    /// Releases everything of the run; its guards undo what they did.
    fn clean_up(&mut self) {
        self.silent_from = None;
        self.reboot = None;
        self.run = None;
        self.status.send_modify(|status| status.ready = false);
        self.answer_starter(Err(Failure::Ended("killed".into())));
    }

    fn schedule_reboot(&mut self) -> bool {
        let Some(run) = self.run.take() else {
            return self.on_event(Event::NotExecuted);
        };
        let short = run.started.elapsed() < SHORT_LIFE;
        self.delay = match (short, self.delay) {
            (false, _) => Duration::ZERO,
            (true, Duration::ZERO) => Duration::from_millis(500),
            (true, delay) => (delay * 2).min(LONGEST_DELAY),
        };
        let (reading, start) = run.into_start();
        let (setup, vm) = (Rc::clone(&self.setup), reading.vm.clone());
        self.reboot = Some(Reboot {
            reading,
            start,
            kernel: tokio::task::spawn_local(async move { kernels::look(&setup, &vm).await }),
            due: Instant::now() + self.delay,
        });
        self.status.send_modify(|status| {
            status.reboots += 1;
            status.ready = false;
        });
        false
    }

    /// Executes the kernel again on the same channels, unless a client wants the VM down by now.
    fn relaunch(&mut self, kernel: Result<Seen, Failure>) -> bool {
        let Some(mut reboot) = self.reboot.take() else {
            return false;
        };
        if self.state.stop_pending {
            return self.on_event(Event::NotExecuted);
        }
        reboot.start.kernel = Some(kernel);
        match Run::start(&self.setup, reboot.reading, reboot.start) {
            Ok(run) => {
                self.run = Some(run);
                false
            }
            Err(failure) => {
                self.not_started(&failure);
                self.on_event(Event::NotExecuted)
            }
        }
    }
}

/// The client that waits for the answer to a request; None, if there was no request.
struct Asker(Option<Reply>);

impl Asker {
    /// The result of the future; `None` if no client waits for the answer any more.
    async fn unless_gone<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let Some(reply) = &mut self.0 else {
            return Some(future.await);
        };
        tokio::select! {
            biased;
            result = future => Some(result),
            () = reply.closed() => None,
        }
    }

    fn answer(self, result: Result<(), Failure>) {
        match (self.0, result) {
            // The client may have gone away meanwhile.
            (Some(reply), result) => drop(reply.send(result)),
            (None, Err(failure)) => tracing::warn!("{failure}"),
            (None, Ok(())) => {}
        }
    }
}

/// The next event of the run; never, if there is none.
async fn next_event(run: &mut Option<Run>) -> RunEvent {
    match run {
        Some(run) => run.next_event().await,
        None => std::future::pending().await,
    }
}

/// Waits until a reboot is due; without end, if there is none.
async fn ready(reboot: &mut Option<Reboot>) -> Result<Seen, Failure> {
    match reboot {
        Some(reboot) => reboot.ready().await,
        None => std::future::pending().await,
    }
}

/// Waits until then; without end, if there is no time given.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
