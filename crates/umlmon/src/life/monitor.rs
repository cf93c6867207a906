//! The task that owns the VM: it alone changes its state (umlmon, the monitor process).
//!
//! Requests of the clients, messages of the child and notices of the kernel arrive here one after the other. The state
//! machine says what each means; this file carries the actions out.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;
use crate::life::ending::{self, Evidence};
use crate::life::events::Happening;
use crate::life::mconsole::Notice;
use crate::life::remarks::{Remarks, Verdict};
use crate::life::run::{Look, Run, RunEvent, Start};
use crate::life::state::{self, Action, Event, Phase, Request, State};
use crate::life::status::{How, LastEnd, Status};
use crate::life::talk::{self, Talk};
use crate::setup::Setup;
use crate::snapshot::Snapshot;

/// A kernel that lives this long after its execution, or reports its mconsole, is taken as started: what it checks of
/// its environment it checks before.
const EARLY_DEATH: Duration = Duration::from_millis(250);
/// A guest that reboots sooner than this is restarted with growing delays.
const SHORT_LIFE: Duration = Duration::from_secs(3);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// What the guest writes to /proc/mconsole when it is ready for whatever it is for.
const READY: &str = "ready";

/// Where the answer to a request goes.
pub type Reply = oneshot::Sender<Result<(), Failure>>;

/// What the clients' side may ask of the monitor task.
#[derive(Debug)]
pub enum Command {
    /// A request for the state machine. `letter` is for [`Request::Sysrq`], `start` for [`Request::Start`].
    Do {
        /// What is wanted.
        request: Request,
        /// The key of a system request.
        letter: Option<char>,
        /// What a start is given.
        start: Start,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A look at the present run.
    Look(oneshot::Sender<Option<Look>>),
}

/// The clients' side of the monitor task.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

impl Handle {
    /// Asks for something and waits for the answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn request(&self, request: Request) -> Result<(), Failure> {
        self.request_with(request, None, Start::default()).await
    }

    /// The same with the key of a system request, or what a start is given.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn request_with(
        &self,
        request: Request,
        letter: Option<char>,
        start: Start,
    ) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        let gone = || Failure::Denied(state::Denied::Quitting);
        self.commands
            .send(Command::Do {
                request,
                letter,
                start,
                reply,
            })
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Looks at the present run, if there is one.
    pub async fn look(&self) -> Option<Look> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Look(reply)).await.ok()?;
        answer.await.ok()?
    }

    /// The status, and its changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the VM is inactive; false if the time was over first.
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
    commands: mpsc::Receiver<Command>,
    talk_events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    /// The turn of whoever suspends the kernel, or lets it go on.
    turn: Rc<Semaphore>,
    status: watch::Sender<Status>,
    /// Who waits for the outcome of the start, and until when it is still open.
    starter: Option<(Reply, Instant)>,
    /// The kernel is up, but the child has not told yet that it executes: these are two ways.
    up_early: bool,
    /// A reboot waits for its turn: the configuration and arguments of the run that ended.
    reboot: Option<Reboot>,
    /// The delay of the next reboot, if the guest goes on rebooting at once.
    delay: Duration,
    /// What the guest has said lately.
    remarks: Remarks,
}

struct Reboot {
    snapshot: Snapshot,
    start: Start,
    due: Instant,
}

impl Monitor {
    /// Makes the task and the handle for the clients' side.
    pub fn new(setup: Rc<Setup>) -> (Monitor, Handle) {
        let (commands, receiver) = mpsc::channel(32);
        let (status, status_receiver) = watch::channel(Status::initial());
        let monitor = Monitor {
            setup,
            state: State::INITIAL,
            run: None,
            commands: receiver,
            talk_events: mpsc::unbounded_channel(),
            turn: Rc::new(Semaphore::new(1)),
            status,
            starter: None,
            up_early: false,
            reboot: None,
            delay: Duration::ZERO,
            remarks: Remarks::new(Instant::now().into_std()),
        };
        (
            monitor,
            Handle {
                commands,
                status: status_receiver,
            },
        )
    }

    /// Runs until a [`Request::Quit`] has been carried out.
    pub async fn run(mut self) {
        loop {
            let start_settled = self.starter.as_ref().map(|(_, until)| *until);
            let reboot_due = self.reboot.as_ref().map(|reboot| reboot.due);
            let exit = tokio::select! {
                Some(command) = self.commands.recv() => self.on_command(command),
                Some(event) = self.talk_events.1.recv() => self.on_event(event),
                event = next_event(&mut self.run) => self.on_run_event(event),
                () = at(start_settled) => self.started(),
                () = at(reboot_due) => self.relaunch(),
            };
            if exit {
                return;
            }
        }
    }

    fn on_command(&mut self, command: Command) -> bool {
        match command {
            Command::Look(reply) => {
                // A client that went away needs no answer.
                let _ = reply.send(self.run.as_ref().map(Run::look));
                false
            }
            Command::Do {
                request,
                letter,
                start,
                reply,
            } => match state::step(self.state, Event::Request(request)) {
                Err(denied) => {
                    let _ = reply.send(Err(denied.into()));
                    false
                }
                Ok((next, actions)) => {
                    self.enter(next);
                    self.act(
                        actions,
                        Asked {
                            letter,
                            start,
                            reply: Some(reply),
                        },
                    )
                }
            },
        }
    }

