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

/// Gives memory that is not used any more back to the host: what was freed (malloc_trim(3)), in the main thread what of
/// the stack is below the caller's frame, and the code of the program, of which only what is executed from now on comes
/// back. For the end of a phase that needed much of them. It takes some microseconds. The stack stays where there is no
/// `/proc`, as in a jail.
pub fn release_free_memory() {
    // SAFETY: it takes a number, and touches only what is free, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
    if let Ok(maps) = std::fs::read_to_string("/proc/self/maps") {
        release_stack(&maps);
    }
    release_code();
}

/// Pages of a stack that were touched once stay, however deep a call it was for.
#[inline(never)]
fn release_stack(maps: &str) {
    let local = 0_u8;
    let here = std::hint::black_box(&raw const local) as usize;
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let Some((start, end)) = stack.and_then(addresses) else {
        return;
    };
    let page = page_size();
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

unsafe extern "C" {
    /// Where the linker says that the program begins, and where its code ends (end(3)).
    static __executable_start: u8;
    static etext: u8;
}

/// The host's kernel maps code in pieces of 64 KB around what is executed, so after its start a process has nearly all
/// of its program.
fn release_code() {
    let start = (&raw const __executable_start) as usize;
    let end = (&raw const etext) as usize & !(page_size() - 1);
    // SAFETY: from its headers to the end of its code, nothing of a program is writable, so these pages are those of
    // the file, which is mapped privately; what is executed or read there next is read from it. A failure changes
    // nothing.
    unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DONTNEED) };
}

/// Bytes of a page. From the C library: rustix needs `/proc` for it on kernels before 6.4.
fn page_size() -> usize {
    // SAFETY: the call takes a number and returns one.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// The addresses at the beginning of a line of `/proc/self/maps`.
fn addresses(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?))
}
