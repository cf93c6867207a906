//! The state that a program inherits from its caller across execve(2), and resets before anything else. Runs at the
//! start of all programs, while they have one thread: signals in all of them, the rest in the daemons.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::{env, fs, mem, ptr};

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

/// From now on a write beyond the limit of file sizes fails, and does not end the process (SIGXFSZ).
pub fn ignore_file_size_signal() {
    // SAFETY: it ignores a signal, so no code is named that could run.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Closes all descriptors above the standard ones. To be called before the process opens anything that it keeps.
pub fn close_inherited() {
    const FIRST: RawFd = 3;
    // SAFETY: nothing in this process owns a descriptor yet, as its `main` has just begun.
    if unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, 0) } == 0 {
        return;
    }
    // Linux before 5.9, or a filter of system calls.
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = numbers.filter(|number| *number >= FIRST).collect();
    for number in numbers {
        // SAFETY: as above. That of the list itself is closed already, and no other thread has got its number.
        unsafe { libc::close(number) };
    }
}

/// Removes all variables from the environment but these. To be called while the process has one thread.
pub fn keep_environment(names: &[&str]) {
    let kept: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name, env::var_os(name)?)))
        .collect();
    // SAFETY: the process has one thread, as its `main` has just begun, so nobody reads the environment meanwhile.
    unsafe {
        libc::clearenv();
        for (name, value) in kept {
            env::set_var(name, value);
        }
    }
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
