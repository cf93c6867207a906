//! Boots the guest, and reads its output (umladmin).

use std::time::Duration;

use rpc_xdr::umlmonctrl::{VmEnd, VmLastEnd};

use super::guest::MARK;
use super::talk::Talk;
use super::trial::Found;

/// How long the guest may take to boot.
pub(super) const BOOT: Duration = Duration::from_mins(1);

/// Boots the guest; returns the output of con0 until it is up.
pub(super) fn boot(talk: &mut Talk, extra: &[&str]) -> Found {
    let from = talk.open("con0", 24, 80)?;
    talk.start(extra)?;
    let done = format!("{MARK}done=");
    let con0 = talk.read("con0", from, BOOT, |text| text.contains(&done))?;
    if con0.contains(&done) {
        return Ok(con0);
    }
    let end = talk.end(0)?.map(|end| describe(&end));
    let why = end.unwrap_or_else(|| format!("the guest has not booted after {} s", BOOT.as_secs()));
    Err(why)
}

/// How a run ended, in words.
pub(super) fn describe(end: &VmLastEnd) -> String {
    let how = match end.how {
        VmEnd::Panicked => "it panicked",
        VmEnd::Crashed => "it crashed",
        VmEnd::Halted => "it halted",
        _ => "it ended",
    };
    match end.text.as_str() {
        "" => how.to_owned(),
        text => format!("{how}: {text}"),
    }
}

/// The value that the guest has printed under a name.
pub(super) fn value(con0: &str, name: &str) -> Found {
    let begin = format!("{MARK}{name}=");
    let said = con0
        .split_once(&begin)
        .and_then(|(_, rest)| rest.lines().next());
    let said = said.map(|text| text.trim().to_owned());
    said.ok_or_else(|| "the guest does not report it".into())
}
