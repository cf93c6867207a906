//! The monitor of a temporary installation, which another one replaces if it dies before the end: the VM outlives it
//! (the process that keeps the installation).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use config::{Config, VmName};
use daemon::Home;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::stdio::stdin;

use crate::start;

/// How many monitors are replaced at most within how long: a program that is broken is not started for ever.
const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);

/// The monitor.
pub(super) struct Watched {
    configuration: PathBuf,
    vm: VmName,
    process: Option<Process>,
    /// When it was replaced.
    replaced: VecDeque<Instant>,
}

/// Its process.
struct Process {
    pidfd: OwnedFd,
    /// Its mount namespace, which has the mounts of the VM.
    mounts: File,
}

impl Watched {
    /// Of the VM in this configuration; there is no monitor yet.
    pub(super) fn new(configuration: PathBuf, vm: VmName) -> Watched {
        Watched {
            configuration,
            vm,
            process: None,
            replaced: VecDeque::new(),
        }
    }

    /// Starts the monitor in a mount namespace of its own, which ends with it and its VM.
    pub(super) fn start(&mut self) -> Result<(), String> {
        self.start_in(|| {
            // Where it may not, the monitor may not mount either, and says what to do.
            let _ = jail::leave_mounts();
        })?;
        self.process = self.look();
        Ok(())
    }

    /// The next line on stdin, or its end. Meanwhile a monitor that dies is replaced.
    pub(super) fn next_order(&mut self, input: &mut impl BufRead) -> io::Result<Option<String>> {
        while !self.is_told_something()? {
            self.replace();
        }
        let mut line = String::new();
        let length = input.read_line(&mut line)?;
        line.truncate(line.trim_end().len());
        Ok((length > 0).then_some(line))
    }

    /// Waits until there is something on stdin; false if the monitor has died before.
    fn is_told_something(&self) -> io::Result<bool> {
        let stdin = stdin();
        let mut all = vec![PollFd::new(&stdin, PollFlags::IN)];
        let process = self.process.as_ref();
        all.extend(process.map(|process| PollFd::new(&process.pidfd, PollFlags::IN)));
        loop {
            match poll(&mut all, None) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(all.first().is_some_and(|told| !told.revents().is_empty())),
            }
        }
    }

    /// Starts another monitor, which takes the VM over.
    fn replace(&mut self) {
        let Some(dead) = self.process.take() else {
            return;
        };
        let now = Instant::now();
        self.replaced.retain(|at| now.duration_since(*at) < WITHIN);
        if self.replaced.len() >= MOST {
            eprintln!(
                "{}: its monitors die; none is started again",
                crate::program()
            );
            return;
        }
        self.replaced.push_back(now);
        let started = self.start_in(move || {
            let _ = jail::enter_mounts(dead.mounts.as_fd());
        });
        match started {
            Ok(()) => self.process = self.look(),
            Err(why) => eprintln!("{}: {why}", crate::program()),
        }
    }

    /// Starts a monitor, from a thread that has prepared itself.
    fn start_in(&self, prepare: impl FnOnce() + Send) -> Result<(), String> {
        let (configuration, vm) = (&self.configuration, &self.vm);
        let start = || {
            prepare();
            let program = start::monitor_program();
            start::start_monitor(&program, configuration, vm, start::Group::Ours)
        };
        thread::scope(|scope| {
            let started = scope.spawn(start).join();
            started.unwrap_or_else(|_| Err("a thread has failed".into()))
        })
    }

    /// The monitor that runs.
    fn look(&self) -> Option<Process> {
        let config = Config::load(&self.configuration).ok()?;
        let home = Home::of_monitor(&config.global, &self.vm);
        let pid = home.holder().ok()??;
        let number = Pid::from_raw(pid.try_into().ok()?)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        let mounts = File::open(Path::new("/proc").join(pid.to_string()).join("ns/mnt")).ok()?;
        home.is_of(pid).ok()?.then_some(Process { pidfd, mounts })
    }
}
