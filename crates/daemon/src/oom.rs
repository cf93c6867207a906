//! Which process the host ends when it has no memory left (proc_pid_oom_score_adj(5)): a monitor that calls this is
//! among the last, and the processes it starts are not protected. Runs in umlmon.

use std::fs;

const PATH: &str = "/proc/self/oom_score_adj";

/// After nearly everything else. Not -1000, with which a process is never ended: this one may itself be the cause.
const SPARED: i32 = -900;

/// Protects the calling process, but not those it starts with the functions of `sys`: these get the value of before, if
/// it was not below zero.
///
/// A process that may not do that continues without.
pub fn spare_when_memory_is_short() {
    let Some(before) = fs::read_to_string(PATH)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
    else {
        return;
    };
    if fs::write(PATH, before.min(SPARED).to_string()).is_ok() {
        sys::spawn_with_oom_score(before.max(0));
    }
}
