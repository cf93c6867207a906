//! Work on disks, with a bar that shows how far it is; and the list of disks.

use std::fmt::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use cli::{Exit, Failure, printable};
use client::bar::Bar;
use client::signals::{self, Signals};
use client::when::size;
use client::{Monitor, Stream, json, refused};
use nix::sys::signal::Signal;
use rpc_xdr::client::{ClientError, Ticket};
use rpc_xdr::umlmonctrl::{
    DiskEntry, DiskJob, DiskListArgs, DiskTask, DiskType, DiskUser, DiskWaitArgs,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::run::Runner;

/// How long one call waits for the end of a job; the bar is updated as often.
const STEP_MS: u32 = 100;
/// How long the monitor may take for an answer when the user wants to end the program.
const PATIENCE_WITH_MONITOR: Duration = Duration::from_secs(3);

impl Runner {
    /// Starts the work, and waits for it. CTRL-C cancels it.
    pub(crate) fn work(&mut self, task: &DiskTask) -> Result<(), Failure> {
        // From here on a signal does not end us before the job is cancelled.
        let mut signals = Interruption::hold()?;
        let begun = self.answer(&mut signals, PATIENCE_WITH_MONITOR, |client| {
            client.send_disk_begin(task)
        })?;
        let begun = begun.into_result().map_err(refused)?;
        let bar = Bar::default();
        let ended = self.follow(&begun, &mut signals, &bar);
        drop(bar);
        drop(signals);
        match ended? {
            None => Ok(()),
            Some(Signal::SIGINT) => Err(Failure::new(Exit::Failed, "cancelled, and undone")),
            Some(signal) => signals::obey(signal),
        }
    }

    /// Waits for the end of a job; the answer is the signal that cancelled it.
    fn follow(
        &mut self,
        job: &DiskJob,
        signals: &mut Interruption,
        bar: &Bar,
    ) -> Result<Option<Signal>, Failure> {
        let args = DiskWaitArgs {
            job: job.job,
            wait_ms: STEP_MS,
        };
        loop {
            let progress = self.answer(signals, PATIENCE_WITH_MONITOR, |client| {
                client.send_disk_wait(&args)
            })?;
            let progress = progress.into_result().map_err(refused)?;
            if progress.finished {
                return Ok(None);
            }
            bar.show(progress.done, progress.total);
            signals.look();
            if let Some(signal) = signals.came {
                // Undoing takes some time. After another signal, the client does not wait for it.
                let cancelled = self.answer(signals, Duration::ZERO, |client| {
                    client.send_disk_cancel(job)
                })?;
                cancelled.into_result().map_err(refused)?;
                return Ok(Some(signal));
            }
        }
    }

    /// Makes a call. If a signal comes, and there is no answer for `patience` after it, the connection is given up;
    /// that cancels the job, too.
    pub(crate) fn answer<R>(
        &mut self,
        signals: &mut Interruption,
        patience: Duration,
        send: impl FnOnce(&mut Monitor) -> Result<Ticket<R>, ClientError>,
    ) -> Result<R, Failure> {
        let wait = |stream: &Stream| signals.is_answered(stream, patience);
        self.client_mut().call_while(send, wait)
    }

    /// Shows all disks.
    pub(crate) fn list_disks(&mut self) -> Result<(), Failure> {
        let disks = self.disks()?;
        let text = match self.style().json {
            true => json::ascii(&json!({
                "vm": self.vm().as_str(),
                "disks": disks.iter().map(value).collect::<Vec<_>>(),
            })),
            false => page(&disks),
        };
        self.print(&text)
    }

    /// All disks that the VM could use, sorted by name.
    pub(crate) fn disks(&mut self) -> Result<Vec<DiskEntry>, Failure> {
        let mut disks: Vec<DiskEntry> = Vec::new();
        loop {
            let after = disks.last().map_or(Vec::new(), |disk| disk.disk.clone());
            let args = DiskListArgs { after };
            let page = self.call(|client| Ok(client.disk_list(&args)?.into_result()))?;
            let is_last = !page.more || page.disks.is_empty();
            disks.extend(page.disks);
            if is_last {
                return Ok(disks);
            }
        }
    }
}

/// The signals that are blocked while a job, or anything else, is waited for.
pub(crate) struct Interruption {
    signals: Signals,
    /// The signal that is to end the job.
    came: Option<Signal>,
}

impl Interruption {
    /// Blocks them from now on.
    pub(crate) fn hold() -> Result<Interruption, Failure> {
        let signals = Signals::hold()?;
        Ok(Interruption {
            signals,
            came: None,
        })
    }

    /// The signal that is to end it, if one has come.
    pub(crate) fn came(&self) -> Option<Signal> {
        self.came
    }

    /// Reads the signals that have come; true if one of them is to end the job.
    pub(crate) fn look(&mut self) -> bool {
        let mut ending = false;
        while let Some(signal) = self.signals.next() {
            if signal != Signal::SIGWINCH {
                ending = true;
                self.came.get_or_insert(signal);
            }
        }
        ending
    }

    /// Waits for so long.
    ///
    /// # Errors
    /// If a signal has come that is to end it.
    pub(crate) fn pause(&mut self, time: Duration) -> Result<(), Failure> {
        let timeout = Timespec::try_from(time).ok();
        let _ = poll(
            &mut [PollFd::new(&self.signals, PollFlags::IN)],
            timeout.as_ref(),
        );
        match self.look() {
            true => Err(Failure::new(Exit::Failed, "it was interrupted")),
            false => Ok(()),
        }
    }

    /// Waits for an answer; false if a signal came, and then none for so long.
    pub(crate) fn is_answered(&mut self, stream: &impl AsFd, patience: Duration) -> bool {
        let mut until: Option<Instant> = None;
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [
                PollFd::new(stream, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            let count = poll(&mut fds, timeout.as_ref());
            let [answer, signal] = fds.map(|fd| !fd.revents().is_empty());
            match count {
                Err(Errno::INTR) => {}
                // The read reports the error.
                Err(_) => return true,
                Ok(_) if answer => return true,
                Ok(0) => return false,
                Ok(_) => {
                    if signal && self.look() {
                        until.get_or_insert_with(|| Instant::now() + patience);
                    }
                }
            }
        }
    }
}

fn page(disks: &[DiskEntry]) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, disks);
    page
}

