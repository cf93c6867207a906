//! The beginning of a session with a channel: the right to write on it, and the screen that it shows.

use std::time::Duration;

use cli::{Exit, Failure};
use client::{Client, Monitor, broken, refused};
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::{
    ConMode, ConOpenArgs, ConOpenResult, ConOpened, ConResizeArgs, ConScreen, ConScreenArgs,
    CtlCode, CtlError, VmInfo,
};

use crate::info;
use client::terminal;

/// How long the monitor may take to say what the screen shows at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Attaches the connection to the channel.
pub(crate) fn open(
    monitor: &mut Monitor,
    channel: &str,
    mode: ConMode,
) -> Result<ConOpened, Failure> {
    let args = ConOpenArgs {
        channel: channel.to_owned(),
        mode,
        who: terminal::name(),
    };
    match monitor.con_open(&args).map_err(broken)? {
        ConOpenResult::Ok(opened) => Ok(opened),
        ConOpenResult::Error(error) if error.code == CtlCode::Busy => {
            Err(busy(monitor, channel, error))
        }
        ConOpenResult::Error(error) => Err(refused(error)),
    }
}

/// Attaches a new connection to the channel after the one before broke; only to watch it if another client has the
/// right to write by now.
pub(crate) fn reopen(
    monitor: &mut Monitor,
    channel: &str,
    writes: bool,
) -> Result<Result<(ConOpened, VmInfo), CtlError>, ClientError> {
    let mut open = |mode| {
        let args = ConOpenArgs {
            channel: channel.to_owned(),
            mode,
            who: terminal::name(),
        };
        monitor.con_open(&args).map(ConOpenResult::into_result)
    };
    let mut opened = match writes {
        true => open(ConMode::Write)?,
        false => open(ConMode::Watch)?,
    };
    if matches!(&opened, Err(error) if error.code == CtlCode::Busy) {
        opened = open(ConMode::Watch)?;
    }
    let info = monitor.vm_info()?.into_result();
    Ok(opened.and_then(|opened| Ok((opened, info?))))
}

/// Says which user has the right to write on the channel.
fn busy(monitor: &mut Monitor, channel: &str, error: CtlError) -> Failure {
    let info = monitor
        .vm_info()
        .ok()
        .and_then(|result| result.into_result().ok());
    let channels = info.map_or(Vec::new(), |info| info.channels);
    let writer = channels
        .into_iter()
        .find(|c| c.channel == channel)
        .and_then(|c| c.writer);
    let held = writer.map_or(error.text, |writer| {
        format!("it is in use by {}", info::client(&writer))
    });
    Failure::new(
        Exit::Failed,
        format_args!("{held}; use -force-connect to take it over"),
    )
}

/// The screen of a guest that paints it, if our terminal is large enough for it. The guest's latest output alone would
/// not show that.
pub(crate) fn painted(
    monitor: &mut Monitor,
    channel: &str,
    mode: ConMode,
) -> Result<Option<ConScreen>, Failure> {
    let Some((rows, columns)) = terminal::size() else {
        return Ok(None);
    };
    let (rows, columns) = (u32::from(rows), u32::from(columns));
    if mode != ConMode::Watch {
        let size = ConResizeArgs {
            channel: channel.to_owned(),
            rows,
            columns,
        };
        // If the guest cannot be resized, it is shown nevertheless.
        let _ = monitor.con_resize(&size).map_err(broken)?;
    }
    let screen = monitor.con_screen(&drawing_of(channel)).map_err(broken)?;
    let screen = screen.into_result();
    let fits = |screen: &ConScreen| screen.rows <= rows && screen.columns <= columns;
    Ok(screen.ok().filter(|screen| !screen.plain && fits(screen)))
}

fn drawing_of(channel: &str) -> ConScreenArgs {
    ConScreenArgs {
        channel: channel.to_owned(),
        cells: false,
    }
}

/// Whether the guest has painted its screen, so that the cursor may be anywhere on it. Asked on a separate connection,
/// because the other one may be in the middle of a message. A monitor that does not answer must not prevent the end of
/// the session.
pub(crate) fn is_painted(client: &Client, channel: &str) -> bool {
    let screen = client.connect_quietly(PATIENCE).and_then(|mut monitor| {
        let answer = monitor.con_screen(&drawing_of(channel)).ok()?;
        answer.into_result().ok()
    });
    screen.is_some_and(|screen| !screen.plain)
}
