//! Starting processes: clone(2) and execve(2), with exactly the given descriptors and nothing else inherited.
//!
//! The monitor starts its second process here, and that one starts the kernel. Everything is prepared before the clone;
//! between clone and exec only async-signal-safe calls are made, so that the state of any library does not matter. A
//! failure before or at the exec comes back through a close-on-exec pipe with the name of the step.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::{io, mem, ptr};

/// The setting that determines which process the host ends when it has no memory left (proc_pid_oom_score_adj(5)): the
/// file of the calling process.
const OOM_SCORE: &CStr = c"/proc/self/oom_score_adj";
/// What new processes write to it.
static OOM_SCORE_OF_CHILDREN: OnceLock<String> = OnceLock::new();

/// A process that was started here.
#[derive(Debug)]
pub struct Child {
    /// Its process ID, as seen by the process that started it.
    pub pid: i32,
    /// Its pidfd (pidfd_open(2)): readable when it has ended. It makes signals and waiting safe against reused IDs.
    pub pidfd: OwnedFd,
}

/// In which network namespace a new process is.
#[derive(Clone, Copy, Debug)]
pub enum Network<'a> {
    /// That of the caller.
    Host,
    /// A new one, in which there is nothing.
    Empty,
    /// This one.
    At(BorrowedFd<'a>),
}

/// A process could not be started.
#[derive(Debug)]
pub struct SpawnError {
    /// The call that failed, as "execve".
    pub step: &'static str,
    /// Why it failed.
    pub source: io::Error,
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The resource that the host lacks if a process fails with this error, as advice; None for other errors.
#[must_use]
pub fn shortage(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::EAGAIN => Some(
            "the host allows no more processes: see pids.max of the control group that this was started in, and \
             pid_max and threads-max in /proc/sys/kernel",
        ),
        libc::ENOMEM => {
            Some("the host has no memory for another process: end something, or add memory or swap")
        }
        _ => None,
    }
}

/// Has every process that is started here from now on write `score` to its `/proc/self/oom_score_adj`. The first call
/// counts: later, it is no ordinary value that a caller finds.
pub fn spawn_with_oom_score(score: i32) {
    let _ = OOM_SCORE_OF_CHILDREN.set(score.to_string());
}

