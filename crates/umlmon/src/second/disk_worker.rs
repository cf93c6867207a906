//! The process that works on disks: it becomes the VM's user in the jail, does one task, says how it went, and ends
//! (umlmon, the child process; this file is what it does after `worker.rs`).
//!
//! ```text
//! monitor == pipe (descriptor 3) ==> confine, then work
//!    progress, disks found   <-- as they come
//!    the monitor's end of the pipe closed: cancelled; what is half-made is removed
//!    done, or why not        <-- at the end
//! ```

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use disks::work::{Entry, Watch, Workplace};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::second::orders::{DiskOrder, Failed, FromWorker, confine, report};

/// How often progress is reported at most.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// Does the task, for the exit status of the process.
pub(crate) fn work(pipe: &OwnedFd, order: &DiskOrder) -> ExitCode {
    let result = match confine(&order.confinement, Vec::new()) {
        Ok(()) => perform(pipe, order),
        Err(Failed { step, error }) => Err(format!("{step}: {error}")),
    };
    let (last, status) = match result {
        Ok(()) => (FromWorker::Done, ExitCode::SUCCESS),
        Err(why) => (FromWorker::Failed(why), ExitCode::FAILURE),
    };
    report(pipe, &last);
    status
}

fn perform(pipe: &OwnedFd, order: &DiskOrder) -> Result<(), String> {
    let mut reporter = Reporter { pipe, last: None };
    Workplace::open(Path::new("/"))
        .and_then(|workplace| workplace.perform(&order.task, &mut reporter))
        .map_err(|error| error.to_string())
}

/// Passes on what happens, and notices when it must stop.
struct Reporter<'a> {
    pipe: &'a OwnedFd,
    last: Option<Instant>,
}

impl Reporter<'_> {
    /// The monitor never sends anything; it closes its end.
    fn is_cancelled(&self) -> bool {
        let nothing = recv(self.pipe, &mut [0; 1], RecvFlags::DONTWAIT);
        !matches!(nothing, Err(Errno::AGAIN | Errno::INTR))
    }
}

impl Watch for Reporter<'_> {
    fn progress(&mut self, done: u64, total: u64) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= REPORT_EVERY);
        if due || done == total {
            report(self.pipe, &FromWorker::Progress { done, total });
            self.last = Some(Instant::now());
        }
        !self.is_cancelled()
    }

    fn found(&mut self, entry: Entry) {
        report(self.pipe, &FromWorker::Found(Box::new(entry)));
    }
}
