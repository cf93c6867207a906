//! The system calls a confined process may make: seccomp(2) with an allowlist. Applied by the monitor's second process,
//! inherited by the kernel and by every process of its guest.
//!
//! The list is what kernels 6.1 to 7.2 were seen to use, plus close relatives of these; a process that works on disks may
//! handle files in some more ways, and make no sockets and no processes. The sockets of a kernel are Unix domain only.
//! Everything else fails with EPERM instead of killing, because a kernel probes for features. A call of another
//! architecture kills. Guest programs do not suffer: their system calls never reach the host.

use std::collections::BTreeMap;
use std::io;

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::Calls;

/// Allowed with any argument, most frequent first does not matter: the running kernel caches the verdicts.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Seen.
    libc::SYS_access, libc::SYS_arch_prctl, libc::SYS_bind, libc::SYS_brk, libc::SYS_chdir, libc::SYS_clone,
    libc::SYS_clone3, libc::SYS_close, libc::SYS_close_range, libc::SYS_dup2, libc::SYS_epoll_create,
    libc::SYS_epoll_ctl, libc::SYS_epoll_wait, libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_fallocate, libc::SYS_fcntl, libc::SYS_fstat, libc::SYS_fsync, libc::SYS_futex,
    libc::SYS_getcwd, libc::SYS_getdents64, libc::SYS_getpgrp, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_getrandom, libc::SYS_gettid, libc::SYS_ioctl, libc::SYS_kill, libc::SYS_lseek, libc::SYS_madvise,
    libc::SYS_memfd_create, libc::SYS_mkdir, libc::SYS_mmap, libc::SYS_modify_ldt, libc::SYS_mprotect,
    libc::SYS_munmap, libc::SYS_newfstatat, libc::SYS_openat, libc::SYS_personality, libc::SYS_poll, libc::SYS_prctl,
    libc::SYS_pread64, libc::SYS_prlimit64, libc::SYS_ptrace, libc::SYS_pwrite64, libc::SYS_read, libc::SYS_readv,
    libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_rmdir, libc::SYS_rseq, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigsuspend, libc::SYS_seccomp, libc::SYS_sendmsg,
    libc::SYS_sendto, libc::SYS_set_robust_list, libc::SYS_set_tid_address, libc::SYS_setsid, libc::SYS_sigaltstack,
    libc::SYS_signalfd4, libc::SYS_socketpair, libc::SYS_statfs, libc::SYS_tgkill, libc::SYS_timer_create,
    libc::SYS_timer_gettime, libc::SYS_timer_settime, libc::SYS_uname, libc::SYS_unlink, libc::SYS_wait4,
    libc::SYS_write, libc::SYS_writev,
    // Not seen, but what another libc or compiler would use for the same purpose.
    libc::SYS_clock_getres, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_dup, libc::SYS_dup3,
    libc::SYS_epoll_create1, libc::SYS_epoll_pwait, libc::SYS_eventfd2, libc::SYS_fdatasync, libc::SYS_ftruncate,
    libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getrlimit, libc::SYS_getsockopt,
    libc::SYS_getuid, libc::SYS_lstat, libc::SYS_mremap, libc::SYS_nanosleep, libc::SYS_open, libc::SYS_pipe2,
    libc::SYS_ppoll, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_readlink,
    libc::SYS_recvmmsg, libc::SYS_rename, libc::SYS_restart_syscall, libc::SYS_sched_yield, libc::SYS_sendmmsg,
    libc::SYS_setrlimit, libc::SYS_setsockopt, libc::SYS_stat, libc::SYS_tkill, libc::SYS_waitid,
];

/// What a kernel never does, and work on disks needs.
#[rustfmt::skip]
const WITH_FILES: &[c_long] = &[
    libc::SYS_copy_file_range, libc::SYS_fstatfs, libc::SYS_linkat, libc::SYS_renameat2, libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// What of a kernel's calls is of no use for work on disks.
#[rustfmt::skip]
const WITH_PROCESSES: &[c_long] = &[
    libc::SYS_bind, libc::SYS_clone, libc::SYS_clone3, libc::SYS_execve, libc::SYS_execveat, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_ptrace, libc::SYS_socketpair,
];

/// Restricts the calling process and all it starts, for good. Sets `no_new_privs` too.
pub(crate) fn restrict(calls: Calls) -> io::Result<()> {
    let program = compile(calls).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn compile(calls: Calls) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    match calls {
        Calls::Kernel => {
            let unix = SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                libc::AF_UNIX as u64,
            )?;
            rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![unix])?]);
        }
        Calls::Disks => {
            rules.retain(|call, _| !WITH_PROCESSES.contains(call));
            rules.extend(WITH_FILES.iter().map(|&call| (call, Vec::new())));
        }
    }
    #[allow(clippy::cast_sign_loss)] // errno constants are positive
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles_and_leaves_out_what_reaches_the_host() {
        for calls in [Calls::Kernel, Calls::Disks] {
            assert!(compile(calls).unwrap().len() < 1024);
        }
        for forbidden in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_chroot,
            libc::SYS_bpf,
        ] {
            assert!(!ALLOWED.contains(&forbidden));
        }
        assert!(!ALLOWED.contains(&libc::SYS_socket));
    }
}
