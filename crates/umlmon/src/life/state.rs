//! The states of a virtual machine and what may follow what (umlmon, the monitor process).
//!
//! ```text
//!              Start                 Executing
//!  +----------+ ---> +----------+ ------------> +---------+   Stopped    +-----------+
//!  | inactive |      | starting |               | running | -----------> | suspended |
//!  +----------+ <--- +----------+ <------------ +---------+ <----------- +-----------+
//!    ^  NotExecuted    |     ^    Ended(Rebooted)    |   |    Resumed           |
//!    |            Kill |     +-----------------------|---|-- Ended(Rebooted) ---+
//!    |  Cleaned        v                        Kill |   | Ended(..)            | Kill, Ended(..)
//!    +----------- +----------+ <---------------------+---+----------------------+
//!                 | stopping |
//!                 +----------+
//! ```
//!
//! [`step`] is a pure function: it neither waits nor touches anything. The monitor task asks it, and then carries the
//! actions out. A refusal is an answer with a reason, not an error.

/// Where the VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No kernel, no child process; nothing mounted but the shared directory.
    Inactive,
    /// The kernel is being executed, or waits to be executed again after a reboot of the guest.
    Starting,
    /// The kernel runs.
    Running,
    /// The kernel is stopped by its mconsole and uses no processor time.
    Suspended,
    /// The kernel is being killed, or has ended and is being cleaned up.
    Stopping,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Inactive => "inactive",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Suspended => "suspended",
            Phase::Stopping => "stopping",
        })
    }
}

/// The whole state: the phase, and what was promised to somebody meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// Where the VM is in its life.
    pub phase: Phase,
    /// Somebody wants the VM down: a reboot of the guest is not carried out.
    pub stop_pending: bool,
    /// The daemon ends as soon as the VM is inactive.
    pub quitting: bool,
}

impl State {
    /// The state of a monitor that has just been started.
    pub const INITIAL: State = State {
        phase: Phase::Inactive,
        stop_pending: false,
        quitting: false,
    };

    fn to_be_stopped(self) -> State {
        State {
            stop_pending: true,
            ..self
        }
    }
}

/// What a client, or the daemon itself, asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Start the kernel.
    Start,
    /// Suspend the kernel.
    Suspend,
    /// Resume the suspended kernel.
    Continue,
    /// Halt the kernel without a shutdown of the guest.
    Halt,
    /// Send CTRL-ALT-DEL; `stop` says that the VM shall go down whatever the guest makes of it.
    CtrlAltDel {
        /// No reboot of the guest is let through from now on.
        stop: bool,
    },
    /// Kill the kernel.
    Kill,
    /// Send a system request.
    Sysrq,
    /// End the daemon (SIGTERM, SIGINT).
    Quit,
}

/// How the kernel ended, as far as the state machine cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The guest asked for a reboot.
    Rebooted,
    /// Anything else: halted, killed, crashed, panicked.
    Down,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Somebody asks for something.
    Request(Request),
    /// The kernel is executing.
    Executing,
    /// The kernel could not be executed.
    NotExecuted,
    /// The mconsole confirmed that the kernel is stopped.
    Stopped,
    /// The mconsole confirmed that the kernel goes on.
    Resumed,
    /// The child process and everything in its namespace has ended.
    Ended(Ending),
    /// Everything that the run had acquired is released.
    Cleaned,
}

