//! Properties of the calling process that have no safe function elsewhere. Used by the monitor's second process.

use std::io;

/// Puts the calling process under the round-robin realtime scheduler (`SCHED_RR`, sched(7)) with `priority` 1 to 99.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE`, `EINVAL` for a priority out of range.
pub fn set_realtime_scheduler(priority: i32) -> io::Result<()> {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: 0 means the calling process; `param` outlives the call, which only reads it.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const param) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Removes every capability from the bounding set (`PR_CAPBSET_DROP`, capabilities(7)), also those that are younger than
/// this program: the loop ends where the running kernel knows no further one.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn empty_bounding_set() -> io::Result<()> {
    for capability in 0_u64.. {
        // SAFETY: the call takes numbers only and touches no memory of ours.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0_u64, 0_u64, 0_u64) } == -1 {
            return match io::Error::last_os_error() {
                end if end.raw_os_error() == Some(libc::EINVAL) && capability > 0 => Ok(()),
                refused => Err(refused),
            };
        }
    }
    Ok(())
}

/// Gives memory that was freed back to the host (malloc_trim(3)): for the end of a phase that needed much of it. It takes
/// some microseconds.
pub fn release_free_memory() {
    // SAFETY: it takes a number, and touches only what is free, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
}
