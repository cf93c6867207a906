//! The words for what a monitor reports: one for each state and each way to end, the same in the output for people, in
//! JSON and in events. Runs in the clients.

use cli::printable;
use rpc_xdr::umlmonctrl::{
    ConfigOrigin, DiskDurable, EventKind, ShareOwner, VmEnd, VmLastEnd, VmState,
};

/// The state as the manual calls it.
pub fn state(state: VmState) -> &'static str {
    match state {
        VmState::Inactive => "inactive",
        VmState::Starting => "starting",
        VmState::Running => "running",
        VmState::Suspended => "suspended",
        VmState::Stopping => "stopping",
    }
}

/// The state of a VM that has outlived its monitor, as programs read it.
pub const NO_MONITOR: &str = "no-monitor";

/// How a kernel ended, as programs read it. People read a blank instead of the hyphen ([`for_people`]).
pub fn end(end: VmEnd) -> &'static str {
    match end {
        VmEnd::None => "none",
        VmEnd::Halted => "halted",
        VmEnd::Rebooted => "rebooted",
        VmEnd::Killed => "killed",
        VmEnd::Crashed => "crashed",
        VmEnd::Panicked => "panicked",
        VmEnd::NotStarted => "not-started",
    }
}

/// When what is written to a disk is on the host's disk, in a word.
pub fn durable(durable: DiskDurable) -> &'static str {
    match durable {
        DiskDurable::Unknown => "unknown",
        DiskDurable::Write => "write",
        DiskDurable::Flush => "flush",
        DiskDurable::Never => "never",
    }
}

/// As whom a VM acts in a directory of the host, in a word.
pub fn owner(owner: ShareOwner) -> &'static str {
    match owner {
        ShareOwner::Unknown => "unknown",
        ShareOwner::Same => "same",
        ShareOwner::Mapped => "mapped",
        ShareOwner::Unmapped => "unmapped",
    }
}

/// Where a value comes from, in a word.
pub fn origin(origin: ConfigOrigin) -> &'static str {
    match origin {
        ConfigOrigin::Default => "default",
        ConfigOrigin::Main => "main",
        ConfigOrigin::User => "user",
        ConfigOrigin::Template => "template",
    }
}

/// How it ended and, if there is a detail, why: `crashed: signal 11`.
pub fn how_ended(end: &VmLastEnd) -> String {
    let how = for_people(self::end(end.how));
    match end.text.as_str() {
        _ if end.how == VmEnd::None => "not started yet".to_owned(),
        "" if end.exit_signal != 0 => format!("{how}: signal {}", end.exit_signal),
        "" if end.exit_status > 0 => format!("{how}: exit status {}", end.exit_status),
        "" => how,
        text => format!("{how}: {}", printable(text.as_bytes())),
    }
}

/// The kind of an event.
pub fn event(kind: EventKind) -> &'static str {
    match kind {
        EventKind::State => "state",
        EventKind::End => "end",
        EventKind::Ready => "ready",
        EventKind::Guest => "guest",
        EventKind::Panic => "panic",
        EventKind::Hang => "hang",
        EventKind::Request => "request",
        EventKind::Refused => "refused",
        EventKind::Attached => "attached",
        EventKind::Detached => "detached",
        EventKind::Disk => "disk",
        EventKind::Shutdown => "shutdown",
        EventKind::Adopted => "adopted",
    }
}

/// A word of this list as people read it.
pub fn for_people(word: &str) -> String {
    word.replace('-', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_end(how: VmEnd, exit_signal: i32, exit_status: i32, text: &str) -> VmLastEnd {
        VmLastEnd {
            how,
            exit_status,
            exit_signal,
            time: 0,
            text: text.into(),
        }
    }

    #[test]
    fn an_end_says_why() {
        for (end, text) in [
            (last_end(VmEnd::None, 0, 0, ""), "not started yet"),
            (last_end(VmEnd::Halted, 0, 0, ""), "halted"),
            (last_end(VmEnd::Crashed, 11, 0, ""), "crashed: signal 11"),
            (last_end(VmEnd::Crashed, 0, 3, ""), "crashed: exit status 3"),
            (
                last_end(VmEnd::NotStarted, 0, 0, "no\x1b kernel"),
                "not started: no\\x1b kernel",
            ),
        ] {
            assert_eq!(how_ended(&end), text);
        }
        assert_eq!(end(VmEnd::NotStarted), "not-started");
    }
}
