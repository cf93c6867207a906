//! The procedures for disks: names and sizes are checked here, jobs begun, watched and cancelled, and the list composed
//! (umlmon, the monitor process).

use config::{DiskKind, DiskName, SnapshotLabel};
use disks::work::{CowEntry, Entry, Snapshot, Task, megabytes};
use disks::{Access, Holder};
use rpc_xdr::umlmonctrl::*;
use tokio::time::timeout;

use crate::disks::jobs::Progress;
use crate::disks::{holdings, process};
use crate::events::Wish;
use crate::failure::Failure;
use crate::life::disk_change::{Attach, DiskAsk};
use crate::service::session::Session;
use crate::service::{Service, patience, wire};

fn name(bytes: &[u8]) -> Result<DiskName, Failure> {
    let text = String::from_utf8_lossy(bytes);
    text.parse::<DiskName>()
        .map_err(|error| Failure::Invalid(error.to_string()))
}

fn bytes(size: u64) -> Result<u64, Failure> {
    megabytes(size).map_err(|error| Failure::Invalid(error.to_string()))
}

fn sized(it: &DiskSize, task: fn(DiskName, u64, bool) -> Task) -> Result<Task, Failure> {
    Ok(task(name(&it.disk)?, bytes(it.megabytes)?, it.sparse))
}

fn backed(it: &DiskBacking, task: fn(DiskName, DiskName) -> Task) -> Result<Task, Failure> {
    Ok(task(name(&it.disk)?, name(&it.backing)?))
}

fn pair(it: &DiskPair, task: fn(DiskName, DiskName) -> Task) -> Result<Task, Failure> {
    Ok(task(name(&it.source)?, name(&it.destination)?))
}

fn label(text: &str) -> Result<SnapshotLabel, Failure> {
    text.parse()
        .map_err(|error: config::Error| Failure::Invalid(error.to_string()))
}

fn snapshot(
    it: &DiskSnapshot,
    step: fn(SnapshotLabel, Vec<DiskName>) -> Snapshot,
) -> Result<Task, Failure> {
    let disks = it.disks.iter().map(|disk| name(disk));
    let disks = disks.collect::<Result<_, _>>()?;
    Ok(Task::Snapshot(step(label(&it.label)?, disks)))
}

/// The command that asks for a task, and the task, unless its names or sizes are wrong.
fn parse(task: &DiskTask) -> (&'static str, Result<Task, Failure>) {
    match task {
        DiskTask::Create(it) => (
            "disk-create",
            sized(it, |disk, bytes, sparse| Task::Create {
                disk,
                bytes,
                sparse,
            }),
        ),
        DiskTask::CreateCow(it) => (
            "disk-create-cow",
            backed(it, |disk, backing| Task::CreateCow { disk, backing }),
        ),
        DiskTask::Delete(disk) => ("disk-delete", name(disk).map(|disk| Task::Delete { disk })),
        DiskTask::Copy(it) => (
            "disk-copy",
            pair(it, |source, destination| Task::Copy {
                source,
                destination,
            }),
        ),
        DiskTask::Resize(it) => (
            "disk-resize",
            sized(it, |disk, bytes, sparse| Task::Resize {
                disk,
                bytes,
                sparse,
            }),
        ),
        DiskTask::Import(it) => (
            "disk-import",
            backed(it, |disk, backing| Task::Import { disk, backing }),
        ),
        DiskTask::Snapshot(it) => (
            "snapshot",
            snapshot(it, |label, disks| Snapshot::Make { label, disks }),
        ),
        DiskTask::Rollback(it) => (
            "rollback",
            snapshot(it, |label, disks| Snapshot::Restore { label, disks }),
        ),
        DiskTask::Forget(it) => (
            "snapshot",
            label(it).map(|label| Task::Snapshot(Snapshot::Forget { label })),
        ),
        DiskTask::Commit(it) => (
            "disk-commit",
            pair(it, |source, destination| Task::Commit {
                source,
                destination,
            }),
        ),
    }
}

/// The N of ubdN.
fn number(number: u32) -> Result<u8, Failure> {
    let small = u8::try_from(number).ok();
    let number = small.filter(|number| u32::from(*number) < CTL_DISKS_MAX);
    number.ok_or_else(|| Failure::Invalid("disks are ubd0 to ubd15".into()))
}

fn no_job(number: u32) -> Failure {
    Failure::NotFound(format!("there is no job {number} on this connection"))
}

impl Service {
    pub(super) async fn begin_job(&self, session: &Session, task: &DiskTask) -> DiskJobResult {
        let (verb, task) = parse(task);
        let disks = task.as_ref().map_or_else(|_| String::new(), Task::disks);
        let wish = Wish::new(verb, disks);
        let begun = async { Ok(session.keep(self.jobs.begin(&self.setup, task?).await?)) };
        let begun = self.asked(session, wish, begun).await;
        begun.map(|job| DiskJob { job }).into()
    }

