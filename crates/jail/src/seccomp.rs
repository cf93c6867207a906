//! The system calls a confined process may make: seccomp(2) with an allowlist. Applied by the monitor's second process,
//! inherited by the kernel and by every process of its guest.
//!
//! The list is what kernels 6.1 to 7.2 were seen to use, plus close relatives of these; a process that works on disks
//! may handle files in some more ways, and can make no sockets and no processes. A kernel can only make Unix Domain
//! sockets. Of calls that combine many operations (ioctl, fcntl, clone, prlimit64), only the listed arguments are
//! allowed. Every other call fails with EPERM and does not kill, because a kernel probes for features. A call of
//! another architecture kills. Guest programs are not affected: their system calls never reach the host.

use std::collections::BTreeMap;
use std::io;

use nix::libc::{self, c_int, c_long};
use seccompiler::sock_filter;
use serde::{Deserialize, Serialize};

use crate::filter::{Verdict, program};

/// What a confined process is for, and so which system calls it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Calls {
    /// To keep a User Mode Linux kernel.
    Kernel {
        /// Whether directories of the host are shared with its guest, by hostfs.
        shares: bool,
    },
    /// To work on files of disks.
    Disks,
}

/// Allowed with any argument.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Observed.
    libc::SYS_access, libc::SYS_arch_prctl, libc::SYS_bind, libc::SYS_brk, libc::SYS_chdir,
    libc::SYS_close, libc::SYS_close_range, libc::SYS_dup2, libc::SYS_epoll_create,
    libc::SYS_epoll_ctl, libc::SYS_epoll_wait, libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_fallocate, libc::SYS_fstat, libc::SYS_fsync, libc::SYS_futex,
    libc::SYS_getcwd, libc::SYS_getdents64, libc::SYS_getpgrp, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_getrandom, libc::SYS_gettid, libc::SYS_kill, libc::SYS_lseek, libc::SYS_madvise,
    libc::SYS_memfd_create, libc::SYS_mkdir, libc::SYS_mmap, libc::SYS_modify_ldt, libc::SYS_mprotect,
    libc::SYS_munmap, libc::SYS_newfstatat, libc::SYS_openat, libc::SYS_personality, libc::SYS_poll, libc::SYS_prctl,
    libc::SYS_pread64, libc::SYS_ptrace, libc::SYS_pwrite64, libc::SYS_read, libc::SYS_readv,
    libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_rmdir, libc::SYS_rseq, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigsuspend, libc::SYS_seccomp, libc::SYS_sendmsg,
    libc::SYS_sendto, libc::SYS_set_robust_list, libc::SYS_set_tid_address, libc::SYS_setsid, libc::SYS_sigaltstack,
    libc::SYS_signalfd4, libc::SYS_socketpair, libc::SYS_statfs, libc::SYS_tgkill, libc::SYS_timer_create,
    libc::SYS_timer_gettime, libc::SYS_timer_settime, libc::SYS_uname, libc::SYS_unlink, libc::SYS_wait4,
    libc::SYS_write, libc::SYS_writev,
    // A kernel with several processors: it starts their threads, counts processors of the host, and interrupts threads.
    libc::SYS_rt_tgsigqueueinfo, libc::SYS_sched_getaffinity, libc::SYS_vfork,
    // Not observed, but what another libc or compiler would use for the same purpose.
    libc::SYS_clock_getres, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_dup, libc::SYS_dup3,
    libc::SYS_epoll_create1, libc::SYS_epoll_pwait, libc::SYS_eventfd2, libc::SYS_fdatasync, libc::SYS_ftruncate,
    libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getrlimit, libc::SYS_getsockopt,
    libc::SYS_getuid, libc::SYS_lstat, libc::SYS_mremap, libc::SYS_nanosleep, libc::SYS_open, libc::SYS_pipe2,
    libc::SYS_ppoll, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_readlink,
    libc::SYS_recvmmsg, libc::SYS_rename, libc::SYS_restart_syscall, libc::SYS_sched_yield, libc::SYS_sendmmsg,
    libc::SYS_setrlimit, libc::SYS_setsockopt, libc::SYS_stat, libc::SYS_tkill, libc::SYS_waitid,
];

