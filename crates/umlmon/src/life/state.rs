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
//! [`asked`] and [`happened`] are pure functions: they neither wait nor touch anything. The monitor task calls them,
//! and then carries the action out. A refusal is an answer with a reason, not an error.

use crate::failure::Denied;
use crate::status::Phase;

/// The whole state: the phase, and what was promised to clients meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// Where the VM is in its life.
    pub phase: Phase,
    /// A client wants the VM down: a reboot of the guest is not carried out.
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
        self.pending(true)
    }

    /// A pending stop stays pending.
    fn pending(self, stop: bool) -> State {
        State {
            stop_pending: self.stop_pending || stop,
            ..self
        }
    }
}

/// What a client, or the daemon itself, asks for, with what is needed for it.
///
/// `S` is the data for a start. The rules here do not depend on it, and pass it on to [`Action::Launch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask<S> {
    /// Start the kernel.
    Start(S),
    /// Suspend the kernel.
    Suspend,
    /// Resume the suspended kernel.
    Continue,
    /// Halt the kernel without a shutdown of the guest.
    Halt,
    /// Send CTRL-ALT-DEL; `stop` says that the VM must go down, whatever the guest does then.
    CtrlAltDel {
        /// From now on, no reboot of the guest is carried out.
        stop: bool,
    },
    /// Kill the kernel.
    Kill,
    /// Send the system request with this key.
    Sysrq(char),
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

/// What has happened. It cannot be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
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

/// What the monitor must do now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action<S> {
    /// Nothing.
    Nothing,
    /// Execute the kernel for a new run.
    Launch(S),
    /// Execute the kernel again after a reboot of the guest.
    Relaunch,
    /// Send these commands to the kernel, in this order.
    Say(Vec<Say>),
    /// Kill the child process, and so everything in its namespace.
    KillChild,
    /// Release what the run has acquired, then report [`Event::Cleaned`].
    CleanUp,
    /// End the daemon.
    Exit,
}

/// A command to the kernel over its mconsole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Say {
    /// `stop`; the answer is [`Event::Stopped`].
    Stop,
    /// `go`; the answer is [`Event::Resumed`].
    Go,
    /// `halt`.
    Halt,
    /// `cad`, as soon as the guest handles it.
    CtrlAltDel,
    /// `sysrq` with this key.
    Sysrq(char),
}

/// The next state, and what is to be done.
pub type Step<S> = (State, Action<S>);

/// The result of a request, or why it is refused.
///
/// # Errors
/// `Denied` if it makes no sense now.
pub fn asked<S>(state: State, ask: Ask<S>) -> Result<Step<S>, Denied> {
    if matches!(ask, Ask::Quit) {
        return Ok(quit(state));
    }
    if state.quitting {
        return Err(Denied::Quitting);
    }
    match state.phase {
        Phase::Inactive => when_inactive(state, ask),
        Phase::Starting => when_starting(state, ask),
        Phase::Running => when_running(state, ask),
        Phase::Suspended => when_suspended(state, ask),
        Phase::Stopping => match ask {
            Ask::Kill => Ok(kill(state)),
            _ => Err(Denied::Stopping),
        },
    }
}

/// Whether disks can be attached to the kernel now, and detached from it.
///
/// # Errors
/// Why not: a kernel that is suspended must not be told to do anything.
pub fn may_change_disks(state: State) -> Result<(), Denied> {
    match state.phase {
        _ if state.quitting => Err(Denied::Quitting),
        Phase::Inactive => Err(Denied::NotRunning),
        Phase::Starting => Err(Denied::StillStarting),
        Phase::Running => Ok(()),
        Phase::Suspended => Err(Denied::AlreadySuspended),
        Phase::Stopping => Err(Denied::Stopping),
    }
}

/// The result of an event.
pub fn happened<S>(state: State, event: Event) -> Step<S> {
    match event {
        Event::Executing => on_executing(state),
        Event::NotExecuted => (at(state, Phase::Stopping), Action::CleanUp),
        Event::Stopped => (
            enter(state, Phase::Running, Phase::Suspended),
            Action::Nothing,
        ),
        Event::Resumed => (
            enter(state, Phase::Suspended, Phase::Running),
            Action::Nothing,
        ),
        Event::Ended(ending) => on_end(state, ending),
        Event::Cleaned => {
            let next = State {
                stop_pending: false,
                ..at(state, Phase::Inactive)
            };
            match state.quitting {
                true => (next, Action::Exit),
                false => (next, Action::Nothing),
            }
        }
    }
}

fn at(state: State, phase: Phase) -> State {
    State { phase, ..state }
}

/// Goes from one phase to another; a message that comes too late (the VM is in another phase by now) changes nothing.
fn enter(state: State, from: Phase, to: Phase) -> State {
    at(state, if state.phase == from { to } else { state.phase })
}

