//! conserver as a peer: a server that keeps a console, logs it, and shows it to any number of clients (cargo xtask
//! bench).

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::line::{Line, await_ready};

/// How long the server may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on the loopback interface, with a console of its own; it is ended with the value.
pub(super) struct Conserver {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Conserver {
    /// Lets a shell run `program` on the console, in `directory`, and waits until it listens.
    pub(super) fn start(directory: &Path, program: &str) -> anyhow::Result<Conserver> {
        let program = program.replace('\\', "\\\\").replace('"', "\\\"");
        let log = directory.join("console.log");
        let text = format!(
            "config * {{ defaultaccess trusted; sslrequired no; }}\naccess * {{ trusted 127.0.0.1; }}\n\
             console bench {{ master localhost; type exec; rw *; logfile {}; exec \"{program}\"; }}\n",
            log.display()
        );
        let file = directory.join("conserver.cf");
        fs::write(&file, text).context("cannot write the configuration of conserver")?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no port")?;
        let port = free.local_addr()?.port();
        drop(free);
        let child = Command::new("conserver")
            .arg("-C")
            .arg(&file)
            .args(["-P", "/dev/null", "-n", "-M", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run conserver")?;
        let directory = directory.to_owned();
        let conserver = Conserver {
            child,
            port,
            directory,
        };
        await_ready(&conserver.directory).context("the program that conserver runs")?;
        conserver.await_port()?;
        Ok(conserver)
    }

    /// The server listens a little later than its console does.
    fn await_port(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(Instant::now() < deadline, "conserver does not listen");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// A client that is connected: `-a` types, `-s` only looks on.
    pub(super) fn client(&self, how: &str) -> anyhow::Result<Line> {
        let mut console = Command::new("console");
        console.args(["-M", "127.0.0.1", "-l", "root", "-p"]);
        console.arg(self.port.to_string());
        console.args(["-n", "-C", "/dev/null", "-E", how, "bench"]);
        let mut line = Line::with_pipes(console.current_dir(&self.directory))?;
        line.expect("help]\n")?;
        Ok(line)
    }

    /// The server, and the process of it that has the console.
    pub(super) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut processes = self.children()?;
        ensure!(processes.len() == 1, "conserver has {processes:?}");
        processes.push(self.child.id());
        Ok(processes)
    }

    fn children(&self) -> anyhow::Result<Vec<u32>> {
        let server = self.child.id();
        let path = format!("/proc/{server}/task/{server}/children");
        let numbers = fs::read_to_string(&path).context("conserver has ended")?;
        let numbers = numbers.split_whitespace().map(str::parse);
        let numbers: Result<_, _> = numbers.collect();
        numbers.with_context(|| format!("{path} has no numbers"))
    }

    /// Asks it to end. A server that has only just begun would not end its children; while it is stopped it reaps none,
    /// so that the numbers remain theirs.
    fn end(&mut self) -> anyhow::Result<()> {
        let server = self.child.id();
        signal(server, Signal::STOP)?;
        let stopped = || -> anyhow::Result<bool> {
            let stat = fs::read_to_string(format!("/proc/{server}/stat"))?;
            Ok(stat.contains(") T "))
        };
        let deadline = Instant::now() + PATIENCE;
        while !stopped()? {
            ensure!(Instant::now() < deadline, "conserver does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        for child in self.children()? {
            signal(child, Signal::TERM)?;
        }
        signal(server, Signal::TERM)?;
        signal(server, Signal::CONT)?;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "conserver does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Sends a signal to a process, which must be there.
pub(super) fn signal(process: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(process.try_into()?).context("there is no such process")?;
    kill_process(pid, signal)
        .with_context(|| format!("cannot send {signal:?} to process {process}"))
}

impl Drop for Conserver {
    fn drop(&mut self) {
        if self.end().is_err() {
            // Ours and not reaped, so the number is its own.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