/// What the monitor shall do now, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Execute the kernel for a new run.
    Launch,
    /// Execute the kernel again after a reboot of the guest.
    Relaunch,
    /// Send `stop` to the mconsole.
    SendStop,
    /// Send `go` to the mconsole.
    SendGo,
    /// Send `halt` to the mconsole.
    SendHalt,
    /// Send `cad` to the mconsole as soon as the guest handles it.
    SendCtrlAltDel,
    /// Send the system request to the mconsole.
    SendSysrq,
    /// Kill the child process, and so everything in its namespace.
    KillChild,
    /// Release what the run has acquired, then report [`Event::Cleaned`].
    CleanUp,
    /// End the daemon.
    Exit,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// It needs a kernel.
    #[error("the VM is not running (-start starts it)")]
    NotRunning,
    /// There is a kernel already.
    #[error("the VM is already running")]
    AlreadyRunning,
    /// Somebody else's start is under way.
    #[error("the VM is already starting")]
    AlreadyStarting,
    /// It needs a kernel that executes.
    #[error("the VM is still starting (try again in a moment)")]
    StillStarting,
    /// It needs a suspended kernel.
    #[error("the VM is not suspended")]
    NotSuspended,
    /// It needs a kernel that is not suspended.
    #[error("the VM is already suspended (-continue resumes it)")]
    AlreadySuspended,
    /// The end is under way.
    #[error("the VM is stopping (-wait waits for its end)")]
    Stopping,
    /// The daemon ends.
    #[error("the monitor is shutting down")]
    Quitting,
}

/// The next state and what is to be done, or why not.
///
/// # Errors
/// [`Denied`] for a [`Event::Request`] that makes no sense now; other events are never denied, as they have happened.
pub fn step(state: State, event: Event) -> Step {
    match event {
        Event::Request(Request::Quit) => Ok(quit(state)),
        Event::Request(request) => on_request(state, request),
        Event::Executing => Ok(on_executing(state)),
        Event::NotExecuted => Ok((
            State {
                phase: Phase::Stopping,
                ..state
            },
            &[Action::CleanUp],
        )),
        Event::Stopped => Ok((enter(state, Phase::Running, Phase::Suspended), &[])),
        Event::Resumed => Ok((enter(state, Phase::Suspended, Phase::Running), &[])),
        Event::Ended(ending) => Ok(on_end(state, ending)),
        Event::Cleaned => {
            let next = State {
                phase: Phase::Inactive,
                stop_pending: false,
                ..state
            };
            Ok((next, if state.quitting { &[Action::Exit] } else { &[] }))
        }
    }
}

/// Goes from one phase to another; a message that comes too late (the VM is elsewhere by now) changes nothing.
fn enter(state: State, from: Phase, to: Phase) -> State {
    State {
        phase: if state.phase == from { to } else { state.phase },
        ..state
    }
}

fn quit(state: State) -> (State, &'static [Action]) {
    let quitting = State {
        quitting: true,
        stop_pending: true,
        ..state
    };
    match state.phase {
        Phase::Inactive => (quitting, &[Action::Exit]),
        Phase::Stopping => (quitting, &[]),
        _ => (
            State {
                phase: Phase::Stopping,
                ..quitting
            },
            &[Action::KillChild],
        ),
    }
}

