//! Processes that work on the files of an image: root in a user namespace of their own, and nobody on the host
//! (umladmin, and these processes).
//!
//! What they unpack and run comes from others. Whatever takes such a process over can change the files of the image
//! that is being built, and nothing else: its users are numbers that nobody else has, it sees no process of the host,
//! and it has no network unless it needs one.
//!
//! umladmin executes itself twice. The outer process has the user namespace, whose users only its parent can map; its
//! child is the first process of the other namespaces.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use client::signals::Signals;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::set_parent_process_death_signal;

use super::unpack;

/// The arguments that tell these processes from umladmin as users call it.
const OUTER: &str = "--apart";
const INNER: &str = "--apart-inner";
/// The words that say what they are to do.
const UNPACK: &str = "unpack";
const EXECUTE: &str = "execute";
const NETWORK: &str = "network";
const NO_NETWORK: &str = "no-network";

/// The first of the numbers of users, after those of VMs, and how many there are for one image. The number of
/// a process is added, so that images that are built at the same time have different ones.
const FIRST_USER: u32 = 0x7400_0000;
const USERS: u32 = 1 << 16;
const SETS: u32 = 2000;

/// How many bytes of what such a process says are kept.
const MAX_WORDS: usize = 16 << 10;
/// How often the caller is told how far it is.
const STEP: Duration = Duration::from_millis(100);

/// Work for such a process. All paths in it are relative to the directory that it works in.
pub(super) enum Work<'a> {
    /// Unpacks the archive on its standard input into the directory `tree`; this program decompresses it.
    Unpack {
        decompressor: Option<&'static str>,
        layer: bool,
    },
    /// Executes a program.
    Execute {
        words: &'a [OsString],
        network: bool,
    },
}

/// Why work was not done.
#[derive(Debug)]
pub(super) enum Stopped {
    /// This signal has come.
    Signal(Signal),
    /// It cannot be done.
    Failed(String),
}

impl From<String> for Stopped {
    fn from(why: String) -> Stopped {
        Stopped::Failed(why)
    }
}

/// The user of the host that is root in these processes.
pub(super) fn root() -> u32 {
    FIRST_USER + std::process::id() % SETS * USERS
}

/// Does the work in `directory`, with this input. `step` is called ten times a second, with the last line that the
/// process has said. What it has said is returned.
pub(super) fn run(
    directory: &Path,
    work: &Work<'_>,
    input: &mut (dyn Read + Send),
    signals: &Signals,
    step: &mut dyn FnMut(&str),
) -> Result<String, Stopped> {
    let mut child = begin(directory, work)?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Stopped::Failed("a process has no pipes".into()));
    };
    let followed = std::thread::scope(|scope| {
        let feeding = scope.spawn(move || feed(input, stdin));
        let followed = follow(stdout, stderr, signals, step);
        // If it was stopped, or if it has closed its outputs and still reads.
        if followed.is_err() {
            let _ = child.kill();
        }
        let status = child.wait();
        let fed = feeding
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        (followed, status, fed)
    });
    let (said, status, fed) = followed;
    let said = said?;
    let status = status.map_err(|error| cannot("wait for a process", &error))?;
    if !status.success() {
        return Err(Stopped::Failed(explain(status, &said)));
    }
    fed.map_err(|error| cannot("read the source", &error))?;
    Ok(said)
}

fn cannot(what: &str, error: &io::Error) -> String {
    format!("cannot {what}: {error}")
}

/// Starts the outer process, and maps its users.
fn begin(directory: &Path, work: &Work<'_>) -> Result<Child, String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(OUTER);
    match work {
        Work::Unpack {
            decompressor,
            layer,
        } => {
            let layer = if *layer { "layer" } else { "archive" };
            command.args([NO_NETWORK, UNPACK, layer]).args(decompressor);
        }
        Work::Execute { words, network } => {
            let network = if *network { NETWORK } else { NO_NETWORK };
            command.args([network, EXECUTE]).args(*words);
        }
    }
    // Mirrors may be behind a proxy.
    let proxies = ["http_proxy", "https_proxy", "no_proxy"];
    let proxies = proxies.map(|name| (name, std::env::var_os(name)));
    let proxies = proxies
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut child = command
        .env_clear()
        .envs(proxies)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("TMPDIR", directory)
        .env("HOME", "/")
        .current_dir(directory)
        // Ctrl-C is the business of the caller.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot("start a process", &error))?;
    let mapped = map_users(&mut child);
    if let Err(why) = mapped {
        let _ = child.kill();
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(MAX_WORDS as u64).read_to_string(&mut said);
        }
        let _ = child.wait();
        return Err(match said.trim() {
            "" => cannot("have a user namespace", &why),
            said => said.to_owned(),
        });
    }
    Ok(child)
}

fn map_users(child: &mut Child) -> io::Result<()> {
    let pid = child.id();
    let (Some(stdin), Some(stdout)) = (&mut child.stdin, &mut child.stdout) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    stdout.read_exact(&mut [0])?;
    let map = format!("0 {} {USERS}\n", root());
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), &map)?;
    }
    stdin.write_all(b"\n")
}

