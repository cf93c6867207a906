//! What is known of monitors without calling them: whether they run, and as which process (umladmin, and the other
//! programs that make VMs).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use config::{Config, VmName};
use daemon::Home;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};

use crate::wait;

/// How soon it is checked again, if it is still held after the process has ended.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a process that ends may have no files any more, and still their locks.
const ENDING: Duration = Duration::from_secs(1);

/// The VMs whose monitors run, configured or not; sorted. Each has a directory below `vardir`, or a file in `rundir`.
///
/// # Errors
/// Those of readdir(3), but for a directory that is missing.
pub fn running(config: &Config) -> io::Result<Vec<VmName>> {
    let global = &config.global;
    let mut vms = BTreeSet::new();
    for (directory, suffix) in [(&global.vardir, ""), (&global.rundir, ".pid")] {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let name = entry?.file_name();
            // Other daemons are there, too; their names are not names of VMs.
            let vm = name.to_str().and_then(|name| name.strip_suffix(suffix));
            vms.extend(vm.and_then(|vm| VmName::try_from(vm).ok()));
        }
    }
    vms.retain(|vm| !matches!(Home::of_monitor(global, vm).holder(), Ok(None)));
    Ok(vms.into_iter().collect())
}

/// The socket of a running monitor: where the configuration says, or, if `vardir` was changed since the monitor
/// started, in the directory that its process holds (see proc_pid_fd(5)).
pub fn ctrl(config: &Config, vm: &VmName, pid: u32) -> PathBuf {
    let configured = config.global.ctrl(vm);
    if configured.exists() {
        return configured;
    }
    let name = configured.file_name().unwrap_or_default();
    let held = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let mut sockets = held
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.ends_with(vm.as_str()))
        .map(|directory| directory.join(name));
    sockets.find(|path| path.exists()).unwrap_or(configured)
}

/// The process of a monitor, held by a pidfd so that its number cannot be reused.
#[derive(Debug)]
pub struct Process<'a> {
    home: &'a Home,
    pid: u32,
    fd: Option<OwnedFd>,
}

impl<'a> Process<'a> {
    /// The monitor that runs as `pid`, or nothing to wait for if it has just ended. An error if we may not
    /// end it, or if another process has got the number of a monitor.
    pub fn open(home: &'a Home, pid: u32) -> io::Result<Process<'a>> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other(format!("{pid} is no process ID")))?;
        let fd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Some(fd),
            Err(rustix::io::Errno::SRCH) => None,
            Err(e) => return Err(e.into()),
        };
        match test_kill_process(number) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(e.into()),
        }
        let process = Process { home, pid, fd };
        let until = Instant::now() + ENDING;
        while process.fd.is_some()
            && !home.is_of(pid)?
            && process.is_running().map_err(io::Error::other)?
        {
            if Instant::now() >= until {
                return Err(io::Error::other(format!(
                    "it is another process; who has locked {0} is not known (fuser -v {0} shows it)",
                    home.pid_file().display()
                )));
            }
            std::thread::sleep(AGAIN);
        }
        Ok(process)
    }

    /// Whether it still is the monitor.
    ///
    /// # Errors
    /// Those of looking at the lock.
    pub fn is_running(&self) -> Result<bool, daemon::Error> {
        match self.home.holder() {
            Ok(holder) => Ok(holder == Some(self.pid)),
            // Another monitor of the same VM.
            Err(daemon::Error::Starting { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Sends a signal, if it is still the monitor.
    ///
    /// # Errors
    /// If that cannot be sent.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let Some(fd) = &self.fd else {
            return Ok(());
        };
        if !self.is_running().map_err(|e| e.to_string())? {
            return Ok(());
        }
        match pidfd_send_signal(fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(format!(
                "cannot send a signal to the monitor, pid {}: {e}",
                self.pid
            )),
        }
    }

    /// Waits for its end or until then, whichever comes first; calls `go_on` from time to time.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&self, until: Instant, go_on: &dyn Fn() -> bool) -> io::Result<()> {
        loop {
            let ended = match &self.fd {
                Some(fd) => wait::readable(fd, until, go_on)?,
                None => true,
            };
            if !ended || self.is_running().is_ok_and(|held| !held) {
                return Ok(());
            }
            if Instant::now() >= until || !go_on() {
                return Ok(());
            }
            std::thread::sleep(AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use daemon::PidFile;

    use super::*;

    #[test]
    fn only_locked_files_of_vms_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("umlmon");
        let run = dir.path().join("run");
        let config = |run: &Path| {
            let var = dir.path().join("var");
            let text = format!(
                "[GLOBAL]\nvardir = {}\nrundir = {}\n",
                var.display(),
                run.display()
            );
            Config::parse(&text, &path).unwrap()
        };
        assert_eq!(running(&config(&run)).unwrap(), []);
        fs::create_dir(&run).unwrap();
        let locks = ["b.pid", "a.pid", "directory.pid", "no.lock"]
            .map(|name| PidFile::lock(&run.join(name)).unwrap());
        fs::write(run.join("stale.pid"), "1\n").unwrap();
        fs::write(run.join("x y.pid"), "1\n").unwrap();
        let names: Vec<String> = running(&config(&run))
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["a", "b"]);
        drop(locks);
        assert_eq!(running(&config(&run)).unwrap(), []);
    }

    #[test]
    fn a_monitor_is_found_where_it_was_started() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("[GLOBAL]\nvardir = {}\n", dir.path().join("new").display());
        let config = Config::parse(&text, &dir.path().join("umlmon")).unwrap();
        let vm = VmName::try_from("vm1").unwrap();
        let old = dir.path().join("old/vm1/ctrl");
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        let pid = std::process::id();
        assert_eq!(ctrl(&config, &vm, pid), config.global.ctrl(&vm));
        let _socket = std::os::unix::net::UnixListener::bind(&old).unwrap();
        let _held = fs::File::open(old.parent().unwrap()).unwrap();
        assert_eq!(ctrl(&config, &vm, pid), old);
    }

    /// The home of vm1, and its pid file.
    fn home(dir: &Path) -> (Home, PathBuf) {
        let shown = dir.display();
        let text = format!("[GLOBAL]\nvardir = {shown}/var\nrundir = {shown}\n");
        let config = Config::parse(&text, &dir.join("umlmon")).unwrap();
        let vm = VmName::try_from("vm1").unwrap();
        (
            Home::of_monitor(&config.global, &vm),
            config.global.pid_file(&vm),
        )
    }

    #[test]
    fn a_monitor_that_is_gone_is_neither_signalled_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (home, pid_file) = home(dir.path());
        // This process lives, but does not hold the lock: it must get no signal.
        let process = Process::open(&home, std::process::id()).unwrap();
        process.signal(Signal::KILL).unwrap();
        let lock = PidFile::lock(&pid_file).unwrap();
        lock.write().unwrap();
        assert!(process.is_running().unwrap());
        Process::open(&home, std::process::id()).unwrap();
        drop(lock);
        assert!(!process.is_running().unwrap());
    }

    #[test]
    fn a_process_that_has_got_the_number_of_a_monitor_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (home, pid_file) = home(dir.path());
        let mut stranger = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let lock = PidFile::lock(&pid_file).unwrap();
        fs::write(&pid_file, format!("{}\n", stranger.id())).unwrap();
        let error = Process::open(&home, stranger.id()).unwrap_err();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(lock);
    }
}
