//! The redirectors that are measured: umldir, haproxy and socat (cargo xtask bench).

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::subject::program;
use super::traffic::{self, Route};

/// How long one may take to begin or end.
const PATIENCE: Duration = Duration::from_secs(10);

const VM: &str = "vm1";

/// A redirector that runs; ended with the value.
pub(super) struct Redirector {
    child: Child,
    pub(super) route: Route,
    /// What must stay open.
    _registration: Option<UnixStream>,
}

impl Redirector {
    /// Ours, to a server that plays a monitor.
    pub(super) fn umldir(directory: &Path) -> anyhow::Result<Redirector> {
        let (port, asking) = (free_port()?, free_port()?);
        for name in ["var", "var/vm1", "run"] {
            fs::create_dir(directory.join(name)).context("cannot make a directory")?;
        }
        let (file, path) = (directory.join("umlmon"), directory.display());
        let text = format!(
            "[GLOBAL]\nvardir = {path}/var\nrundir = {path}/run\ntcp_redir = true\nlisten = 127.0.0.1\n\
             umldir_port = {asking}\numlredir_port = {port}\n"
        );
        fs::write(&file, text).context("cannot write the configuration")?;
        // Before each connection, the monitor learns where it comes from.
        traffic::serve(&directory.join("var").join(VM).join("redir"), 20)?;
        let mut umldir = Command::new(program("umldir"));
        let child = begin(umldir.arg("-config").arg(file).arg("-fg"), port)?;
        let name = string(VM);
        let mut registration = UnixStream::connect(directory.join("var/directory/ctrl"))?;
        registration.write_all(&call(0x2055_4d44, 3, &[name.as_slice(), &[0; 4]].concat()))?;
        registration.read_exact(&mut [0; ACCEPTED])?;
        let route = Route {
            port,
            request: call(0x2055_4d52, 1, &name),
            answer: ACCEPTED,
        };
        Ok(Redirector {
            child,
            route,
            _registration: Some(registration),
        })
    }

    /// haproxy, in one thread, as we have only one.
    pub(super) fn haproxy(directory: &Path, socket: &Path) -> anyhow::Result<Redirector> {
        let port = free_port()?;
        let file = directory.join("haproxy.cfg");
        let text = format!(
            "global\n nbthread 1\n maxconn 4096\ndefaults\n mode tcp\n option splice-auto\n timeout connect 5s\n \
             timeout client 1h\n timeout server 1h\nlisten bench\n bind 127.0.0.1:{port}\n server bench unix@{}\n",
            socket.display()
        );
        fs::write(&file, text).context("cannot write the configuration of haproxy")?;
        Redirector::peer(Command::new("haproxy").arg("-db").arg("-f").arg(file), port)
    }

    /// socat, a process for each connection.
    pub(super) fn socat(socket: &Path) -> anyhow::Result<Redirector> {
        let port = free_port()?;
        let listen =
            format!("TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024");
        let connect = format!("UNIX-CONNECT:{}", socket.display());
        let mut socat = Command::new("socat");
        Redirector::peer(socat.args(["-b", "65536"]).args([listen, connect]), port)
    }

    fn peer(command: &mut Command, port: u16) -> anyhow::Result<Redirector> {
        let route = Route {
            port,
            request: Vec::new(),
            answer: 0,
        };
        Ok(Redirector {
            child: begin(command, port)?,
            route,
            _registration: None,
        })
    }

    /// Resident memory, in KB.
    pub(super) fn memory(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        number.with_context(|| format!("{path} has no VmRSS"))
    }
}

impl Drop for Redirector {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn begin(command: &mut Command, port: u16) -> anyhow::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = quiet
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("{name} has ended: {status}");
        }
        ensure!(Instant::now() < deadline, "{name} does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}

pub(super) fn free_port() -> anyhow::Result<u16> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no port")?;
    Ok(free.local_addr()?.port())
}

/// Bytes of the reply to a call whose result is DIR_OK, with the record mark.
const ACCEPTED: usize = 4 + 24 + 4;

/// A call of version 1 of a program (RFC 5531), as a record.
fn call(program: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    let header = [1, 0, 2, program, 1, procedure, 0, 0, 0, 0];
    let mut record: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    record.extend_from_slice(arguments);
    let length = u32::try_from(record.len()).unwrap_or_default();
    [(1 << 31 | length).to_be_bytes().as_slice(), &record].concat()
}

/// A string in XDR.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len())
        .unwrap_or_default()
        .to_be_bytes()
        .to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
