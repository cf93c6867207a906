//! umlwatch on a terminal, as a user sits at one (the end-to-end tests).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use xtask::dialogue::Dialogue;

use crate::PATIENCE;
use crate::program::wait;

/// A terminal with a program on it.
pub struct Terminal {
    /// What the user sees and types.
    pub dialogue: Dialogue,
    child: Child,
    master: OwnedFd,
    /// Held open, so that the terminal outlives the program and can be looked at.
    slave: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// Runs `command` on a new terminal of this size.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Terminal {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = rustix::fs::open(
            &*name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        let before = tcgetattr(&slave).unwrap();
        tcsetwinsize(&master, winsize(rows, columns)).unwrap();
        let end = || slave.try_clone().unwrap();
        // A session of its own, whose terminal this is: without it, no SIGWINCH arrives.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let user = || File::from(master.try_clone().unwrap());
        Terminal {
            dialogue: Dialogue::new(user(), user()),
            child,
            before,
            slave,
            master,
        }
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, winsize(rows, columns)).unwrap();
        assert_eq!(tcgetwinsize(&self.slave).unwrap().ws_row, rows);
    }

    /// Waits for `text` on the screen; returns all that came up to it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.dialogue.expect(text, PATIENCE).unwrap()
    }

    /// Types `text`.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.dialogue.send(text).unwrap();
    }

    /// Waits until the program has ended, and asserts that the terminal is as it was before; returns the exit status.
    #[track_caller]
    pub fn wait(mut self) -> Option<i32> {
        let status =
            wait(&mut self.child, PATIENCE).expect("the program on the terminal does not end");
        let after = tcgetattr(&self.slave).unwrap();
        assert_eq!(
            (after.local_modes, after.input_modes, after.output_modes),
            (
                self.before.local_modes,
                self.before.input_modes,
                self.before.output_modes
            ),
            "the terminal is not restored"
        );
        status.code()
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Not reaped before, so the number is still its own.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
