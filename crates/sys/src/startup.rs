//! What a program takes over from its caller across execve(2), and puts right before anything else: the state of signals.
//! Runs at the start of all programs, while they have one thread.
#![allow(unsafe_code)]

use std::{mem, ptr};

/// The last of the kernel's signals (signal(7)).
const LAST: libc::c_int = 64;

/// Gives each signal that the caller had ignored its default action again, and unblocks all of them. Otherwise SIGCHLD
/// ignored would make waiting for a child fail, and SIGTERM ignored or blocked would have no effect.
///
/// Two signals stay ignored: SIGHUP, for nohup(1), and SIGPIPE, which Rust ignores in all programs. Handlers stay.
pub fn reset_signals() {
    for signal in (1..=LAST).filter(|signal| ![libc::SIGHUP, libc::SIGPIPE].contains(signal)) {
        if is_ignored(signal) {
            // SAFETY: it sets the default action, so no code is named that could run.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    // SAFETY: sigemptyset initialises the set before it is read; both pointers are to a local.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Whether this process ignores SIGHUP, as nohup(1) has it.
#[must_use]
pub fn ignores_hangup() -> bool {
    is_ignored(libc::SIGHUP)
}

/// Signals that the C library keeps for itself, and numbers that are none, count as not ignored.
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: sigaction only writes the old action, to a local of its type; all zero is a value of it.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
