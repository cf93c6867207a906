//! One stream: a client's words about one command (umlguest).

use std::fs;
use std::process::Child;

use guest_line::{MAX_COMMAND, Nonsense, ToGuest, ToHost, decode};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::container;
use crate::init;
use crate::kept::Kept;
use crate::process::Process;

/// A stream, from its first piece to its end.
pub(crate) enum Stream {
    /// The command is being told.
    Told(Vec<u8>),
    /// It runs.
    Runs(Box<Process>),
    /// The last message was said. A process that is left is to be waited for.
    Over(Option<Child>),
}

/// Why a stream ends: the client is told this.
type Refusal = String;

impl Stream {
    pub(crate) fn new() -> Stream {
        Stream::Told(Vec::new())
    }

    /// The client has gone. A process that it leaves is to be waited for.
    pub(crate) fn hang_up(self) -> Option<Child> {
        match self {
            Stream::Runs(process) => Some(process.hang_up()),
            Stream::Told(_) => None,
            Stream::Over(child) => child,
        }
    }

    /// Does what the client says; returns what is to be answered. It may go on with a command that is `kept`.
    pub(crate) fn hear(&mut self, piece: &[u8], kept: &mut Kept) -> Vec<ToHost> {
        let answered = decode(piece)
            .map_err(|error| error.to_string())
            .and_then(|message| match (message, &*self) {
                (ToGuest::Resume { key, heard, taken }, Stream::Told(_)) => {
                    let process = kept.take(&key).ok_or("the command is not there any more")?;
                    self.resume(process, heard, taken)
                }
                (message, _) => self.act(message),
            });
        match answered {
            Ok(messages) => messages,
            Err(why) => {
                let refused = std::mem::replace(self, Stream::Over(None));
                *self = Stream::Over(refused.hang_up());
                vec![ToHost::Refused(why)]
            }
        }
    }

    fn act(&mut self, message: ToGuest) -> Result<Vec<ToHost>, Refusal> {
        match (message, &mut *self) {
            (ToGuest::Part(part), Stream::Told(told)) => {
                told.extend(part);
                if told.len() > MAX_COMMAND {
                    return Err("the command is too long".into());
                }
            }
            (ToGuest::Run, Stream::Told(told)) => {
                let command = decode(told).map_err(|error: Nonsense| error.to_string())?;
                let begun = Process::begin(&command).map_err(|error| format!("{error:#}"))?;
                *self = Stream::Runs(Box::new(begun));
                return Ok(self.proceed());
            }
            (ToGuest::Input(bytes), Stream::Runs(process)) => {
                if !process.take(bytes) {
                    return Err("more input than was asked for".into());
                }
                return Ok(self.proceed());
            }
            (ToGuest::EndOfInput, Stream::Runs(process)) => {
                process.end_input();
                return Ok(self.proceed());
            }
            (ToGuest::Taken(taken), Stream::Runs(process)) => {
                process.taken(taken).map_err(|error| error.to_string())?;
                return Ok(self.proceed());
            }
            (ToGuest::Signal(number), Stream::Runs(process)) => process.pass_signal(number),
            (ToGuest::Resize(size), Stream::Runs(process)) => process.resize(size),
            (ToGuest::SetClock(nanoseconds), Stream::Told(_)) => {
                set_clock(nanoseconds).map_err(|error| format!("cannot set the clock: {error}"))?;
                *self = Stream::Over(None);
                return Ok(vec![ToHost::Done]);
            }
            (ToGuest::DropCaches, Stream::Told(_)) => {
                fs::write("/proc/sys/vm/drop_caches", "3")
                    .map_err(|error| format!("cannot drop the caches: {error}"))?;
                *self = Stream::Over(None);
                return Ok(vec![ToHost::Done]);
            }
            (ToGuest::Container(id, action), Stream::Told(_)) => {
                let answer = container::act(&id, action).map_err(|error| format!("{error:#}"))?;
                *self = Stream::Over(None);
                return Ok(vec![answer]);
            }
            (ToGuest::PowerOff, Stream::Told(_)) => {
                let child = init::end_guest();
                let child = child.map_err(|error| format!("cannot execute poweroff: {error}"))?;
                *self = Stream::Over(child);
                return Ok(vec![ToHost::Done]);
            }
            // What comes after the end was under way before the client knew of it.
            (_, Stream::Over(_)) => {}
            _ => return Err(Nonsense.to_string()),
        }
        Ok(Vec::new())
    }

    /// Goes on with a command that began on another line.
    fn resume(
        &mut self,
        mut process: Box<Process>,
        heard: u64,
        taken: u64,
    ) -> Result<Vec<ToHost>, Refusal> {
        let resumed = process.resume(heard, taken);
        // If it is nonsense, the command is given up.
        *self = Stream::Runs(process);
        let mut messages = vec![resumed.map_err(|error| error.to_string())?];
        messages.extend(self.proceed());
        Ok(messages)
    }

    /// Goes on with a command that runs; see [`Process::proceed`].
    pub(crate) fn proceed(&mut self) -> Vec<ToHost> {
        let Stream::Runs(process) = self else {
            return Vec::new();
        };
        let messages = process.proceed();
        if let Some(ToHost::Refused(_)) = messages.last() {
            let over = std::mem::replace(self, Stream::Over(None));
            *self = Stream::Over(over.hang_up());
        }
        messages
    }
}

fn set_clock(nanoseconds: i64) -> rustix::io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    clock_settime(
        ClockId::Realtime,
        Timespec {
            tv_sec: nanoseconds.div_euclid(SECOND),
            tv_nsec: nanoseconds.rem_euclid(SECOND),
        },
    )
}
