//! Whom the host ends when it has no memory left (proc_pid_oom_score_adj(5)): the monitor that asks for it last, and what
//! it starts as if it had not asked.

use std::ffi::CStr;
use std::fs;
use std::sync::OnceLock;

/// The file of the calling process.
pub(crate) const FILE: &CStr = c"/proc/self/oom_score_adj";
const PATH: &str = "/proc/self/oom_score_adj";

/// After nearly everything else. Not -1000, with which a process is never ended: this one may itself be what takes all.
const SPARED: i32 = -900;

/// The value for what is started here, as it is written to the file.
static ORDINARY: OnceLock<String> = OnceLock::new();

/// Has the calling process spared, and not what it starts with the functions of this crate: that has the value of before,
/// if it was not below zero.
///
/// Whoever may not do that goes on without.
pub fn spare_when_memory_is_short() {
    let Some(before) = fs::read_to_string(PATH)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
    else {
        return;
    };
    if fs::write(PATH, before.min(SPARED).to_string()).is_ok() {
        // The first time counts: later, it is no ordinary value that is found.
        let _ = ORDINARY.set(before.max(0).to_string());
    }
}

/// What a new process is to write to its file; None: nothing.
pub(crate) fn ordinary() -> Option<&'static str> {
    ORDINARY.get().map(String::as_str)
}
