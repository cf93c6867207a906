//! Whom the host ends when it has no memory left (proc_pid_oom_score_adj(5)): the monitor that asks for it last, and what
//! it starts as if it had not asked. Runs in umlmon.

use std::fs;

const PATH: &str = "/proc/self/oom_score_adj";

/// After nearly everything else. Not -1000, with which a process is never ended: this one may itself be what takes all.
const SPARED: i32 = -900;

/// Has the calling process spared, and not what it starts with the functions of `sys`: that has the value of before, if
/// it was not below zero.
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
        sys::spawn_with_oom_score(before.max(0));
    }
}