/// What ioctl(2) may do with a descriptor. Not allowed are, among others, changes of a tap's interface (its address,
/// its owner, how long it exists), line disciplines, attributes of file systems, and typing into a terminal.
#[rustfmt::skip]
const IOCTLS: &[libc::Ioctl] = &[
    // Consoles: modes, size, the controlling terminal and its foreground. The last four are what newer C libraries use
    // for the first ones.
    libc::TCGETS, libc::TCSETS, libc::TCSETSW, libc::TCSETSF, libc::TIOCGWINSZ, libc::TIOCSCTTY,
    libc::TIOCGPGRP, libc::TIOCSPGRP,
    libc::TCGETS2, libc::TCSETS2, libc::TCSETSW2, libc::TCSETSF2,
    // Any descriptor: non-blocking mode, close-on-exec, bytes that can be read.
    libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX, libc::FIONREAD,
    // The size of a block device, as a disk.
    BLKGETSIZE, BLKGETSIZE64,
    // A tap: attach to one that the user owns, and how packets are handed over.
    libc::TUNSETIFF, libc::TUNGETIFF, libc::TUNGETFEATURES, libc::TUNSETOFFLOAD, libc::TUNSETVNETHDRSZ,
];

/// Sharing blocks of a file that is copied, for work on disks.
const FICLONE: libc::Ioctl = libc::FICLONE;

/// `_IO(0x12, 96)` and `_IOR(0x12, 114, size_t)` of linux/fs.h.
const BLKGETSIZE: libc::Ioctl = 0x1260;
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;

/// What fcntl(2) may do. Not allowed are leases, with which a process delays others that open its file, and
/// notifications.
#[rustfmt::skip]
const FCNTLS: &[c_int] = &[
    libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL,
    libc::F_GETLK, libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_GETLK, libc::F_OFD_SETLK, libc::F_OFD_SETLKW,
    // Signals when a console can be read.
    libc::F_GETOWN, libc::F_SETOWN, F_GETOWN_EX, F_SETOWN_EX, F_GETSIG, F_SETSIG,
    // Memory files.
    libc::F_ADD_SEALS, libc::F_GET_SEALS,
];

/// Of fcntl.h, not in the `libc` crate.
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;
const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;

/// The flags of clone(2) that make namespaces: all of them.
const NEW_NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Calls that a kernel never makes, and work on disks needs.
#[rustfmt::skip]
const WITH_FILES: &[c_long] = &[
    libc::SYS_copy_file_range, libc::SYS_fstatfs, libc::SYS_linkat, libc::SYS_readlinkat, libc::SYS_renameat2,
    libc::SYS_unlinkat, libc::SYS_utimensat,
];

/// Calls of a kernel that work on disks does not need.
#[rustfmt::skip]
const WITH_PROCESSES: &[c_long] = &[
    libc::SYS_bind, libc::SYS_clone, libc::SYS_execve, libc::SYS_execveat, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_ptrace, libc::SYS_rt_tgsigqueueinfo, libc::SYS_socketpair, libc::SYS_vfork,
];

/// Calls of hostfs. Not allowed are, among others, those that make nodes or set extended attributes.
#[rustfmt::skip]
const WITH_SHARES: &[c_long] = &[
    libc::SYS_chown, libc::SYS_fchown, libc::SYS_lchown, libc::SYS_link, libc::SYS_statx, libc::SYS_symlink,
    libc::SYS_truncate, libc::SYS_utimensat, libc::SYS_utimes,
];

/// Calls of hostfs of which an argument counts, and the bits that it must not have. In a shared directory the guest may
/// act as another user of the host, even as root: it must not give others programs that run as this user, nor devices.
const WITH_SHARES_WITHOUT: &[(c_long, u32, u32)] = &[
    (libc::SYS_chmod, 1, SET_ID),
    (libc::SYS_fchmod, 1, SET_ID),
    (libc::SYS_open, 2, SET_ID),
    (libc::SYS_openat, 3, SET_ID),
    (libc::SYS_renameat2, 4, libc::RENAME_WHITEOUT),
];

