//! The clock of the host jumps when it is set, and when the host was suspended. The guest's does not: its kernel counts
//! from the monotonic clock of the host. So the helper sets it then (umlmon, the monitor process).

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use guest_line::ToGuest;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::helper::Helper;

/// How long the helper of a guest that boots is waited for.
const BOOT: Duration = Duration::from_secs(60);

/// When the timer would be over: in the year 2255.
const NEVER: i64 = 9_000_000_000;

/// What notices that the clock of the host has jumped. It costs nothing until then.
pub struct HostClock(Option<AsyncFd<OwnedFd>>);

impl HostClock {
    /// Looks at the clock from now on. If the host cannot tell, the log says so.
    pub fn watch() -> HostClock {
        let timer = timer().inspect_err(|error| {
            tracing::warn!("cannot notice that the host's clock is set: {error}");
        });
        HostClock(timer.ok())
    }

    /// Waits until it has jumped. Cancel safe.
    pub async fn jumped(&self) {
        let Some(timer) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            let Ok(mut ready) = timer.readable().await else {
                return std::future::pending().await;
            };
            match rustix::io::read(timer, &mut [0; 8]) {
                Err(rustix::io::Errno::CANCELED) => return,
                _ => ready.clear_ready(),
            }
        }
    }
}

/// A timer that ends when the clock is set, see timerfd_create(2).
fn timer() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    let none = Timespec::default();
    let once = Itimerspec {
        it_interval: none,
        it_value: Timespec {
            tv_sec: NEVER,
            ..none
        },
    };
    timerfd_settime(&timer, flags, &once)?;
    sys::readable(timer)
}

/// Has the helper set the guest's clock, if there is one.
pub async fn set_guests(helper: Rc<Helper>) {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
        return;
    };
    if let Ok(now) = i64::try_from(now.as_nanos())
        && let Err(why) = helper.tell(&ToGuest::SetClock(now), BOOT).await
    {
        tracing::debug!("the guest's clock was not set: {why}");
    }
}
