//! Faults in the system calls of a running daemon (the end-to-end tests): a thread traces it with ptrace(2), and lets
//! calls fail or transfer less, as a host may do at any time, but rarely does in a test.
//!
//! What is injected is what a host's kernel may answer: a call that fails does nothing, and one that transfers less has
//! transferred that. What relies on being told again when a descriptor is ready (epoll(7), edge-triggered) is told
//! again at once, as it is when a buffer was full or empty for a moment only.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// The calls that move bytes.
const TRANSFERS: [c_long; 7] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_splice,
];

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Pass,
    /// It is not carried out, and fails with this error.
    Fail(Errno),
    /// It transfers at most so many bytes; of those with several buffers, the first only.
    AtMost(u64),
    /// It is not carried out, and the process ends as by `kill -9`.
    Kill,
}

/// A call that is about to be made.
pub struct Call<'p> {
    /// Its number, `libc::SYS_...`.
    pub number: c_long,
    /// Its arguments.
    pub args: [u64; 6],
    process: &'p OwnedFd,
    pid: Pid,
}

impl Call<'_> {
    /// What its first argument, a descriptor, is, as /proc/PID/fd tells it.
    pub fn descriptor(&self) -> String {
        let link = fs::read_link(format!("/proc/{}/fd/{}", self.pid, self.args[0]));
        link.map(|target| target.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Whether it moves bytes of a stream, of which a host's kernel may move less than is asked for.
    pub fn is_transfer(&self) -> bool {
        let named = self.descriptor();
        match named.as_str() {
            _ if !TRANSFERS.contains(&self.number) => false,
            socket if socket.starts_with("socket:") => self.is_stream(),
            pipe if pipe.starts_with("pipe:") => true,
            // Counters and similar values, which are complete or missing; values that the kernel accepts at once.
            odd if !odd.starts_with('/') => false,
            value
                if ["/proc/", "/sys/"]
                    .iter()
                    .any(|place| value.starts_with(place)) =>
            {
                [libc::SYS_read, libc::SYS_readv].contains(&self.number)
            }
            _ => true,
        }
    }

    /// Whether it does not wait, so that it can find nothing to read and no room to write.
    pub fn never_waits(&self) -> bool {
        let named = self.descriptor();
        if named.starts_with('/') && !named.starts_with("/dev/") {
            // Files know no such flag.
            return false;
        }
        let flags = match self.number {
            libc::SYS_recvfrom | libc::SYS_sendto => {
                self.args[3] & u64::from(libc::MSG_DONTWAIT.unsigned_abs())
            }
            libc::SYS_splice => self.args[5] & u64::from(libc::SPLICE_F_NONBLOCK),
            _ => 0,
        };
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.pid, self.args[0]));
        let info = info.unwrap_or_default();
        let kept = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let kept = kept.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
        flags != 0
            || kept.is_some_and(|kept| kept & u64::from(libc::O_NONBLOCK.unsigned_abs()) != 0)
    }

    /// Whether it sends to or receives from a socket.
    pub fn is_socket(&self) -> bool {
        TRANSFERS.contains(&self.number) && self.descriptor().starts_with("socket:")
    }

    fn is_stream(&self) -> bool {
        let number = i32::try_from(self.args[0]).unwrap_or(-1);
        let fd = pidfd_getfd(self.process, number, PidfdGetfdFlags::empty());
        fd.is_ok_and(|fd| rustix::net::sockopt::socket_type(fd) == Ok(SocketType::STREAM))
    }

    /// How many bytes it wants to move at most.
    pub fn length(&self) -> u64 {
        match self.number {
            libc::SYS_splice => self.args[4],
            // Their lengths are elsewhere; their number does not matter beyond the first.
            libc::SYS_readv | libc::SYS_writev => self.args[2].min(2),
            _ => self.args[2],
        }
    }
}

/// What has happened so far.
#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    faults: AtomicU64,
    by_number: Mutex<BTreeMap<c_long, u64>>,
}