/// What a step gives: the next state with what is to be done, or why not.
pub type Step = Result<(State, &'static [Action]), Denied>;

fn on_request(state: State, request: Request) -> Step {
    if state.quitting {
        return Err(Denied::Quitting);
    }
    let to_stopping = State {
        phase: Phase::Stopping,
        stop_pending: true,
        ..state
    };
    match (state.phase, request) {
        (_, Request::Quit) => Ok(quit(state)),
        (Phase::Inactive, Request::Start) => {
            let starting = State {
                phase: Phase::Starting,
                ..state
            };
            Ok((starting, &[Action::Launch]))
        }
        (Phase::Inactive, _) => Err(Denied::NotRunning),
        (_, Request::Kill) => Ok((to_stopping, &[Action::KillChild])),
        (Phase::Stopping, _) => Err(Denied::Stopping),
        (Phase::Starting, Request::Start) => Err(Denied::AlreadyStarting),
        // A reboot waits in this phase for its turn: a stop that comes now must not be lost.
        (Phase::Starting, Request::CtrlAltDel { stop: true }) => Ok((state.to_be_stopped(), &[])),
        (Phase::Starting, _) => Err(Denied::StillStarting),
        (Phase::Running, _) => on_running(state, request),
        (Phase::Suspended, _) => on_suspended(state, request),
    }
}

fn on_running(state: State, request: Request) -> Step {
    match request {
        Request::Suspend => Ok((state, &[Action::SendStop])),
        Request::Continue => Err(Denied::NotSuspended),
        Request::Halt => Ok((state.to_be_stopped(), &[Action::SendHalt])),
        Request::CtrlAltDel { stop: true } => {
            Ok((state.to_be_stopped(), &[Action::SendCtrlAltDel]))
        }
        Request::CtrlAltDel { stop: false } => Ok((state, &[Action::SendCtrlAltDel])),
        Request::Sysrq => Ok((state, &[Action::SendSysrq])),
        Request::Start | Request::Kill | Request::Quit => Err(Denied::AlreadyRunning),
    }
}

/// A suspended kernel carries nothing out before it goes on.
fn on_suspended(state: State, request: Request) -> Step {
    match request {
        Request::Suspend => Err(Denied::AlreadySuspended),
        Request::Continue => Ok((state, &[Action::SendGo])),
        Request::Halt => Ok((state.to_be_stopped(), &[Action::SendGo, Action::SendHalt])),
        Request::CtrlAltDel { stop } => {
            let next = if stop { state.to_be_stopped() } else { state };
            Ok((next, &[Action::SendGo, Action::SendCtrlAltDel]))
        }
        Request::Sysrq => Ok((state, &[Action::SendSysrq])),
        Request::Start | Request::Kill | Request::Quit => Err(Denied::AlreadyRunning),
    }
}

/// A stop that was asked for while the kernel was not there yet is passed on now.
fn on_executing(state: State) -> (State, &'static [Action]) {
    let next = enter(state, Phase::Starting, Phase::Running);
    match next.phase {
        Phase::Running if state.stop_pending => (next, &[Action::SendCtrlAltDel]),
        _ => (next, &[]),
    }
}

fn on_end(state: State, ending: Ending) -> (State, &'static [Action]) {
    let again = ending == Ending::Rebooted && !state.stop_pending && !state.quitting;
    match state.phase {
        Phase::Inactive => (state, &[]),
        Phase::Starting | Phase::Running | Phase::Suspended if again => (
            State {
                phase: Phase::Starting,
                ..state
            },
            &[Action::Relaunch],
        ),
        _ => (
            State {
                phase: Phase::Stopping,
                ..state
            },
            &[Action::CleanUp],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 5] = [
        Phase::Inactive,
        Phase::Starting,
        Phase::Running,
        Phase::Suspended,
        Phase::Stopping,
    ];
    const REQUESTS: [Request; 9] = [
        Request::Start,
        Request::Suspend,
        Request::Continue,
        Request::Halt,
        Request::CtrlAltDel { stop: false },
        Request::CtrlAltDel { stop: true },
        Request::Kill,
        Request::Sysrq,
        Request::Quit,
    ];

    fn at(phase: Phase) -> State {
        State {
            phase,
            ..State::INITIAL
        }
    }

    fn all_states() -> Vec<State> {
        let mut states = Vec::new();
        for phase in PHASES {
            for (stop_pending, quitting) in [(false, false), (true, false), (true, true)] {
                states.push(State {
                    phase,
                    stop_pending,
                    quitting,
                });
            }
        }
        states
    }

    fn all_events() -> Vec<Event> {
        let mut events: Vec<Event> = REQUESTS.into_iter().map(Event::Request).collect();
        events.extend([
            Event::Executing,
            Event::NotExecuted,
            Event::Stopped,
            Event::Resumed,
            Event::Ended(Ending::Rebooted),
            Event::Ended(Ending::Down),
            Event::Cleaned,
        ]);
        events
    }

    /// What holds for every pair of state and event.
    #[test]
    fn invariants_over_all_pairs() {
        for state in all_states() {
            for event in all_events() {
                let result = step(state, event);
                if !matches!(event, Event::Request(_)) {
                    assert!(
                        result.is_ok(),
                        "{state:?} {event:?} has happened and cannot be denied"
                    );
                }
                let Ok((next, actions)) = result else {
                    continue;
                };
                assert!(
                    !state.quitting || next.quitting,
                    "{state:?} {event:?}: a quit is never forgotten"
                );
                assert!(
                    !(state.stop_pending && actions.contains(&Action::Relaunch)),
                    "{state:?} {event:?}: a pending stop lets no reboot through"
                );
                assert_eq!(
                    actions.contains(&Action::Launch),
                    state.phase == Phase::Inactive && next.phase == Phase::Starting,
                    "{state:?} {event:?}: a run begins exactly when inactive becomes starting"
                );
                if next.phase == Phase::Inactive && state.phase != Phase::Inactive {
                    assert_eq!(
                        event,
                        Event::Cleaned,
                        "only cleaning up makes a VM inactive"
                    );
                }
                if actions.contains(&Action::Exit) {
                    assert!(next.quitting && next.phase == Phase::Inactive);
                }
            }
        }
    }

    #[test]
    fn the_second_start_is_told() {
        let start = Event::Request(Request::Start);
        let (starting, actions) = step(State::INITIAL, start).unwrap();
        assert_eq!(actions, [Action::Launch]);
        assert_eq!(step(starting, start), Err(Denied::AlreadyStarting));
        let (running, _) = step(starting, Event::Executing).unwrap();
        assert_eq!(step(running, start), Err(Denied::AlreadyRunning));
    }

    #[test]
    fn requests_without_a_kernel_are_denied() {
        for request in REQUESTS {
            let result = step(at(Phase::Inactive), Event::Request(request));
            match request {
                Request::Start | Request::Quit => assert!(result.is_ok()),
                _ => assert_eq!(result, Err(Denied::NotRunning), "{request:?}"),
            }
        }
    }

    #[test]
    fn a_reboot_starts_the_kernel_again_unless_a_stop_is_pending() {
        let reboot = Event::Ended(Ending::Rebooted);
        let (next, actions) = step(at(Phase::Running), reboot).unwrap();
        assert_eq!(
            (next.phase, actions),
            (Phase::Starting, &[Action::Relaunch][..])
        );

        let stop = Event::Request(Request::CtrlAltDel { stop: true });
        let (pending, _) = step(at(Phase::Running), stop).unwrap();
        let (next, actions) = step(pending, reboot).unwrap();
        assert_eq!(
            (next.phase, actions),
            (Phase::Stopping, &[Action::CleanUp][..])
        );
    }

    #[test]
    fn a_stop_that_comes_while_a_reboot_waits_is_kept() {
        let (waiting, _) = step(at(Phase::Running), Event::Ended(Ending::Rebooted)).unwrap();
        let (pending, _) =
            step(waiting, Event::Request(Request::CtrlAltDel { stop: true })).unwrap();
        assert!(pending.stop_pending);
    }

    #[test]
    fn a_suspended_kernel_goes_on_before_it_is_stopped() {
        for request in [Request::Halt, Request::CtrlAltDel { stop: true }] {
            let (_, actions) = step(at(Phase::Suspended), Event::Request(request)).unwrap();
            assert_eq!(actions.first(), Some(&Action::SendGo));
        }
    }

    #[test]
    fn quitting_kills_the_kernel_and_then_exits() {
        let (stopping, actions) = step(at(Phase::Running), Event::Request(Request::Quit)).unwrap();
        assert_eq!(actions, [Action::KillChild]);
        let (stopping, actions) = step(stopping, Event::Ended(Ending::Down)).unwrap();
        assert_eq!(actions, [Action::CleanUp]);
        let (_, actions) = step(stopping, Event::Cleaned).unwrap();
        assert_eq!(actions, [Action::Exit]);
    }
}