    /// Something has happened; the state machine cannot deny it.
    fn on_event(&mut self, event: Event) -> bool {
        match state::step(self.state, event) {
            Ok((next, actions)) => {
                self.enter(next);
                self.act(actions, Asked::default())
            }
            Err(denied) => {
                tracing::error!("{event:?} was denied: {denied}");
                false
            }
        }
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
        }
    }

    /// Carries actions out; true if the daemon shall end. `asked` is answered by the last of them.
    fn act(&mut self, actions: &'static [Action], asked: Asked) -> bool {
        let Some(first) = actions.first() else {
            asked.answer(Ok(()));
            return false;
        };
        match first {
            Action::Launch => self.launch(asked),
            Action::Relaunch => self.schedule_reboot(),
            Action::KillChild => {
                if let Some(run) = &mut self.run {
                    run.kill();
                }
                asked.answer(Ok(()));
                if self.run.is_none() {
                    self.on_event(Event::Ended(state::Ending::Down))
                } else {
                    false
                }
            }
            Action::CleanUp => {
                self.clean_up();
                self.on_event(Event::Cleaned)
            }
            Action::Exit => {
                asked.answer(Ok(()));
                true
            }
            _ => {
                self.talk(actions, asked);
                false
            }
        }
    }

    fn talk(&self, actions: &'static [Action], asked: Asked) {
        let Some(run) = &self.run else {
            return asked.answer(Err(state::Denied::NotRunning.into()));
        };
        let talk = Talk {
            mconsole: Rc::clone(&run.mconsole),
            started: run.started,
            letter: asked.letter,
            events: self.talk_events.0.clone(),
        };
        let status = self.status.subscribe();
        let turn = Rc::clone(&self.turn);
        tokio::task::spawn_local(async move {
            let mut asked = asked;
            let talking = talk::carry_out(&talk, actions, status);
            // Whether the kernel is stopped must be known, even if whoever asked for it goes: one at a time is heard out.
            let decides = |action: &Action| matches!(action, Action::SendStop | Action::SendGo);
            if actions.iter().any(decides) {
                let Some(_turn) = asked.unless_gone(turn.acquire()).await else {
                    return;
                };
                asked.answer(talking.await);
            } else if let Some(result) = asked.unless_gone(talking).await {
                asked.answer(result);
            }
        });
    }

    fn launch(&mut self, asked: Asked) -> bool {
        self.delay = Duration::ZERO;
        self.up_early = false;
        self.status.send_modify(|status| {
            status.reboots = 0;
            status.ready = false;
        });
        let started = self
            .setup
            .configuration()
            .and_then(|snapshot| Run::start(&self.setup, snapshot, asked.start));
        match started {
            Ok(run) => {
                self.run = Some(run);
                self.starter = asked
                    .reply
                    .map(|reply| (reply, Instant::now() + LONGEST_DELAY));
                false
            }
            Err(failure) => {
                self.not_started(&failure);
                if let Some(reply) = asked.reply {
                    let _ = reply.send(Err(failure));
                }
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
                let exit = self.on_event(Event::Executing);
                if std::mem::take(&mut self.up_early) {
                    self.answer_starter(Ok(()));
                } else if let Some((_, until)) = &mut self.starter {
                    *until = Instant::now() + EARLY_DEATH;
                }
                exit
            }
            RunEvent::NotExecuted(text) => {
                let failure = Failure::NotStarted(text);
                self.not_started(&failure);
                self.answer_starter(Err(failure));
                self.on_event(Event::NotExecuted)
            }
            RunEvent::Notice(notice) => {
                self.on_notice(notice);
                false
            }
            RunEvent::Ended(exit) => self.on_end(&exit),
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            // Who is told that it was started must find it running.
            Notice::Ready if self.state.phase == Phase::Starting => self.up_early = true,
            Notice::Ready => self.answer_starter(Ok(())),
            Notice::Guest(text) if text == READY => self.guest_ready(),
            said => match self.remarks.judge(Instant::now().into_std()) {
                Verdict::Log => self.remark(said),
                Verdict::Enough => {
                    tracing::warn!("the guest says a lot; for a while it is not logged");
                }
                Verdict::Drop => {}
            },
        }
    }

    /// Said once more, it is nothing new.
    fn guest_ready(&mut self) {
        if !self.status.borrow().ready {
            self.setup.events.tell(Happening::Ready);
            self.status.send_modify(|status| status.ready = true);
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

    /// The start is settled: the kernel is up, or at least lives on.
    fn started(&mut self) -> bool {
        self.answer_starter(Ok(()));
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
        self.answer_starter(Err(Failure::NotStarted(format!(
            "the kernel ended at once: {last_end}"
        ))));
        self.ended(last_end);
        self.on_event(Event::Ended(ending))
    }

    /// Releases everything of the run; its guards undo what they did.
    fn clean_up(&mut self) {
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
        let (snapshot, start) = run.into_start();
        self.reboot = Some(Reboot {
            snapshot,
            start,
            due: Instant::now() + self.delay,
        });
        self.status.send_modify(|status| {
            status.reboots += 1;
            status.ready = false;
        });
        false
    }

    /// Executes the kernel again on the same channels, unless somebody wants the VM down by now.
    fn relaunch(&mut self) -> bool {
        let Some(reboot) = self.reboot.take() else {
            return false;
        };
        if self.state.stop_pending {
            return self.on_event(Event::NotExecuted);
        }
        match Run::start(&self.setup, reboot.snapshot, reboot.start) {
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

/// What came with a request, and where its answer goes.
#[derive(Default)]
struct Asked {
    letter: Option<char>,
    start: Start,
    reply: Option<Reply>,
}

impl Asked {
    /// What the future gives; `None` if nobody waits for the answer any more, who has waited for it.
    async fn unless_gone<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let Some(reply) = &mut self.reply else {
            return Some(future.await);
        };
        tokio::select! {
            biased;
            result = future => Some(result),
            () = reply.closed() => None,
        }
    }

    fn answer(self, result: Result<(), Failure>) {
        match (self.reply, result) {
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

/// Waits until then; for ever, if there is no time given.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