fn quit<S>(state: State) -> Step<S> {
    let quitting = State {
        quitting: true,
        ..state.to_be_stopped()
    };
    match state.phase {
        Phase::Inactive => (quitting, Action::Exit),
        Phase::Stopping => (quitting, Action::Nothing),
        Phase::Starting | Phase::Running | Phase::Suspended => kill(quitting),
    }
}

fn kill<S>(state: State) -> Step<S> {
    let stopping = at(state.to_be_stopped(), Phase::Stopping);
    (stopping, Action::KillChild)
}

fn say<S>(state: State, words: &[Say]) -> Result<Step<S>, Denied> {
    Ok((state, Action::Say(words.to_vec())))
}

fn when_inactive<S>(state: State, ask: Ask<S>) -> Result<Step<S>, Denied> {
    match ask {
        Ask::Start(start) => Ok((at(state, Phase::Starting), Action::Launch(start))),
        _ => Err(Denied::NotRunning),
    }
}

fn when_starting<S>(state: State, ask: Ask<S>) -> Result<Step<S>, Denied> {
    match ask {
        Ask::Start(_) => Err(Denied::AlreadyStarting),
        Ask::Kill => Ok(kill(state)),
        // A reboot waits in this phase for its start: a stop that comes now must not be lost.
        Ask::CtrlAltDel { stop: true } => Ok((state.to_be_stopped(), Action::Nothing)),
        _ => Err(Denied::StillStarting),
    }
}

fn when_running<S>(state: State, ask: Ask<S>) -> Result<Step<S>, Denied> {
    match ask {
        Ask::Start(_) => Err(Denied::AlreadyRunning),
        Ask::Suspend => say(state, &[Say::Stop]),
        Ask::Continue => Err(Denied::NotSuspended),
        Ask::Halt => say(state.to_be_stopped(), &[Say::Halt]),
        Ask::CtrlAltDel { stop } => say(state.pending(stop), &[Say::CtrlAltDel]),
        Ask::Sysrq(key) => say(state, &[Say::Sysrq(key)]),
        Ask::Kill => Ok(kill(state)),
        Ask::Quit => Ok(quit(state)),
    }
}

/// A suspended kernel executes no command before it is resumed.
fn when_suspended<S>(state: State, ask: Ask<S>) -> Result<Step<S>, Denied> {
    match ask {
        Ask::Start(_) => Err(Denied::AlreadyRunning),
        Ask::Suspend => Err(Denied::AlreadySuspended),
        Ask::Continue => say(state, &[Say::Go]),
        Ask::Halt => say(state.to_be_stopped(), &[Say::Go, Say::Halt]),
        Ask::CtrlAltDel { stop } => say(state.pending(stop), &[Say::Go, Say::CtrlAltDel]),
        Ask::Sysrq(key) => say(state, &[Say::Sysrq(key)]),
        Ask::Kill => Ok(kill(state)),
        Ask::Quit => Ok(quit(state)),
    }
}

/// A stop that was asked for while the kernel was not there yet is passed on now.
fn on_executing<S>(state: State) -> Step<S> {
    let next = enter(state, Phase::Starting, Phase::Running);
    match next.phase {
        Phase::Running if state.stop_pending => (next, Action::Say(vec![Say::CtrlAltDel])),
        _ => (next, Action::Nothing),
    }
}