/// A daemon whose calls are watched. When this is dropped, it is left alone again.
pub struct Injector {
    pid: Pid,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Injector {
    /// Watches the calls of a process with one thread, and asks `plan` about each of them.
    ///
    /// # Panics
    /// If the process cannot be traced.
    pub fn on(pid: i32, plan: impl FnMut(&Call<'_>) -> Fate + Send + 'static) -> Injector {
        let pid = Pid::from_raw(pid);
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<Counts>::default());
        let (ready, begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            move || {
                // All requests of ptrace(2) must come from the thread that has begun.
                let begun = ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)
                    .and_then(|()| ptrace::interrupt(pid));
                ready.send(begun).unwrap();
                if begun.is_ok() {
                    Tracer::new(pid, stop, counts, plan).run();
                }
            }
        });
        begun.recv().unwrap().expect("the daemon can be traced");
        Injector {
            pid,
            stop,
            counts,
            thread: Some(thread),
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How many calls it has made.
    pub fn calls(&self) -> u64 {
        self.counts.calls.load(Ordering::SeqCst)
    }

    /// How many of them had another end than they would have had.
    pub fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::SeqCst)
    }

    /// How often the call of this number had another end.
    pub fn faults_of(&self, number: c_long) -> u64 {
        let counts = self.counts.by_number.lock().unwrap();
        counts.get(&number).copied().unwrap_or(0)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if !self.has_ended() {
            // A signal that means nothing to the daemon, so that the tracer looks up.
            let _ = kill(self.pid, Signal::SIGURG);
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the tracer has failed"
            );
        }
    }
}

/// Where the daemon is between two stops.
enum Place {
    /// In its own code.
    Outside,
    /// In a call, with the registers it came with.
    Inside(user_regs_struct, Fate),
    /// In, or right before, a call that is ours. Then it goes on with these registers.
    Told(user_regs_struct, bool),
}

struct Tracer<P> {
    pid: Pid,
    process: OwnedFd,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    plan: P,
    place: Place,
}