/// The bits of modes for set-user-ID and set-group-ID programs.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// Restricts the calling process and all it starts, permanently. Sets `no_new_privs` too.
pub(crate) fn restrict(calls: Calls) -> io::Result<()> {
    seccompiler::apply_filter(&filter(calls)?).map_err(io::Error::other)
}

fn filter(calls: Calls) -> io::Result<Vec<sock_filter>> {
    program(&verdicts(calls), libc::EPERM)
}

#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // constants, as the kernel compares them: 32 bits
fn verdicts(calls: Calls) -> BTreeMap<c_long, Verdict> {
    let mut verdicts: BTreeMap<_, _> = ALLOWED.iter().map(|&call| (call, Verdict::Allow)).collect();
    // It has its flags in memory, which a filter cannot read. With this error a C library uses clone(2) instead.
    verdicts.insert(libc::SYS_clone3, Verdict::Fail(libc::ENOSYS));
    let mut ioctls: Vec<u32> = IOCTLS.iter().map(|&request| request as u32).collect();
    match calls {
        Calls::Kernel { shares } => {
            let namespaces = Verdict::Without(0, NEW_NAMESPACES as u32);
            verdicts.insert(libc::SYS_socket, Verdict::If(0, vec![libc::AF_UNIX as u32]));
            verdicts.insert(libc::SYS_clone, namespaces);
            if shares {
                verdicts.extend(WITH_SHARES.iter().map(|&call| (call, Verdict::Allow)));
                let without = WITH_SHARES_WITHOUT.iter();
                verdicts.extend(
                    without.map(|&(call, argument, bits)| (call, Verdict::Without(argument, bits))),
                );
            }
        }
        Calls::Disks => {
            verdicts.retain(|call, verdict| {
                *verdict != Verdict::Allow || !WITH_PROCESSES.contains(call)
            });
            verdicts.extend(WITH_FILES.iter().map(|&call| (call, Verdict::Allow)));
            ioctls.push(FICLONE as u32);
        }
    }
    verdicts.insert(libc::SYS_ioctl, Verdict::If(1, ioctls));
    let commands = FCNTLS.iter().map(|&command| command as u32);
    verdicts.insert(libc::SYS_fcntl, Verdict::If(1, commands.collect()));
    // For the process itself only.
    verdicts.insert(libc::SYS_prlimit64, Verdict::If(0, vec![0]));
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::run;

    fn kernel(shares: bool) -> Calls {
        Calls::Kernel { shares }
    }

    #[test]
    fn no_guest_makes_programs_that_run_as_another_user() {
        let filter = filter(kernel(true)).unwrap();
        for (call, mode) in [
            (libc::SYS_chmod, 0o4755),
            (libc::SYS_openat, 0o2755),
            (libc::SYS_fchmod, 0o6000),
        ] {
            let call = u32::try_from(call).unwrap();
            assert_ne!(run(&filter, call, mode).0, libc::SECCOMP_RET_ALLOW);
            assert_eq!(run(&filter, call, 0o1777).0, libc::SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn compiles_and_leaves_out_what_reaches_the_host() {
        for calls in [kernel(false), kernel(true), Calls::Disks] {
            let (filter, verdicts) = (filter(calls).unwrap(), verdicts(calls));
            for number in 0..1000_u32 {
                let (result, steps) = run(&filter, number, u32::MAX);
                let allowed = verdicts.get(&number.into()) == Some(&Verdict::Allow);
                assert_eq!(result == libc::SECCOMP_RET_ALLOW, allowed, "{number}");
                assert!(steps < 14 || !allowed, "{number} takes {steps}");
            }
        }
        for forbidden in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_chroot,
            libc::SYS_bpf,
            libc::SYS_ioctl,
            libc::SYS_fcntl,
            libc::SYS_clone,
            libc::SYS_prlimit64,
        ] {
            assert!(!ALLOWED.contains(&forbidden));
        }
        assert!(!ALLOWED.contains(&libc::SYS_socket));
    }
}
