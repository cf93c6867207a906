//! umlwatch on a pseudo terminal, with the test at the keyboard.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Terminal {
    master: File,
    slave: File,
    child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    /// Runs the command on a terminal of 30 rows and 100 columns.
    pub(crate) fn run(mut command: Command) -> Terminal {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .unwrap();
        let end = || slave.try_clone().unwrap();
        let master = File::from(master);
        resize(&master, 30, 100);
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Terminal {
            master,
            slave,
            child,
            seen: Vec::new(),
        }
    }

    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
        self.signal(Signal::SIGWINCH);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Reads until this is shown; what came before it, and it, are taken.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let found = self
                .seen
                .windows(text.len())
                .position(|part| part == text.as_bytes());
            if let Some(start) = found {
                let taken: Vec<u8> = self.seen.drain(..start + text.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap(),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&timeout)).unwrap();
            assert!(
                ready > 0,
                "{text:?} is not shown, but {:?}",
                String::from_utf8_lossy(&self.seen)
            );
            let mut buffer = [0; 4096];
            let count = self.master.read(&mut buffer).unwrap();
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// How the terminal is set.
    pub(crate) fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    pub(crate) fn is_raw(&self) -> bool {
        !self.modes().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits until these are its modes again.
    pub(crate) fn is_as_before(&self, modes: LocalModes) {
        let until = Instant::now() + DEADLINE;
        while self.modes().local_modes != modes {
            assert!(Instant::now() < until, "the terminal is not put back");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it is not raw any more, though umlwatch could not do that itself.
    pub(crate) fn is_put_back(&self) {
        let until = Instant::now() + DEADLINE;
        while self.is_raw() {
            assert!(Instant::now() < until, "the terminal is left raw");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The exit status, or the signal that ended it, negative.
    pub(crate) fn ended(mut self) -> i32 {
        let status = wait(&mut self.child);
        assert!(!self.is_raw(), "the terminal is left raw");
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }
}

fn resize(master: &File, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

/// Waits with a deadline, after which the child is ended.
fn wait(child: &mut Child) -> ExitStatus {
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let guard = std::thread::spawn(move || {
        let late =
            watched.recv_timeout(DEADLINE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = kill(pid, Signal::SIGKILL);
        }
        late
    });
    let status = child.wait().unwrap();
    drop(done);
    assert!(!guard.join().unwrap(), "it does not end");
    status
}