impl<P: FnMut(&Call<'_>) -> Fate> Tracer<P> {
    fn new(pid: Pid, stop: Arc<AtomicBool>, counts: Arc<Counts>, plan: P) -> Self {
        let number = rustix::process::Pid::from_raw(pid.as_raw()).expect("it is a process");
        Tracer {
            pid,
            process: pidfd_open(number, PidfdFlags::empty()).expect("it lives"),
            stop,
            counts,
            plan,
            place: Place::Outside,
        }
    }

    fn run(&mut self) {
        loop {
            let mut signal = None;
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::PtraceSyscall(_)) => {
                    // It can be killed at any time.
                    if self.at_call().is_err() {
                        continue;
                    }
                }
                Ok(WaitStatus::Stopped(_, sent)) => signal = Some(sent),
                Ok(WaitStatus::PtraceEvent(..)) => {}
                _ => return,
            }
            if self.stop.load(Ordering::SeqCst) && matches!(self.place, Place::Outside) {
                let _ = ptrace::detach(self.pid, signal.filter(|sent| *sent != Signal::SIGURG));
                return;
            }
            let _ = ptrace::syscall(self.pid, signal);
        }
    }

    /// It enters or leaves a call.
    fn at_call(&mut self) -> nix::Result<()> {
        let now = ptrace::getregs(self.pid)?;
        self.place = match std::mem::replace(&mut self.place, Place::Outside) {
            Place::Outside => self.enters(now)?,
            Place::Inside(before, fate) => self.leaves(before, now, fate)?,
            Place::Told(after, false) => Place::Told(after, true),
            Place::Told(after, true) => {
                ptrace::setregs(self.pid, after)?;
                Place::Outside
            }
        };
        Ok(())
    }

    fn enters(&mut self, before: user_regs_struct) -> nix::Result<Place> {
        self.counts.calls.fetch_add(1, Ordering::SeqCst);
        let call = Call {
            number: before.orig_rax.cast_signed(),
            args: [
                before.rdi, before.rsi, before.rdx, before.r10, before.r8, before.r9,
            ],
            process: &self.process,
            pid: self.pid,
        };
        let fate = match (self.plan)(&call) {
            Fate::AtMost(most) if most >= call.length() => Fate::Pass,
            fate => fate,
        };
        let mut changed = before;
        match fate {
            Fate::Pass => return Ok(Place::Inside(before, fate)),
            // It is stopped, and ends before it would go on.
            Fate::Kill => {
                self.counts.faults.fetch_add(1, Ordering::SeqCst);
                kill(self.pid, Signal::SIGKILL)?;
                return Ok(Place::Inside(before, fate));
            }
            // Another call in its place, which does nothing and which no filter of system calls minds.
            Fate::Fail(_) => changed.orig_rax = libc::SYS_getpid.cast_unsigned(),
            Fate::AtMost(most) if call.number == libc::SYS_splice => changed.r8 = most,
            Fate::AtMost(most) => changed.rdx = most,
        }
        self.counts.faults.fetch_add(1, Ordering::SeqCst);
        *self
            .counts
            .by_number
            .lock()
            .unwrap()
            .entry(call.number)
            .or_default() += 1;
        ptrace::setregs(self.pid, changed)?;
        Ok(Place::Inside(before, fate))
    }

    fn leaves(
        &mut self,
        before: user_regs_struct,
        now: user_regs_struct,
        fate: Fate,
    ) -> nix::Result<Place> {
        let mut after = now;
        // To the daemon, the kernel leaves all registers but the result as they were.
        (after.rdx, after.r8) = (before.rdx, before.r8);
        match fate {
            Fate::Pass | Fate::Kill => return Ok(Place::Outside),
            Fate::Fail(error) => after.rax = i64::from(-error.raw_os_error()).cast_unsigned(),
            Fate::AtMost(_) => {}
        }
        ptrace::setregs(self.pid, after)?;
        let number = before.orig_rax.cast_signed();
        let ends = if number == libc::SYS_splice {
            vec![before.rdi, before.rdx]
        } else {
            vec![before.rdi]
        };
        let partial = !matches!(fate, Fate::Fail(error) if error != Errno::AGAIN);
        match ends
            .into_iter()
            .find_map(|fd| self.interest(fd))
            .filter(|_| partial)
        {
            Some(interest) => self.tell_again(after, &interest),
            None => Ok(Place::Outside),
        }
    }

    /// Makes it say once more what it wants to know of a descriptor; if that is so, it is told.
    fn tell_again(&self, after: user_regs_struct, interest: &Interest) -> nix::Result<Place> {
        // Below what its code may use below its stack.
        let event = (after.rsp - 512) & !15;
        let [low, high] = interest.event;
        ptrace::write(self.pid, event as *mut libc::c_void, low)?;
        ptrace::write(self.pid, (event + 8) as *mut libc::c_void, high)?;
        let mut call = after;
        // Back to the instruction that makes the call.
        call.rip -= 2;
        call.rax = libc::SYS_epoll_ctl.cast_unsigned();
        call.orig_rax = u64::MAX;
        (call.rdi, call.rsi) = (
            interest.epoll,
            u64::from(libc::EPOLL_CTL_MOD.unsigned_abs()),
        );
        (call.rdx, call.r10) = (interest.fd, event);
        ptrace::setregs(self.pid, call)?;
        Ok(Place::Told(after, false))
    }

    /// What it wants to know of a descriptor; None if it has not asked to be told.
    fn interest(&self, fd: u64) -> Option<Interest> {
        let directory = fs::read_dir(format!("/proc/{}/fdinfo", self.pid)).ok()?;
        for entry in directory.flatten() {
            // tfd:  5 events: 8000201d data:  7f0000000000  ...
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines = text.lines().filter(|line| line.starts_with("tfd:"));
            for words in lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()) {
                let number = |at: usize, radix| u64::from_str_radix(words.get(at)?, radix).ok();
                if number(1, 10) == Some(fd) {
                    let (events, data) = (number(3, 16)?, number(5, 16)?);
                    // Of 12 bytes, without a gap between the two.
                    let low = events | data << 32;
                    return Some(Interest {
                        epoll: entry.file_name().to_str()?.parse().ok()?,
                        fd,
                        event: [low.cast_signed(), (data >> 32).cast_signed()],
                    });
                }
            }
        }
        None
    }
}

/// What a daemon wants to know of a descriptor.
struct Interest {
    epoll: u64,
    fd: u64,
    event: [c_long; 2],
}
