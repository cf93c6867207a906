//! Work on disks for clients: claimed, done by a separate process, watched, and cancelled when no client wants it any
//! more (umlmon, the monitor process).

use std::rc::Rc;
use std::time::Duration;

use config::DiskName;
use disks::work::{Operand, Task, Usage};
use disks::{Access, Claim, Identity};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::disks::holdings;
use crate::disks::process::{self, Work};
use crate::events::Happening;
use crate::failure::{Denied, Failure};
use crate::second::orders::FromWorker;
use crate::setup::Setup;

/// Jobs of one VM at once: they compete for the same disk of the host.
const MAX_JOBS: usize = 4;
/// How long a cancelled job may take to undo what it did before it is killed; it checks after every few megabytes.
const UNDO: Duration = Duration::from_secs(20);
/// How long the end of the monitor waits for that: less than umladmin waits for the monitor. A job that is killed then
/// leaves its half-made file to the next monitor.
const CLOSE: Duration = Duration::from_secs(5);

/// How far a job is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Bytes done, and in all; 0 of 0 as long as that is not known.
    Running {
        /// Bytes.
        done: u64,
        /// Bytes.
        total: u64,
    },
    /// It was done, or why not.
    Ended(Result<(), String>),
}

/// A job that a client has asked for. Dropping it cancels it.
#[derive(Debug)]
pub struct Job {
    progress: watch::Receiver<Progress>,
    _wanted: oneshot::Sender<()>,
}

impl Job {
    /// Nothing of it is left.
    pub fn has_ended(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Ended(_))
    }

    /// How far it is, and when that changes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

/// All jobs of the VM.
#[derive(Debug)]
pub struct Jobs {
    running: watch::Sender<usize>,
    closing: watch::Sender<bool>,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs {
            running: watch::Sender::new(0),
            closing: watch::Sender::new(false),
        }
    }
}

impl Jobs {
    /// Whether any job is under way.
    pub fn are_under_way(&self) -> bool {
        *self.running.borrow() > 0
    }

    /// Begins a job: checks it, claims its disks, and starts it.
    ///
    /// # Errors
    /// [`Failure::Invalid`], [`Failure::Busy`], or [`Failure::Failed`].
    pub async fn begin(self: &Rc<Self>, setup: &Rc<Setup>, task: Task) -> Result<Job, Failure> {
        task.check()
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        let slot = Slot::take(self)?;
        let lease = holdings::claim_for_job(setup, claims(setup, &task).await?)?;
        let work = Work::begin(setup, task.clone())
            .map_err(|error| Failure::Failed(format!("cannot start a process for it: {error}")))?;
        let (progress, watched) = watch::channel(Progress::Running { done: 0, total: 0 });
        let (wanted, unwanted) = oneshot::channel();
        let setup = Rc::clone(setup);
        tokio::task::spawn_local(async move {
            let said = slot.jobs.carry_out(&work, &progress, unwanted).await;
            let result = match said {
                Some(result) => result,
                None => Err(killed(&setup, &task, &work).await),
            };
            setup.events.tell(Happening::Disk {
                task: task.to_string(),
                failure: result.as_ref().err().cloned(),
            });
            if result.is_ok()
                && let Err(failure) = holdings::note(&setup, &task).await
            {
                tracing::warn!("after {task}: {failure}");
            }
            // Nothing is done to the disks any more. The end of the process takes some milliseconds; the client need
            // not wait for it.
            drop(lease);
            // The client may be gone.
            let _ = progress.send(Progress::Ended(result));
            work.end().await;
            drop(slot);
        });
        Ok(Job {
            progress: watched,
            _wanted: wanted,
        })
    }

