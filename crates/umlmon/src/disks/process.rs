//! Work on disks, as the monitor sees it: a second process that does one task (umlmon, the monitor process).

use std::io;
use std::time::Duration;

use config::DiskName;
use disks::work::{CowEntry, Entry, MAX_LISTED, Snapshot, Task};
use sys::Network;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::second::confined::{Confined, printable};
use crate::second::orders::{DiskOrder, FromWorker, ToWorker};
use crate::setup::Setup;

/// How long looking at the disks, or removing what is half-made, may take. A few files are read; only a file system
/// that hangs takes longer.
const QUICK: Duration = Duration::from_secs(10);

/// A task under way. Dropping it kills the process.
#[derive(Debug)]
pub struct Work {
    process: Confined,
}

impl Work {
    /// Begins a task.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn begin(setup: &Setup, task: Task) -> io::Result<Work> {
        let title = format!("umlmon: {} {}", setup.name(), task.command());
        let confinement = setup.jail.confinement_for_disks();
        let order = ToWorker::Work(Box::new(DiskOrder { confinement, task }));
        let process = Confined::launch(None, &title, &order, &[], Network::Host)?;
        Ok(Work { process })
    }

    /// What it says next; `None` if it has ended. Cancel safe.
    pub async fn next(&self) -> Option<FromWorker> {
        self.process
            .next(|message| {
                Ok(match message {
                    FromWorker::Failed(why) => FromWorker::Failed(printable(&why)),
                    message => message,
                })
            })
            .await
    }

    /// Asks it to undo what it did, and end.
    pub fn cancel(&self) {
        self.process.hang_up();
    }

    /// Kills what is left of it, and waits until nothing is. Cancel safe.
    pub async fn end(&self) {
        self.process.kill();
        self.process.ended().await;
    }
}

/// What is reported about an image comes from the process, and goes to logs and terminals.
fn checked(mut entry: Entry) -> Entry {
    match &mut entry.cow {
        None => {}
        Some(CowEntry::Unusable(why)) => *why = printable(why),
        Some(CowEntry::Header {
            backing, problem, ..
        }) => {
            *backing = printable(backing);
            *problem = problem.as_deref().map(printable);
        }
    }
    entry
}

/// Does a short task from its beginning to its end. What the process found is not trusted.
async fn at_once(setup: &Setup, task: Task) -> Result<Vec<Entry>, Failure> {
    let failed = |why: String| Failure::Failed(format!("cannot look at the disks: {why}"));
    // The semaphore is never closed.
    let _place = setup.storage.looks.acquire().await;
    let work = Work::begin(setup, task).map_err(|error| failed(error.to_string()))?;
    let mut found = Vec::new();
    let all = async {
        loop {
            match work.next().await {
                Some(FromWorker::Found(entry)) if found.len() < MAX_LISTED => {
                    found.push(checked(*entry));
                }
                Some(FromWorker::Progress { .. } | FromWorker::Found(_)) => {}
                Some(FromWorker::Done) => return Ok(()),
                Some(FromWorker::Failed(why)) => return Err(failed(why)),
                None => return Err(failed("the process that does it was killed".into())),
            }
        }
    };
    let done = timeout(QUICK, all).await;
    // Its end takes some milliseconds; no caller has to wait for it.
    tokio::task::spawn_local(async move { work.end().await });
    match done {
        Ok(result) => result.map(|()| found),
        Err(_) => Err(failed(format!(
            "it takes more than {} seconds",
            QUICK.as_secs()
        ))),
    }
}

/// All disks that the VM could use, sorted by name.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn list(setup: &Setup) -> Result<Vec<Entry>, Failure> {
    at_once(setup, Task::List).await
}

/// Removes half-made files, which a monitor that was killed has left. Jobs must not be running.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn tidy(setup: &Setup) -> Result<(), Failure> {
    at_once(setup, Task::Tidy).await.map(drop)
}

/// Completes or undoes the work on a snapshot of a process that was killed.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn settle(setup: &Setup) -> Result<(), Failure> {
    at_once(setup, Task::Snapshot(Snapshot::Settle))
        .await
        .map(drop)
}

/// Removes what a process that was killed has left of a disk that it was to make.
///
/// # Errors
/// [`Failure::Failed`].
pub async fn discard(setup: &Setup, disk: DiskName) -> Result<(), Failure> {
    at_once(setup, Task::Discard { disk }).await.map(drop)
}