fn write_page(page: &mut String, disks: &[DiskEntry]) -> fmt::Result {
    if disks.is_empty() {
        return writeln!(page, "no disks");
    }
    writeln!(
        page,
        "{:<30} {:<4} {:>10} {:>10}  USED BY",
        "DISK", "TYPE", "SIZE", "ALLOCATED"
    )?;
    for disk in disks {
        let (size, allocated) = match disk.size {
            0 => ("-".to_owned(), "-".to_owned()),
            bytes => (size(bytes), size(disk.allocated)),
        };
        let users: Vec<String> = disk.users.iter().map(user).collect();
        let (name, kind) = (printable(&disk.disk), type_word(disk.r#type));
        let line = format!(
            "{name:<30} {kind:<4} {size:>10} {allocated:>10}  {}",
            users.join(", ")
        );
        writeln!(page, "{}", line.trim_end())?;
        if !disk.backing.is_empty() {
            writeln!(page, "    on {}", printable(&disk.backing))?;
        }
        if !disk.note.is_empty() {
            writeln!(page, "    {}", printable(disk.note.as_bytes()))?;
        }
    }
    Ok(())
}

fn user(user: &DiskUser) -> String {
    let how = if user.writing { "writing" } else { "reading" };
    let (vm, role) = (
        printable(user.vm.as_bytes()),
        printable(user.role.as_bytes()),
    );
    format!("{vm} ({role}, {how})")
}

fn type_word(disk_type: DiskType) -> &'static str {
    match disk_type {
        DiskType::Dsk => "dsk",
        DiskType::Cow => "cow",
        DiskType::Dev => "dev",
    }
}

/// The names are those of proto/umlmonctrl.x.
fn value(disk: &DiskEntry) -> Value {
    json!({
        "disk": json::text(&disk.disk),
        "type": type_word(disk.r#type),
        "size": disk.size,
        "allocated": disk.allocated,
        "modified": disk.modified,
        "backing": json::text(&disk.backing),
        "note": disk.note,
        "users": disk.users.iter().map(|user| json!({
            "vm": user.vm,
            "writing": user.writing,
            "role": user.role,
        })).collect::<Vec<_>>(),
    })
}