    pub(super) async fn wait_for_job(
        &self,
        session: &Session,
        args: &DiskWaitArgs,
    ) -> Result<DiskProgress, Failure> {
        let progress = session.with_job(args.job, |job| job.progress());
        let mut progress = progress.ok_or_else(|| no_job(args.job))?;
        let wait = patience(args.wait_ms);
        let ended = progress.wait_for(|now| matches!(now, Progress::Ended(_)));
        // Whether the time was over is seen from the next progress.
        let _ = timeout(wait, ended).await;
        let now = progress.borrow().clone();
        match now {
            Progress::Running { done, total } => Ok(DiskProgress {
                finished: false,
                done,
                total,
            }),
            Progress::Ended(result) => {
                session.forget(args.job);
                result.map_err(Failure::Failed)?;
                Ok(DiskProgress {
                    finished: true,
                    done: 0,
                    total: 0,
                })
            }
        }
    }

    pub(super) async fn cancel_job(&self, session: &Session, job: &DiskJob) -> Result<(), Failure> {
        let number = job.job;
        let job = session.forget(number).ok_or_else(|| no_job(number))?;
        let mut progress = job.progress();
        drop(job);
        // An error also means that it is over.
        let _ = progress
            .wait_for(|now| matches!(now, Progress::Ended(_)))
            .await;
        match &*progress.borrow() {
            Progress::Ended(Ok(())) => Err(Failure::Failed(
                "it was complete before it could be cancelled".into(),
            )),
            _ => Ok(()),
        }
    }

    pub(super) async fn attach_disk(&self, args: &DiskAttachArgs) -> Result<(), Failure> {
        let (number, disk) = (number(args.number)?, name(&args.disk)?);
        self.must_run()?;
        let devices = self.may_set_disk(&format!("ubd{number}"), &disk)?;
        let attach = Attach {
            number,
            disk,
            only_read: args.read_only,
            devices,
            cows: holdings::look(&self.setup).await?,
        };
        self.monitor
            .change_disks(DiskAsk::Attach(Box::new(attach)))
            .await
    }

    pub(super) async fn detach_disk(&self, ubd: u32) -> Result<(), Failure> {
        self.monitor
            .change_disks(DiskAsk::Detach(number(ubd)?))
            .await
    }

    pub(super) async fn list_disks(&self, args: &DiskListArgs) -> Result<DiskPage, Failure> {
        let entries = process::list(&self.setup).await?;
        let holders = self.setup.storage.locks.holders()?;
        let after = String::from_utf8_lossy(&args.after).into_owned();
        let mut rest = entries.iter().filter(|entry| *entry.disk.as_str() > *after);
        let disks = rest
            .by_ref()
            .take(CTL_PAGE_MAX as usize)
            .map(|entry| self.entry(entry, &holders))
            .collect();
        Ok(DiskPage {
            disks,
            more: rest.next().is_some(),
        })
    }

    fn entry(&self, entry: &Entry, holders: &[Holder]) -> DiskEntry {
        let identity = self.setup.storage.disks.identity(&entry.disk).ok();
        let users = holders
            .iter()
            .filter(|holder| Some(&holder.claim.identity) == identity.as_ref())
            .take(CTL_USERS_MAX as usize)
            .map(|holder| DiskUser {
                vm: holder.vm.clone(),
                writing: holder.claim.access == Access::Write,
                role: wire::text(holder.claim.role.clone()),
            });
        let (size, backing, note) = match &entry.cow {
            None => (entry.size, "", String::new()),
            Some(CowEntry::Unusable(why)) => (0, "", why.clone()),
            Some(CowEntry::Header {
                size,
                backing,
                problem,
                ..
            }) => (*size, backing.as_str(), problem.clone().unwrap_or_default()),
        };
        DiskEntry {
            disk: disk_file(entry.disk.as_str()),
            r#type: match entry.disk.kind() {
                DiskKind::Dsk => DiskType::Dsk,
                DiskKind::Cow => DiskType::Cow,
                DiskKind::Dev => DiskType::Dev,
            },
            size,
            allocated: entry.allocated,
            modified: u64::try_from(entry.modified).unwrap_or(0),
            backing: disk_file(backing),
            note: wire::text(note),
            users: users.collect(),
        }
    }
}

/// A name, cut to what the wire allows. That of a disk always fits; a header may name anything.
fn disk_file(name: &str) -> Vec<u8> {
    name.bytes().take(CTL_DISK_MAX as usize).collect()
}
