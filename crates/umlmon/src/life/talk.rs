//! Commands to the kernel over its mconsole, sent for a request (umlmon, the monitor process).
//!
//! Each request is a task of its own, so that a kernel that does not answer delays no other request.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
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
    pub events: mpsc::UnboundedSender<Event>,
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
        let _ = talk.events.send(event);
    };
    match word {
        Say::Stop => {
            call("stop").await?;
            confirm(Event::Stopped);
        }
        Say::Go => {
            call("go").await?;
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
