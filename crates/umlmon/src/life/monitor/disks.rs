//! What the task that owns the VM does to attach disks to the kernel, and to detach them (umlmon, the monitor process).
//!
//! The kernel is told in a task of its own, which goes on if the client goes: what has come of it must be known.

use std::rc::Rc;
use std::time::Duration;

use crate::events::Happening;
use crate::failure::{Denied, Failure};
use crate::life::disk_change::{DiskAsk, DiskTold};
use crate::life::monitor::{Asker, Monitor};
use crate::life::run::Run;
use crate::life::state;
use crate::life::talk::Said;

/// How long the kernel may take: it reads the table of partitions of a disk that it gets.
const DEADLINE: Duration = Duration::from_secs(10);

impl Monitor {
    pub(super) fn change_disks(&mut self, ask: DiskAsk, asker: Asker) {
        let begin = |run: &mut Run| match ask {
            DiskAsk::Attach(attach) => run.begin_attach(*attach),
            DiskAsk::Detach(number) => run.begin_detach(number),
        };
        let begun = match (state::may_change_disks(self.state), &mut self.run) {
            (Ok(()), Some(run)) => begin(run),
            (Ok(()), None) => Err(Denied::NotRunning.into()),
            (Err(denied), _) => Err(denied.into()),
        };
        match begun {
            Ok(command) => self.tell_of_disk(command, asker),
            Err(failure) => asker.answer(Err(failure)),
        }
    }

    /// Tells the kernel once more what a former monitor has told it, if that has not heard the answer.
    pub(super) fn repeat_disk_change(&self) {
        let run = self.run.as_ref();
        if let Some(command) = run.and_then(Run::disk_change_to_repeat) {
            self.tell_of_disk(command, Asker(None));
        }
    }

    fn tell_of_disk(&self, command: String, Asker(reply): Asker) {
        let Some(run) = &self.run else {
            return Asker(reply).answer(Err(Denied::NotRunning.into()));
        };
        let (mconsole, said) = (Rc::clone(&run.mconsole), self.said.0.clone());
        tokio::task::spawn_local(async move {
            let answer = mconsole.call(&command, DEADLINE).await.map(drop);
            let told = DiskTold {
                mconsole,
                answer,
                reply,
            };
            // The receiver is gone only when the daemon ends.
            let _ = said.send(Said::Disk(Box::new(told)));
        });
    }

    /// What the kernel has answered. By now it can be another one.
    pub(super) fn disk_told(&mut self, told: DiskTold) {
        let run = self.run.as_mut();
        let run = run.filter(|run| Rc::ptr_eq(&run.mconsole, &told.mconsole));
        let is_repeated = told.reply.is_none();
        let asker = Asker(told.reply);
        let Some(run) = run else {
            let ended = self.status.borrow().last_end.to_string();
            return asker.answer(Err(Failure::Ended(ended)));
        };
        let (task, result) = run.end_disk_change(told.answer, is_repeated);
        // A client that waits is told why not, and with it the log.
        if result.is_ok() || is_repeated {
            let failure = result.as_ref().err().map(ToString::to_string);
            self.setup.events.tell(Happening::Disk { task, failure });
        }
        if !is_repeated {
            asker.answer(result);
        }
    }
}