fn on_end<S>(state: State, ending: Ending) -> Step<S> {
    let again = ending == Ending::Rebooted && !state.stop_pending && !state.quitting;
    match state.phase {
        Phase::Inactive => (state, Action::Nothing),
        Phase::Starting | Phase::Running | Phase::Suspended if again => {
            (at(state, Phase::Starting), Action::Relaunch)
        }
        _ => (at(state, Phase::Stopping), Action::CleanUp),
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
    const ASKS: [Ask<()>; 9] = [
        Ask::Start(()),
        Ask::Suspend,
        Ask::Continue,
        Ask::Halt,
        Ask::CtrlAltDel { stop: false },
        Ask::CtrlAltDel { stop: true },
        Ask::Kill,
        Ask::Sysrq('h'),
        Ask::Quit,
    ];
    const EVENTS: [Event; 7] = [
        Event::Executing,
        Event::NotExecuted,
        Event::Stopped,
        Event::Resumed,
        Event::Ended(Ending::Rebooted),
        Event::Ended(Ending::Down),
        Event::Cleaned,
    ];

    /// What comes to a state, and what follows.
    type Pair = (State, String, Step<()>);

    fn initial(phase: Phase) -> State {
        at(State::INITIAL, phase)
    }

    fn happened(state: State, event: Event) -> Step<()> {
        super::happened(state, event)
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

    /// All that is not denied.
    fn all_pairs() -> Vec<Pair> {
        let mut pairs = Vec::new();
        for state in all_states() {
            for ask in ASKS {
                if let Ok(step) = asked(state, ask) {
                    pairs.push((state, format!("{ask:?}"), step));
                }
            }
            for event in EVENTS {
                pairs.push((state, format!("{event:?}"), happened(state, event)));
            }
        }
        pairs
    }

    /// What holds for every pair of state and event.
    #[test]
    fn invariants_over_all_pairs() {
        for (state, what, (next, action)) in all_pairs() {
            assert!(
                !state.quitting || next.quitting,
                "{state:?} {what}: a quit is never forgotten"
            );
            assert!(
                !(state.stop_pending && action == Action::Relaunch),
                "{state:?} {what}: a pending stop lets no reboot through"
            );
            assert_eq!(
                action == Action::Launch(()),
                state.phase == Phase::Inactive && next.phase == Phase::Starting,
                "{state:?} {what}: a run begins exactly when inactive becomes starting"
            );
            if next.phase == Phase::Inactive && state.phase != Phase::Inactive {
                assert_eq!(what, "Cleaned", "only cleaning up makes a VM inactive");
            }
            if action == Action::Exit {
                assert!(next.quitting && next.phase == Phase::Inactive);
            }
            assert_ne!(action, Action::Say(Vec::new()), "{state:?} {what}");
        }
    }

    #[test]
    fn the_second_start_is_told() {
        let (starting, action) = asked(State::INITIAL, Ask::Start("extra")).unwrap();
        assert_eq!(action, Action::Launch("extra"));
        let again = asked(starting, Ask::Start(()));
        assert_eq!(again, Err(Denied::AlreadyStarting));
        let (running, _) = happened(starting, Event::Executing);
        let again = asked(running, Ask::Start(()));
        assert_eq!(again, Err(Denied::AlreadyRunning));
    }

    #[test]
    fn requests_without_a_kernel_are_denied() {
        for ask in ASKS {
            let result = asked(initial(Phase::Inactive), ask);
            match ask {
                Ask::Start(()) | Ask::Quit => assert!(result.is_ok()),
                _ => assert_eq!(result, Err(Denied::NotRunning), "{ask:?}"),
            }
        }
    }

    #[test]
    fn only_a_kernel_that_runs_gets_disks() {
        for state in all_states() {
            let can = state.phase == Phase::Running && !state.quitting;
            assert_eq!(may_change_disks(state).is_ok(), can, "{state:?}");
        }
    }

    #[test]
    fn a_reboot_starts_the_kernel_again_unless_a_stop_is_pending() {
        let reboot = Event::Ended(Ending::Rebooted);
        let running = initial(Phase::Running);
        let (next, action) = happened(running, reboot);
        assert_eq!((next.phase, action), (Phase::Starting, Action::Relaunch));

        let stop = Ask::<()>::CtrlAltDel { stop: true };
        let (pending, _) = asked(running, stop).unwrap();
        let (next, action) = happened(pending, reboot);
        assert_eq!((next.phase, action), (Phase::Stopping, Action::CleanUp));
    }

    #[test]
    fn a_stop_that_comes_while_a_reboot_waits_is_kept() {
        let reboot = Event::Ended(Ending::Rebooted);
        let (waiting, _) = happened(initial(Phase::Running), reboot);
        let stop = Ask::<()>::CtrlAltDel { stop: true };
        let (pending, _) = asked(waiting, stop).unwrap();
        assert!(pending.stop_pending);
    }

    #[test]
    fn a_suspended_kernel_goes_on_before_it_is_stopped() {
        for (ask, word) in [
            (Ask::<()>::Halt, Say::Halt),
            (Ask::CtrlAltDel { stop: true }, Say::CtrlAltDel),
        ] {
            let (_, action) = asked(initial(Phase::Suspended), ask).unwrap();
            assert_eq!(action, Action::Say(vec![Say::Go, word]));
        }
    }

    #[test]
    fn the_key_of_a_system_request_reaches_the_kernel() {
        for phase in [Phase::Running, Phase::Suspended] {
            let (_, action) = asked(initial(phase), Ask::<()>::Sysrq('t')).unwrap();
            assert_eq!(action, Action::Say(vec![Say::Sysrq('t')]));
        }
    }

    #[test]
    fn quitting_kills_the_kernel_and_then_exits() {
        let (stopping, action) = asked(initial(Phase::Running), Ask::<()>::Quit).unwrap();
        assert_eq!(action, Action::KillChild);
        let (stopping, action) = happened(stopping, Event::Ended(Ending::Down));
        assert_eq!(action, Action::CleanUp);
        let (_, action) = happened(stopping, Event::Cleaned);
        assert_eq!(action, Action::Exit);
    }
}
