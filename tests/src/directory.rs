//! The directory service in a world (the end-to-end tests).

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::{Signal, kill_process};

use crate::world::read_pid;
use crate::{Outcome, World, run, wait_for};

/// umldir of a world. It is ended with the world.
pub struct Directory<'w>(&'w World);

impl<'w> Directory<'w> {
    /// Starts it.
    #[track_caller]
    pub fn start(world: &'w World) -> Self {
        let directory = Directory(world);
        directory.run().ok();
        directory
    }

    /// One that has not been started.
    pub fn of(world: &'w World) -> Self {
        Directory(world)
    }

    /// Tries to start it.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        run(&mut self.0.command("umldir", &[]))
    }

    /// Its directory.
    pub fn home(&self) -> PathBuf {
        self.0.path().join("var/directory")
    }

    /// Its pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.0.path().join("run/directory.pid")
    }

    /// Its process ID.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> rustix::process::Pid {
        read_pid(&self.pid_file()).expect("umldir has a pid file")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends it by force.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        wait_for("the end of umldir", || {
            UnixStream::connect(self.home().join("ctrl"))
                .is_err()
                .then_some(())
        });
    }

    /// Connects to its socket.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.home().join("ctrl")).unwrap()
    }

    /// What is in its log.
    ///
    /// # Panics
    /// If there is none.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home().join("log/umldir")).unwrap()
    }
}

/// A TCP port on which no process listens.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("::", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether no process listens on this port of 127.0.0.1.
pub fn can_be_had(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
