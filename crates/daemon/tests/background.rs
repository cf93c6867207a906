//! Going to the background, with real processes: this program is the test and, with arguments, the daemon. It has no
//! test harness, as that would have several threads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use daemon::{LogHandle, LogTo, PidFile, aside, background};
use files::LogDir;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let dir = tempfile::tempdir;
    match args.get(1).map(String::as_str) {
        Some("daemon") => return daemon(&args[2], Path::new(&args[3])),
        // The list of tests, as asked for by cargo's other tools.
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    what_is_done_aside_leaves_nothing();
    readiness_and_end(dir().unwrap().path());
    failures(dir().unwrap().path());
    foreground(dir().unwrap().path());
    println!("test background ... ok");
    ExitCode::SUCCESS
}

/// The daemon: tells about itself on the socket `ctrl` and ends when that is closed.
fn daemon(how: &str, dir: &Path) -> ExitCode {
    let pid_files = match PidFile::lock(&dir.join("vm1.pid")) {
        Ok(file) => [file],
        Err(error) => {
            eprintln!("umlmon: vm1: {error}");
            return ExitCode::FAILURE;
        }
    };
    let listener = UnixListener::bind(dir.join(format!("ctrl-{how}"))).unwrap();
    let to = LogTo {
        file: Some((LogDir::open(dir).unwrap(), "monitor".parse().unwrap())),
        limit: 0,
        stderr: how == "fg",
    };
    LogHandle::init("vm1", to).unwrap();
    let readiness = background(how == "fg", &pid_files).unwrap();
    match how {
        "fail" => {
            assert!(readiness.failed(3, "umlmon: vm1: cannot bind"));
            return ExitCode::SUCCESS;
        }
        "die" => return ExitCode::SUCCESS,
        _ => readiness.ready().unwrap(),
    }
    assert!(!readiness.failed(1, "too late"));
    tracing::info!("ready");
    let (mut client, _) = listener.accept().unwrap();
    write!(client, "{}", about_me()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    ExitCode::SUCCESS
}

fn about_me() -> String {
    let link = |what: &str| fs::read_link(format!("/proc/self/{what}")).unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    format!(
        "pid {} session {} tty {} cwd {} stdio {} {} {}",
        std::process::id(),
        after_name[3],
        after_name[4],
        link("cwd").display(),
        link("fd/0").display(),
        link("fd/1").display(),
        link("fd/2").display(),
    )
}

fn start(how: &str, dir: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("daemon").arg(how).arg(dir).output().unwrap()
}

fn connect(dir: &Path, how: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(dir.join(format!("ctrl-{how}"))).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (stream, text)
}

/// Waits until the daemon has removed its pid file and the lock is free.
fn wait_for_end(pid_file: &Path, pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    // A pidfd becomes readable when the process ends; if it has ended already there is none.
    let flags = rustix::process::PidfdFlags::empty();
    if let Ok(process) = rustix::process::pidfd_open(pid, flags) {
        let mut fds = [rustix::event::PollFd::new(
            &process,
            rustix::event::PollFlags::IN,
        )];
        let deadline = rustix::event::Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut fds, Some(&deadline)).unwrap(), 1);
    }
    assert!(!pid_file.exists());
}

fn what_is_done_aside_leaves_nothing() {
    let here = std::process::id();
    let mut left = 0;
    // More than a pipe takes at once.
    let long = aside(|| {
        left = 1;
        assert_ne!(std::process::id(), here);
        vec![b'x'; 1 << 20]
    });
    assert_eq!(long.unwrap(), vec![b'x'; 1 << 20]);
    assert_eq!(left, 0);
    let killed = aside(|| {
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
        Vec::new()
    });
    assert!(killed.is_err());
    let any = rustix::process::waitpid(None, rustix::process::WaitOptions::NOHANG);
    assert_eq!(any.unwrap_err(), rustix::io::Errno::CHILD);
}

fn readiness_and_end(dir: &Path) {
    let pid_file = dir.join("vm1.pid");
    // The output ends here, so nothing of the daemon holds the terminal (here: the pipe of stderr) any more.
    let first = start("ok", dir);
    assert_eq!(
        (first.status.code(), &first.stderr[..]),
        (Some(0), &b""[..])
    );
    let pid = PidFile::holder(&pid_file).unwrap().expect("locked");

    let second = start("ok", dir);
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8(second.stderr).unwrap();
    assert_eq!(told, format!("umlmon: vm1: already running, pid {pid}\n"));

    let (stream, about) = connect(dir, "ok");
    let words: Vec<&str> = about.split(' ').collect();
    assert_eq!(words[1], pid.to_string());
    assert_ne!(words[3], words[1], "not the leader of its session");
    let rest = [
        "tty",
        "0",
        "cwd",
        "/",
        "stdio",
        "/dev/null",
        "/dev/null",
        "/dev/null",
    ];
    assert_eq!(words[4..], rest);
    drop(stream);
    wait_for_end(&pid_file, pid);
    let log = fs::read_to_string(dir.join("monitor")).unwrap();
    assert!(
        log.ends_with(" INFO vm1: ready\n") && log.lines().count() == 1,
        "{log}"
    );
}

fn failures(dir: &Path) {
    let refused = start("fail", dir);
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(refused.stderr, b"umlmon: vm1: cannot bind\n");
    let died = start("die", dir);
    assert_eq!(died.status.code(), Some(1));
    assert_eq!(
        died.stderr,
        b"the daemon ended before it was ready; see its log\n"
    );
}

fn foreground(dir: &Path) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("daemon").arg("fg").arg(dir);
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.ends_with(" INFO vm1: ready\n"), "{line}");
    assert_eq!(
        PidFile::holder(&dir.join("vm1.pid")).unwrap(),
        Some(child.id())
    );
    drop(connect(dir, "fg"));
    assert!(child.wait().unwrap().success());
    assert!(!dir.join("vm1.pid").exists());
}
