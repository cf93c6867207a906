//! `umladmin top`: what the VMs use now, again and again (umladmin).

mod rates;
mod screen;

use std::io;
use std::path::Path;
use std::time::Duration;

use cli::{Exit, Failure, Line};
use client::json;
use client::signals::{Signals, obey};
use client::terminal::{self, RawTerminal};
use config::Config;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;
use serde_json::Value;

use crate::report::{Report, shows_colours};
use crate::{parallel, seen, selection};
use rates::{Rates, Sample};
use screen::{Order, Screen};

/// How long to wait between two looks, unless the user wants something else.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between the first look, which has no rates, and the second one.
const AT_FIRST: Duration = Duration::from_millis(500);

/// What the options say.
struct Wish {
    interval: Duration,
    /// How many times the rates are shown; None for always.
    count: Option<u32>,
    json: bool,
}

/// Shows the VMs until Ctrl-C, `q`, or as often as wished. The configuration is read each time, as VMs come and go.
pub(crate) fn run(path: &Path, names: &[&str], line: &Line) -> Result<Exit, Failure> {
    let wish = Wish::of(line)?;
    let report = Report::new();
    let mut last = look(path, names)?;
    let signals = Signals::hold()?;
    // A reader of lines may be a program: it gets whole tables.
    let is_live = !wish.json && shows_screens();
    let raw = is_live.then(RawTerminal::enter).transpose()?.flatten();
    let mut shown = Screen::new(Order::Cpu, raw.is_some() && shows_colours());
    let mut left = wish.count;
    let mut pause = AT_FIRST.min(wish.interval);
    while left != Some(0) {
        match wait(&signals, raw.is_some(), pause, &mut shown)? {
            Next::End => break,
            Next::Again if raw.is_some() => report.print(&shown.drawn(terminal::size()))?,
            Next::Again => {}
            Next::Look => {
                let now = look(path, names)?;
                shown.take(Rates::between(&last, &now));
                last = now;
                report.print(&match (wish.json, raw.is_some()) {
                    (true, _) => json::line(&Value::Array(shown.json())),
                    (false, true) => shown.drawn(terminal::size()),
                    (false, false) => shown.table() + "\n",
                })?;
                left = left.map(|left| left.saturating_sub(1));
                pause = wish.interval;
            }
        }
        if report.is_unheard() {
            break;
        }
    }
    Ok(Exit::Done)
}

impl Wish {
    fn of(line: &Line) -> Result<Wish, Failure> {
        let number = |name: &str| -> Result<Option<u32>, Failure> {
            let Some(value) = line.value(name) else {
                return Ok(None);
            };
            let number = value.to_str().and_then(|text| text.parse().ok());
            match number.filter(|number| *number > 0) {
                Some(number) => Ok(Some(number)),
                None => Err(Failure::usage(format_args!(
                    "-{name} {value:?}: not a number from 1"
                ))),
            }
        };
        let interval = number("interval")?;
        Ok(Wish {
            interval: interval.map_or(INTERVAL, |seconds| Duration::from_secs(seconds.into())),
            count: number("count")?,
            json: line.has("json"),
        })
    }
}

/// Whether a picture can be drawn again in its place, and keys can be pressed.
fn shows_screens() -> bool {
    use std::io::IsTerminal as _;
    io::stdout().is_terminal() && io::stdin().is_terminal() && terminal::size().is_some()
}

fn look(path: &Path, names: &[&str]) -> Result<Vec<Sample>, Failure> {
    let config = Config::load(path).map_err(selection::bad_config)?;
    let vms = selection::named_or_all(&config, names)?;
    Ok(parallel::each(&vms, parallel::CALLS, |vm| {
        Sample::now(seen::look(&config, vm))
    }))
}

/// What to do next.
enum Next {
    /// Look at the VMs.
    Look,
    /// Show the same again, in another order or size.
    Again,
    End,
}

/// Waits for the time to look, a key, or a signal.
fn wait(
    signals: &Signals,
    with_keys: bool,
    pause: Duration,
    shown: &mut Screen,
) -> Result<Next, Failure> {
    let timeout = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: pause.subsec_nanos().into(),
    };
    let stdin = stdin();
    let mut fds = [
        PollFd::new(signals, PollFlags::IN),
        PollFd::new(&stdin, PollFlags::IN),
    ];
    let heard = fds
        .get_mut(..1 + usize::from(with_keys))
        .unwrap_or_default();
    match poll(heard, Some(&timeout)) {
        Ok(0) => return Ok(Next::Look),
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(io::Error::from(error).into()),
    }
    match signals.next() {
        None => {}
        Some(Signal::SIGWINCH) => return Ok(Next::Again),
        Some(Signal::SIGINT) => return Ok(Next::End),
        Some(signal) => {
            obey(signal)?;
            return Ok(Next::End);
        }
    }
    if !with_keys {
        return Ok(Next::Again);
    }
    let mut key = [0];
    Ok(match rustix::io::read(stdin, &mut key) {
        Ok(0) => Next::End,
        Ok(_) => pressed(key[0], shown),
        Err(Errno::INTR | Errno::AGAIN) => Next::Again,
        Err(error) => return Err(io::Error::from(error).into()),
    })
}

/// What a key means.
fn pressed(key: u8, shown: &mut Screen) -> Next {
    /// Ctrl-C and Ctrl-D, as a raw terminal gives them.
    const ENDS: [u8; 2] = [3, 4];
    match Order::of_key(key) {
        Some(order) => shown.sort_by(order),
        None if key == b'q' || ENDS.contains(&key) => return Next::End,
        None if key == b' ' => return Next::Look,
        None => {}
    }
    Next::Again
}