    /// What the process reports at its end; None if it was killed.
    async fn carry_out(
        &self,
        work: &Work,
        progress: &watch::Sender<Progress>,
        mut unwanted: oneshot::Receiver<()>,
    ) -> Option<Result<(), String>> {
        let mut closing = self.closing.subscribe();
        let cancelled = async {
            tokio::select! {
                // Nothing is ever sent: the other end was dropped.
                _ = &mut unwanted => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        };
        // Unbiased: a process that sends progress without end must not prevent the check whether the job is still
        // wanted.
        tokio::select! {
            result = follow(work, progress) => result,
            () = cancelled => {
                work.cancel();
                // It may have been done just before it was cancelled.
                timeout(UNDO, follow(work, progress)).await.unwrap_or_default()
            }
        }
    }

    /// Cancels all jobs, and waits until nothing of them is left.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        let mut running = self.running.subscribe();
        let all = running.wait_for(|running| *running == 0);
        if timeout(CLOSE, all).await.is_err() {
            tracing::warn!("an operation on a disk does not end, and is killed");
        }
    }
}

/// A job among those at once, from before its disks are claimed until nothing of it is left.
struct Slot {
    jobs: Rc<Jobs>,
}

impl Slot {
    fn take(jobs: &Rc<Jobs>) -> Result<Slot, Failure> {
        if *jobs.closing.borrow() {
            return Err(Failure::Denied(Denied::Quitting));
        }
        if *jobs.running.borrow() >= MAX_JOBS {
            return Err(Failure::Busy(format!(
                "{MAX_JOBS} operations on disks of this VM are running already; try again when one has ended"
            )));
        }
        jobs.running.send_modify(|running| *running += 1);
        Ok(Slot {
            jobs: Rc::clone(jobs),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.jobs.running.send_modify(|running| *running -= 1);
    }
}

/// Passes on the reports of the process until the one that says how it ended; None if it was killed.
async fn follow(work: &Work, progress: &watch::Sender<Progress>) -> Option<Result<(), String>> {
    loop {
        match work.next().await? {
            FromWorker::Progress { done, total } => {
                progress.send_replace(Progress::Running { done, total });
            }
            FromWorker::Found(_) => {}
            FromWorker::Done => return Some(Ok(())),
            FromWorker::Failed(why) => return Some(Err(why)),
        }
    }
}

/// Removes what a process that was killed could not, and says what happened.
async fn killed(setup: &Setup, task: &Task, work: &Work) -> String {
    work.end().await;
    let cleared = match (task, task.makes()) {
        (Task::Snapshot(_), _) => process::settle(setup).await,
        (_, Some(disk)) => process::discard(setup, disk.clone()).await,
        (_, None) => Ok(()),
    };
    if let Err(failure) = cleared {
        tracing::warn!("cannot remove the rest of {task}: {failure}");
    }
    "the process that does it was killed".into()
}

/// What a task needs for itself, or needs to stay as it is.
async fn claims(setup: &Setup, task: &Task) -> Result<Vec<Claim>, Failure> {
    let claim = |identity, disk: &DiskName, access| Claim {
        identity,
        disk: disk.clone(),
        access,
        role: task.command().to_owned(),
        yields: !setup.storage.disks.may_write(disk, &setup.opener()),
    };
    let operands = task.operands();
    if operands.iter().any(|operand| !operand.disk.is_shared()) {
        setup.storage.disks.check_own(&setup.opener())?;
    }
    let mut claims = Vec::new();
    for Operand { disk, usage, .. } in operands {
        let (identity, access) = match usage {
            Usage::Reads => (setup.storage.disks.identity(disk)?, Access::Read),
            Usage::Changes => (setup.storage.disks.identity(disk)?, Access::Write),
            Usage::Makes => (Identity::new(setup.name(), disk), Access::Write),
        };
        claims.push(claim(identity, disk, access));
    }
    if let Task::Commit { source, .. } = task {
        let backing = holdings::look(setup).await?.backing(source)?;
        let identity = setup.storage.disks.identity(&backing)?;
        claims.push(claim(identity, &backing, Access::Read));
    }
    Ok(claims)
}
