//! What is said to the kernel over its mconsole on behalf of a request (umlmon, the monitor process).
//!
//! Each request is a task of its own, so that a kernel that does not answer holds up nobody else.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::life::mconsole::{Error, Mconsole};
use crate::life::state::{Action, Event, Phase};
use crate::life::status::Status;

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
    /// The key of a system request.
    pub letter: Option<char>,
    /// Where confirmations go.
    pub events: mpsc::UnboundedSender<Event>,
}

/// Carries the actions out one after the other; the first failure ends it.
///
/// # Errors
/// See [`Failure`]. That the VM goes down meanwhile is a success for a halt.
pub async fn carry_out(
    talk: &Talk,
    actions: &[Action],
    mut status: watch::Receiver<Status>,
) -> Result<(), Failure> {
    let down = status.wait_for(|status| !matches!(status.phase, Phase::Running | Phase::Suspended));
    tokio::select! {
        biased;
        result = say_all(talk, actions) => result,
        ended = down => match actions.last() {
            Some(Action::SendHalt | Action::SendCtrlAltDel) => Ok(()),
            _ => Err(Failure::Ended(ended.map(|status| status.last_end.to_string()).unwrap_or_default())),
        },
    }
}

async fn say_all(talk: &Talk, actions: &[Action]) -> Result<(), Failure> {
    for action in actions {
        let result = say(talk, *action).await;
        match result {
            // A halting kernel need not find the time to answer.
            Err(Failure::Mconsole(Error::Unreachable(_))) if *action == Action::SendHalt => {}
            // It is going down; the caller's other branch knows why.
            Err(Failure::Mconsole(Error::Unreachable(_))) => {
                sleep(DEADLINE).await;
                return result;
            }
            _ => result?,
        }
    }
    Ok(())
}

async fn say(talk: &Talk, action: Action) -> Result<(), Failure> {
    let call = |command: String| async move { talk.mconsole.call(&command, DEADLINE).await };
    let confirm = |event| {
        // Nobody listens only when the daemon ends.
        let _ = talk.events.send(event);
    };
    match action {
        Action::SendStop => {
            call("stop".into()).await?;
            confirm(Event::Stopped);
        }
        Action::SendGo => {
            call("go".into()).await?;
            confirm(Event::Resumed);
        }
        Action::SendHalt => {
            call("halt".into()).await?;
        }
        Action::SendCtrlAltDel => {
            guest_handles_ctrl_alt_del(talk).await?;
            call("cad".into()).await?;
        }
        Action::SendSysrq => {
            let letter = talk
                .letter
                .ok_or_else(|| Failure::Invalid("a system request needs a letter".into()))?;
            call(format!("sysrq {letter}")).await?;
        }
        _ => {}
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
            // A guest that does not say is given the benefit of the doubt.
            return if still_resets {
                Err(Failure::NoInit)
            } else {
                Ok(())
            };
        }
        sleep(BOOT_POLL).await;
    }
}