/// Starts the program in a file that is open, or this program again, as first process of new PID, mount, IPC and UTS
/// namespaces, with an empty environment and default signal settings. The file is the same one also after the package
/// was upgraded.
///
/// It is in the `network` given. It has exactly the descriptors of `fds`, each at the number given with it. It gets
/// SIGKILL when the calling thread ends, until it changes its user. The caller should have one thread only.
///
/// # Errors
/// The step that failed; `EPERM` of clone without `CAP_SYS_ADMIN`.
pub fn spawn_namespaced(
    program: Option<BorrowedFd<'_>>,
    argv: &[CString],
    fds: &[(BorrowedFd<'_>, RawFd)],
    network: Network<'_>,
) -> Result<Child, SpawnError> {
    let (new_network, network) = match network {
        Network::Host => (0, None),
        Network::Empty => (libc::CLONE_NEWNET, None),
        Network::At(network) => (0, Some(network.as_raw_fd())),
    };
    let namespaces = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | new_network;
    let how = How {
        namespaces,
        network,
        session: false,
        randomize: true,
    };
    let program = program.map_or(Program::Path(c"/proc/self/exe"), Program::File);
    start(program, argv, &[], fds, how)
}

/// Starts `program` in a session of its own, without address space randomisation (the kernel's memory layout depends on
/// it, and newer ones insist), with exactly the environment and the descriptors given and default signal settings. It
/// gets SIGKILL when the calling thread ends.
///
/// # Errors
/// The step that failed; an `execve` that found no program or loader has `ENOENT`.
pub fn spawn_kernel(
    program: &CStr,
    argv: &[CString],
    env: &[CString],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> Result<Child, SpawnError> {
    let how = How {
        namespaces: 0,
        network: None,
        session: true,
        randomize: false,
    };
    start(Program::Path(program), argv, env, fds, how)
}

/// Starts `program` in a session of its own, with exactly the environment and the descriptors given and default signal
/// settings. It gets SIGKILL when the calling thread ends.
///
/// # Errors
/// The step that failed.
pub fn spawn_session(
    program: &CStr,
    argv: &[CString],
    env: &[CString],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> Result<Child, SpawnError> {
    let how = How {
        namespaces: 0,
        network: None,
        session: true,
        randomize: true,
    };
    start(Program::Path(program), argv, env, fds, how)
}

/// What is executed.
#[derive(Clone, Copy)]
enum Program<'a> {
    Path(&'a CStr),
    /// By execveat(2): no path leads to it in the new process.
    File(BorrowedFd<'a>),
}

/// In what the kinds of processes differ.
#[derive(Clone, Copy)]
struct How {
    /// Flags of clone.
    namespaces: c_int,
    /// A network namespace to enter.
    network: Option<RawFd>,
    /// It leads a session of its own.
    session: bool,
    /// Address space randomisation stays on.
    randomize: bool,
}

/// The steps between clone and exec, by the number that travels through the pipe.
const STEPS: [&str; 6] = [
    "setsid",
    "prctl PDEATHSIG",
    "setns",
    "dup2",
    "sigprocmask",
    "execve",
];

/// Everything the new process needs, made before it exists: it must not allocate.
struct Plan<'a> {
    /// Its path; empty for a file.
    program: &'a CStr,
    /// The file that is open, above all targets.
    file: Option<RawFd>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// (source, target); all sources are above all targets.
    moves: Vec<(RawFd, RawFd)>,
    /// Ranges of descriptors that are not targets, to be closed by the exec.
    gaps: Vec<(u32, u32)>,
    how: How,
    /// What it writes to [`OOM_SCORE`].
    score: Option<&'static str>,
    report: RawFd,
}

fn start(
    program: Program<'_>,
    argv: &[CString],
    env: &[CString],
    fds: &[(BorrowedFd<'_>, RawFd)],
    how: How,
) -> Result<Child, SpawnError> {
    let prepare = |source| SpawnError {
        step: "preparing descriptors",
        source,
    };
    let above = fds
        .iter()
        .map(|&(_, target)| target)
        .max()
        .unwrap_or(2)
        .max(2)
        + 1;
    // Copies above every target, so that no move can hit a source that is still needed.
    let copies: Vec<OwnedFd> = fds
        .iter()
        .map(|(fd, _)| copy_above(fd.as_raw_fd(), above))
        .collect::<io::Result<_>>()
        .map_err(prepare)?;
    let (read_end, low) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| prepare(error.into()))?;
    let write_end = copy_above(low.as_raw_fd(), above).map_err(prepare)?;
    let (path, file) = match program {
        Program::Path(path) => (path, None),
        Program::File(file) => (
            c"",
            Some(copy_above(file.as_raw_fd(), above).map_err(prepare)?),
        ),
    };
    // The end of the pipe is seen only when no copy of the writing end is left.
    drop(low);
    let plan = Plan {
        program: path,
        file: file.as_ref().map(AsRawFd::as_raw_fd),
        argv: pointers(argv),
        envp: pointers(env),
        moves: copies
            .iter()
            .zip(fds)
            .map(|(copy, &(_, target))| (copy.as_raw_fd(), target))
            .collect(),
        gaps: gaps(fds.iter().map(|&(_, target)| target)),
        how,
        score: OOM_SCORE_OF_CHILDREN.get().map(String::as_str),
        report: write_end.as_raw_fd(),
    };
    let child = clone(&plan)?;
    drop(write_end);
    match read_report(&read_end) {
        None => Ok(child),
        Some((step, errno)) => {
            // It has ended or is about to: collect it, so that nothing is left.
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&child.pidfd)),
                rustix::process::WaitIdOptions::EXITED,
            );
            Err(SpawnError {
                step: STEPS.get(step as usize).copied().unwrap_or("start"),
                source: io::Error::from_raw_os_error(errno),
            })
        }
    }
}

/// A close-on-exec copy of `fd` with a number of at least `lowest`.
fn copy_above(fd: RawFd, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl touches no memory of ours; `fd` is open for the duration of the call.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The array of pointers that execve wants. Valid as long as `strings`.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// The ranges between the targets, up to the highest possible descriptor.
#[allow(clippy::cast_sign_loss)] // descriptor numbers are not negative
fn gaps(targets: impl Iterator<Item = RawFd>) -> Vec<(u32, u32)> {
    let mut targets: Vec<u32> = targets.map(|target| target as u32).collect();
    targets.sort_unstable();
    let mut gaps = Vec::new();
    let mut next = 0;
    for target in targets {
        if target > next {
            gaps.push((next, target - 1));
        }
        next = target + 1;
    }
    gaps.push((next, u32::MAX));
    gaps
}

/// Reads what the new process reports: nothing if the exec worked, else the step and the errno.
fn read_report(pipe: &OwnedFd) -> Option<(u32, i32)> {
    let mut report = [0; 8];
    let mut have = 0;
    while let Some(rest) = report.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(pipe, rest) {
            Ok(0) => return None,
            Ok(more) => have += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    let [a, b, c, d, e, f, g, h] = report;
    Some((
        u32::from_ne_bytes([a, b, c, d]),
        i32::from_ne_bytes([e, f, g, h]),
    ))
}

/// Clones with the semantics of fork, and runs `plan` in the new process. By clone(2), whose flags a seccomp filter can
/// see: clone3(2) is refused in the jail, and by filters of some containers.
fn clone(plan: &Plan<'_>) -> Result<Child, SpawnError> {
    let mut pidfd: RawFd = -1;
    let flags = plan.how.namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    // No handler of this process may run in the new one: block all signals around the clone.
    // SAFETY: both sets are initialised by sigfillset and pthread_sigmask before they are read; all pointers are to
    // locals.
    let before = unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    };
    // SAFETY: no CLONE_VM, so the new process has its own copy of all memory, and no stack of its own is needed. It
    // runs `child`, which makes async-signal-safe calls only and does not return.
    let pid: c_long = unsafe {
        libc::syscall(
            libc::SYS_clone,
            c_long::from(flags),
            ptr::null_mut::<u8>(),
            &raw mut pidfd,
            ptr::null_mut::<c_int>(),
            c_long::from(0),
        )
    };
    if pid == 0 {
        // SAFETY: this is the new process, directly after the clone.
        unsafe { child(plan) }
    }
    let error = io::Error::last_os_error();
    // SAFETY: restores the mask read above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    if pid < 0 {
        return Err(SpawnError {
            step: "clone",
            source: error,
        });
    }
    Ok(Child {
        #[allow(clippy::cast_possible_truncation)] // process IDs are 22 bits at most
        pid: pid as i32,
        // SAFETY: CLONE_PIDFD stored a new descriptor, close-on-exec, which nobody else owns.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
    })
}

/// The new process between clone and exec.
///
/// # Safety
/// Only to be called in a fresh process made by [`clone`]; it ends or replaces the process.
unsafe fn child(plan: &Plan<'_>) -> ! {
    // SAFETY: only system calls and sigemptyset, all async-signal-safe; every pointer is to `plan`, which was made
    // before the clone, or to a local.
    unsafe {
        let step = failing_step(plan);
        let errno = *libc::__errno_location();
        let mut report = [0_u8; 8];
        report[..4].copy_from_slice(&step.to_ne_bytes());
        report[4..].copy_from_slice(&errno.to_ne_bytes());
        libc::write(plan.report, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

/// Does the steps of [`STEPS`] in order. Returns only if one fails, with its index; errno says why.
///
/// # Safety
/// As [`child`].
unsafe fn failing_step(plan: &Plan<'_>) -> u32 {
    // SAFETY: see child().
    unsafe {
        if plan.how.session && libc::setsid() == -1 {
            return 0;
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
            return 1;
        }
        // Before descriptors get other numbers.
        if let Some(network) = plan.how.network
            && libc::setns(network, libc::CLONE_NEWNET) == -1
        {
            return 2;
        }
        // Filters of containers refuse it. Then it depends on the addresses whether the kernel starts.
        #[allow(clippy::cast_sign_loss)] // a bit mask
        if !plan.how.randomize {
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        }
        if let Some(score) = plan.score {
            be_ordinary(score);
        }
        for &(source, target) in &plan.moves {
            if libc::dup2(source, target) == -1 {
                return 3;
            }
        }
        for &(first, last) in &plan.gaps {
            close_at_exec(first, last);
        }
        // The kernel's own structure (rt_sigaction(2)), in which all zero is the default. The library's function would
        // not touch the two signals that it keeps for itself, which may have been inherited as ignored.
        let default = [0_u64; 4];
        let no_old = ptr::null_mut::<u64>();
        for signal in 1..=64 {
            // SIGKILL and SIGSTOP cannot be changed, and need not be.
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                no_old,
                8_usize,
            );
        }
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) == -1 {
            return 4;
        }
        let (program, argv, envp) = (
            plan.program.as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
        );
        match plan.file {
            None => _ = libc::execve(program, argv, envp),
            Some(file) => {
                let flags = libc::AT_EMPTY_PATH;
                libc::syscall(libc::SYS_execveat, file, program, argv, envp, flags);
            }
        }
        5
    }
}

/// Has the exec close these descriptors. One by one where close_range(2) is not there, or a filter refuses it.
///
/// # Safety
/// As [`child`].
unsafe fn close_at_exec(first: u32, last: u32) {
    // SAFETY: only system calls, with a pointer to a local; a flag of a descriptor that is not open is not changed.
    unsafe {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, first, last, flags) == 0 {
            return;
        }
        let mut limit: libc::rlimit = mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let end = u64::from(last).min(limit.rlim_cur.saturating_sub(1));
        for number in u64::from(first)..=end {
            libc::syscall(libc::SYS_fcntl, number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Takes back that the host spares this process. Where it cannot be done, the host would have refused the other, too.
///
/// # Safety
/// As [`child`].
unsafe fn be_ordinary(score: &str) {
    // SAFETY: only system calls, with pointers to a constant and to `score`, whose length is given.
    unsafe {
        let file = libc::open(OOM_SCORE.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file != -1 {
            libc::write(file, score.as_ptr().cast(), score.len());
            libc::close(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::os::fd::AsFd;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    fn strings(list: &[&str]) -> Vec<CString> {
        list.iter()
            .map(|string| CString::new(*string).unwrap())
            .collect()
    }

    fn wait(child: &Child) -> Option<i32> {
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
            .unwrap()
            .unwrap()
            .exit_status()
    }

    #[test]
    fn the_program_has_what_it_was_given_and_nothing_else() {
        let out = rustix::fs::memfd_create("out", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        // A descriptor that is not close-on-exec, and targets that are the numbers of other sources.
        // SAFETY: the duplicate of a valid descriptor is new and has no other owner.
        let stray = unsafe { OwnedFd::from_raw_fd(libc::dup(null.as_raw_fd())) };
        let (low, high) = (out.as_fd(), null.as_fd());
        let fds = [
            (high, 0),
            (low, 1),
            (high, 2),
            (low, high.as_raw_fd()),
            (high, low.as_raw_fd()),
        ];
        let script = "ls -l /proc/self/fd; echo; env; cat /proc/self/personality; grep -E '^Sig(Blk|Ign)' /proc/self/status";
        let argv = strings(&["sh", "-c", script]);
        let child = spawn_kernel(
            c"/bin/busybox",
            &argv,
            &strings(&["A=b", "PATH=/bin"]),
            &fds,
        )
        .unwrap();
        assert_eq!(wait(&child), Some(0));
        let mut text = String::new();
        let mut out = File::from(out.try_clone().unwrap());
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        let (open, rest) = text.split_once("\n\n").unwrap();
        let open: Vec<(&str, &str)> = open
            .lines()
            .filter_map(|line| line.split_once(" -> "))
            .map(|(left, file)| (left.rsplit(' ').next().unwrap(), file))
            .collect();
        for (number, file) in &open {
            let number: RawFd = number.parse().unwrap();
            let expected = match fds.iter().find(|(_, target)| *target == number) {
                Some((source, _)) if source.as_raw_fd() == null.as_raw_fd() => "/dev/null",
                Some(_) => "/memfd:out",
                // The directory being listed.
                None => "/proc/",
            };
            assert!(file.starts_with(expected), "{number} {file}");
            assert_ne!(number, stray.as_raw_fd());
        }
        assert!(open.len() >= fds.len());
        assert!(rest.contains("A=b") && rest.contains("00040000"), "{rest}");
        assert!(rest.contains("SigBlk:\t0000000000000000"), "{rest}");
        // SIGQUIT is ignored by the shell itself.
        assert!(rest.contains("SigIgn:\t0000000000000004"), "{rest}");
    }

    #[test]
    fn a_failed_exec_is_told_and_leaves_no_process() {
        let error = spawn_session(c"/nonexistent", &strings(&["x"]), &[], &[]).unwrap_err();
        assert_eq!(
            (error.step, error.source.kind()),
            ("execve", io::ErrorKind::NotFound)
        );
        assert!(error.to_string().starts_with("execve: No such file"));
    }

    #[test]
    fn gaps_are_what_is_between() {
        assert_eq!(gaps([].into_iter()), [(0, u32::MAX)]);
        assert_eq!(gaps([5, 0, 1, 2].into_iter()), [(3, 4), (6, u32::MAX)]);
    }
}
