//! Properties of the calling process that have no safe function elsewhere. Used by the monitor's second process.
#![allow(unsafe_code)]

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

/// Removes every capability from the bounding set (`PR_CAPBSET_DROP`, capabilities(7)), also those that are younger
/// than this program: the loop ends where the running kernel knows no further one.
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

/// Gives memory that is not used any more back to the host: what was freed (malloc_trim(3)), and in the main thread
/// what of the stack is below the caller's frame. For the end of a phase that needed much of either. It takes some
/// microseconds.
pub fn release_free_memory() {
    // SAFETY: it takes a number, and touches only what is free, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
    release_stack();
}

/// Pages of a stack that were touched once stay, however deep a call it was for.
#[inline(never)]
fn release_stack() {
    let local = 0_u8;
    let here = std::hint::black_box(&raw const local) as usize;
    let Some((start, end)) = main_stack() else {
        return;
    };
    let page = rustix::param::page_size();
    // A page is more than this function takes below its variable, with what it calls from here on, and the 128 bytes
    // below the stack pointer that belong to it (System V ABI, AMD64).
    let unused_end = here.saturating_sub(page) & !(page - 1);
    if !(start..end).contains(&here) || unused_end <= start {
        return;
    }
    // SAFETY: the range lies in the mapping of this thread's stack, and below everything that is on it: nobody reads
    // there what was written before, and whoever goes there next finds zeros. A failure changes nothing.
    unsafe { libc::madvise(start as *mut _, unused_end - start, libc::MADV_DONTNEED) };
}

/// The addresses of the main thread's stack, as the kernel has them in `/proc/self/maps`.
fn main_stack() -> Option<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[stack]"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?))
}
