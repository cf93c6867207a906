//! Commands to the kernel over its mconsole, sent for a request (umlmon, the monitor process).
//!
//! Each request is a task of its own, so that a kernel that does not answer delays no other request.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::life::disk_change::DiskTold;
use crate::life::state::{Event, Say};
use crate::mconsole::{Error, Mconsole};
use crate::status::{Phase, Status};

/// How long the kernel may take to answer a command.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long after its start a guest may take until its init handles CTRL-ALT-DEL.
const BOOT_PATIENCE: Duration = Duration::from_secs(20);
/// How often the guest is asked whether it does.
const BOOT_POLL: Duration = Duration::from_millis(50);

/// What a request needs to talk to the kernel.
pub struct Talk {
    /// The kernel's mconsole.
    pub mconsole: Rc<Mconsole>,
    /// When the kernel was started.
    pub started: Instant,
    /// Where confirmations go.
    pub said: mpsc::UnboundedSender<Said>,
}

/// What the task that owns the VM learns of requests.
#[derive(Debug)]
pub enum Said {
    /// The mconsole has confirmed it.
    Confirmed(Event),
    /// A request to bring the kernel into this phase is over, carried out or not.
    Over(Phase),
    /// The kernel was told of a disk.
    Disk(Box<DiskTold>),
}

/// The requests that suspend the kernel, or resume it: carried out one after the other. What is under way is recorded,
/// as a monitor that dies leaves a kernel of which nobody knows whether it has done it; the next one asks again.
#[derive(Debug)]
pub struct Turning {
    one: Semaphore,
    to: Cell<Option<Phase>>,
}

impl Default for Turning {
    fn default() -> Self {
        Turning {
            one: Semaphore::new(1),
            to: Cell::default(),
        }
    }
}

impl Turning {
    /// If one of the words suspends or resumes: that is under way from now on.
    pub fn begin(
        self: &Rc<Self>,
        words: &[Say],
        said: &mpsc::UnboundedSender<Said>,
    ) -> Option<Turn> {
        let to = words.iter().find_map(|word| match word {
            Say::Stop => Some(Phase::Suspended),
            Say::Go => Some(Phase::Running),
            Say::Halt | Say::CtrlAltDel | Say::Sysrq(_) => None,
        })?;
        self.to.set(Some(to));
        Some(Turn {
            all: Rc::clone(self),
            to,
            said: said.clone(),
        })
    }

    /// The phase into which the kernel is being brought.
    pub fn to(&self) -> Option<Phase> {
        self.to.get()
    }

    /// See [`Said::Over`].
    pub fn over(&self, to: Phase) {
        if self.to.get() == Some(to) {
            self.to.set(None);
        }
    }
}

/// One of these requests. When it is dropped, it is over.
#[derive(Debug)]
pub struct Turn {
    all: Rc<Turning>,
    to: Phase,
    said: mpsc::UnboundedSender<Said>,
}

impl Turn {
    /// Waits until no other is carried out. Cancel safe.
    pub async fn mine(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.all.one.acquire().await.ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // After what was confirmed. The receiver is gone only when the daemon ends.
        let _ = self.said.send(Said::Over(self.to));
    }
}

/// Sends the commands one after the other; the first failure ends it.
///
/// # Errors
/// See [`Failure`]. If the VM goes down meanwhile, that is a success for a halt.
pub async fn say_all(
    talk: &Talk,
    words: &[Say],
    mut status: watch::Receiver<Status>,
) -> Result<(), Failure> {
    let down = status.wait_for(|status| !matches!(status.phase, Phase::Running | Phase::Suspended));
    tokio::select! {
        biased;
        result = one_by_one(talk, words) => result,
        ended = down => match words.last() {
            Some(Say::Halt | Say::CtrlAltDel) => Ok(()),
            Some(Say::Stop | Say::Go | Say::Sysrq(_)) | None => {
                Err(Failure::Ended(ended.map(|status| status.last_end.to_string()).unwrap_or_default()))
            }
        },
    }
}

async fn one_by_one(talk: &Talk, words: &[Say]) -> Result<(), Failure> {
    for word in words {
        let result = say(talk, *word).await;
        match result {
            // A halting kernel may end before it answers.
            Err(Failure::Mconsole(Error::Unreachable(_))) if *word == Say::Halt => {}
            // It is going down; the caller's other branch has the reason.
            Err(Failure::Mconsole(Error::Unreachable(_))) => {
                sleep(DEADLINE).await;
                return result;
            }
            _ => result?,
        }
    }
    Ok(())
}

async fn say(talk: &Talk, word: Say) -> Result<(), Failure> {
    let call = async |command: &str| talk.mconsole.call(command, DEADLINE).await.map(drop);
    let confirm = |event| {
        // The receiver is gone only when the daemon ends.
        let _ = talk.said.send(Said::Confirmed(event));
    };
    match word {
        Say::Stop => {
            call("stop")
                .await
                .or_else(|error| is_so(error, "Already stopped"))?;
            confirm(Event::Stopped);
        }
        Say::Go => {
            call("go")
                .await
                .or_else(|error| is_so(error, "Not stopped"))?;
            confirm(Event::Resumed);
        }
        Say::Halt => call("halt").await?,
        Say::CtrlAltDel => {
            guest_handles_ctrl_alt_del(talk).await?;
            call("cad").await?;
        }
        Say::Sysrq(key) => call(&format!("sysrq {key}")).await?,
    }
    Ok(())
}

/// That a kernel refuses a word with this text, as it is so already, is no error: a monitor that has died may have said
/// it.
fn is_so(error: Error, answer: &str) -> Result<(), Error> {
    match error {
        Error::Refused { text, .. } if text == answer => Ok(()),
        error => Err(error),
    }
}

/// Waits until an init in the guest handles CTRL-ALT-DEL: before that, the event resets the VM without a shutdown.
///
/// `/proc/sys/kernel/ctrl-alt-del` is 1 until the guest's init calls reboot(2) with `LINUX_REBOOT_CMD_CAD_OFF`.
async fn guest_handles_ctrl_alt_del(talk: &Talk) -> Result<(), Failure> {
    loop {
        let answer = talk
            .mconsole
            .call("proc sys/kernel/ctrl-alt-del", DEADLINE)
            .await;
        let still_resets = match answer {
            Ok(text) if text == "0" => return Ok(()),
            Ok(_) => true,
            // No mconsole, no /proc: the kernel is booting.
            Err(Error::Unreachable(_) | Error::Refused { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if talk.started.elapsed() > BOOT_PATIENCE {
            // For a guest that does not answer, assume that it does.
            return if still_resets {
                Err(Failure::NoInit)
            } else {
                Ok(())
            };
        }
        sleep(BOOT_POLL).await;
    }
}