/// Gives it its input; what it does not want is no failure.
fn feed(input: &mut dyn Read, mut stdin: impl io::Write) -> io::Result<()> {
    let mut piece = vec![0; 128 << 10];
    loop {
        let read = match input.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0
            || stdin
                .write_all(piece.get(..read).unwrap_or_default())
                .is_err()
        {
            return Ok(());
        }
    }
}

/// Listens until both outputs are closed: then all its processes have ended.
fn follow(
    mut stdout: impl Read + std::os::fd::AsFd,
    mut stderr: impl Read + std::os::fd::AsFd,
    signals: &Signals,
    step: &mut dyn FnMut(&str),
) -> Result<String, Stopped> {
    let failed = |error: io::Error| Stopped::Failed(cannot("listen to a process", &error));
    let mut said = Vec::new();
    let (mut out, mut err) = (true, true);
    let tick = Timespec::try_from(STEP).ok();
    while out || err {
        let mut all = vec![PollFd::new(signals, PollFlags::IN)];
        if out {
            all.push(PollFd::new(&stdout, PollFlags::IN));
        }
        if err {
            all.push(PollFd::new(&stderr, PollFlags::IN));
        }
        poll(&mut all, tick.as_ref()).map_err(|error| failed(error.into()))?;
        let ready: Vec<bool> = all.iter().map(|fd| !fd.revents().is_empty()).collect();
        if let Some(signal) = signals.next()
            && signal != Signal::SIGWINCH
        {
            return Err(Stopped::Signal(signal));
        }
        let mut ready = ready.into_iter().skip(1);
        if out && ready.next() == Some(true) {
            out = listen(&mut stdout, &mut said).map_err(failed)?;
        }
        if err && ready.next() == Some(true) {
            err = listen(&mut stderr, &mut said).map_err(failed)?;
        }
        step(last_line(&String::from_utf8_lossy(&said)));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Adds what has come, and keeps the end of all; false at its end.
fn listen(from: &mut impl Read, said: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 4096];
    let read = from.read(&mut piece)?;
    said.extend_from_slice(piece.get(..read).unwrap_or_default());
    said.drain(..said.len().saturating_sub(MAX_WORDS));
    Ok(read > 0)
}

fn last_line(said: &str) -> &str {
    said.trim_end().rsplit(['\n', '\r']).next().unwrap_or("")
}

/// The last lines say why.
fn explain(status: ExitStatus, said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines
        .get(lines.len().saturating_sub(8)..)
        .unwrap_or_default();
    match (last, status.signal()) {
        ([], Some(signal)) => format!("the process that does it was ended by signal {signal}"),
        ([], None) => format!("the process that does it has failed ({status})"),
        (last, _) => last
            .iter()
            .map(|line| cli::printable(line.as_bytes()))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// Whether this process is one of these.
#[must_use]
pub fn is_apart() -> bool {
    crate::is_started_with(OUTER) || crate::is_started_with(INNER)
}

/// The main function of both.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(2).collect();
    let done = match crate::is_started_with(OUTER) {
        true => outer(&words),
        false => inner(&words).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|why| {
        // The reader may have gone.
        let _ = writeln!(io::stderr(), "{why}");
        ExitCode::FAILURE
    })
}

/// Enters the namespaces, and has the inner process in them.
fn outer(words: &[OsString]) -> Result<ExitCode, String> {
    let Some((network, words)) = words.split_first() else {
        return Err("nothing is to be done".into());
    };
    die_with_parent()?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| {
        format!(
            "cannot have a user namespace, in which files of others are unpacked: {error}; the host, or the container \
             in which this runs, has to allow it (user.max_user_namespaces)"
        )
    })?;
    io::stdout()
        .write_all(b".")
        .and_then(|()| io::stdout().flush())
        .map_err(|error| cannot("speak to umladmin", &error))?;
    // Only this byte: what follows is the archive.
    let mut byte = [0];
    match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
        Ok(1) => {}
        _ => return Err("umladmin has gone".into()),
    }
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    let become_root = || -> nix::Result<()> {
        setgroups(&[group])?;
        setresgid(group, group, group)?;
        setresuid(root, root, root)
    };
    become_root().map_err(|error| cannot("become root of the namespace", &error.into()))?;
    // The change of the user has cleared it.
    die_with_parent()?;
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if network != NETWORK {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    unshare(namespaces).map_err(|error| cannot("have namespaces", &error.into()))?;
    let mut inner = Command::new("/proc/self/exe");
    let status = inner.arg(INNER).args(words).status();
    let status = status.map_err(|error| cannot("start a process", &error))?;
    Ok(match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => return Err(explain(status, "")),
    })
}

/// The first process of the namespaces.
fn inner(words: &[OsString]) -> Result<(), String> {
    die_with_parent()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|error| cannot("have mounts", &error.into()))?;
    // Directories that no archive names get usual modes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Where that is not allowed, it sees the processes of the host, and can do nothing to them.
    let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/proc", "proc", closed, None);
    match words {
        [what, kind, rest @ ..] if what == UNPACK => unpack::run(kind == "layer", rest.first()),
        [what, program, rest @ ..] if what == EXECUTE => {
            let error = Command::new(program).args(rest).stdin(Stdio::null()).exec();
            Err(cannot(&format!("run {}", program.display()), &error))
        }
        _ => Err("nothing is to be done".into()),
    }
}

fn die_with_parent() -> Result<(), String> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| cannot("end with umladmin", &error.into()))
}
