//! What the task that owns the VM does for the next monitor, and with what the former one has left (umlmon, the monitor
//! process).

use crate::events::Happening;
use crate::life::monitor::{Asker, Monitor};
use crate::life::run::Run;
use crate::life::state::{Say, State};
use crate::life::talk::Said;
use crate::record::StateRecord;
use crate::status::Phase;

impl Monitor {
    /// Goes on with a run that another monitor has started.
    pub fn resume(&mut self, mut run: Run, was: &StateRecord) {
        if was.phase == Phase::Stopping {
            run.kill();
        }
        self.state = State {
            phase: was.phase,
            stop_pending: was.stop_pending,
            ..State::INITIAL
        };
        self.silent_from = run.silent_from();
        self.status.send_modify(|status| {
            status.phase = was.phase;
            status.since = run.started;
            status.last_end = was.last_end.clone();
            status.reboots = was.reboots;
            status.ready = was.ready;
        });
        self.setup.events.tell(Happening::State(was.phase));
        self.setup.events.tell(Happening::Adopted);
        self.run = Some(run);
        self.repeat_disk_change();
        // Whether the kernel or the guest has done that is not known, and it does no harm to say it twice.
        let again = match (was.stop_pending, was.phase, was.wanted) {
            (true, Phase::Running, None) => vec![Say::CtrlAltDel],
            (true, Phase::Running | Phase::Suspended, _) => vec![Say::Go, Say::CtrlAltDel],
            (_, _, Some(Phase::Suspended)) => vec![Say::Stop],
            (_, _, Some(Phase::Running)) => vec![Say::Go],
            _ => return,
        };
        self.talk(again, Asker(None));
    }

    /// What a client's request has come to.
    pub(super) fn on_said(&mut self, said: Said) -> bool {
        match said {
            Said::Confirmed(event) => self.on_event(event),
            Said::Disk(told) => {
                self.disk_told(*told);
                false
            }
            Said::Over(phase) => {
                self.turning.over(phase);
                false
            }
        }
    }

    /// Records what another monitor must know, if this one dies.
    pub(super) fn record(&mut self) {
        if let Some(run) = &mut self.run {
            let State {
                phase,
                stop_pending,
                ..
            } = self.state;
            let wanted = self.turning.to();
            run.note_state(phase, (stop_pending, wanted), &self.status.borrow());
        }
    }

    /// Whether the monitor may be exchanged now.
    pub(super) fn may_leave(&self) -> bool {
        match (self.state.phase, &self.run) {
            (Phase::Inactive, None) => true,
            (Phase::Running | Phase::Suspended, Some(run)) => run.outlives(),
            _ => false,
        }
    }
}
