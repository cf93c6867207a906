//! A VM that has outlived its monitor (umladmin). The monitor has left a record, `VARDIR/VM/run`, from which the next
//! one takes the VM over. Only root can read it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use config::{Config, VmName};
use daemon::{ProcessStat, boot};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;

use crate::wait;

/// The longest record that is read, in bytes.
const MAX: u64 = 1 << 20;
/// How long processes may take to end that are killed.
const LIMIT: Duration = Duration::from_secs(5);

/// What of a record tells whether its VM lives; the same in all formats.
#[derive(Debug, Deserialize)]
struct Record {
    /// The boot of the host.
    boot: String,
    child: Child,
}

/// A process.
#[derive(Debug, Deserialize)]
struct Child {
    pid: u32,
    /// When it was started (proc_pid_stat(5), starttime).
    start: u64,
}

/// The process that is the VM, if that lives. To be asked when its monitor does not run.
pub fn of(config: &Config, vm: &VmName) -> Option<u32> {
    let record = read(&config.global.vm_dir(vm).join("run"))?;
    let lives = record.boot == boot().ok()? && started(record.child.pid)? == record.child.start;
    lives.then_some(record.child.pid)
}

fn read(path: &Path) -> Option<Record> {
    let about = fs::symlink_metadata(path).ok()?;
    // The directory is root's; whatever else is there is no record.
    if !about.is_file() || about.uid() != 0 || about.len() > MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// When the process with this number was started, unless it has ended.
fn started(pid: u32) -> Option<u64> {
    let stat = ProcessStat::of(pid).ok().filter(|stat| !stat.has_ended)?;
    Some(stat.start)
}

/// Ends the processes of a VM that has outlived its monitor; says whether it has.
///
/// # Errors
/// Those of pidfd_send_signal(2).
pub fn end(config: &Config, vm: &VmName) -> io::Result<bool> {
    let number = of(config, vm).and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let Some(fd) = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return Ok(false);
    };
    // The number may have become another process's before it was held.
    if of(config, vm).is_none() {
        return Ok(false);
    }
    match pidfd_send_signal(&fd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    wait::readable(&fd, Instant::now() + LIMIT, &|| true)
}

/// What is to be done with a VM that has outlived its monitor.
pub fn advice(vm: &VmName) -> String {
    format!("it has outlived its monitor; 'umladmin update {vm}' gives it another one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_known_by_boot_and_start() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("[GLOBAL]\nvardir = {}\n", dir.path().display());
        let config = Config::parse(&text, &dir.path().join("umlmon")).unwrap();
        let vm = VmName::try_from("vm1").unwrap();
        assert_eq!(of(&config, &vm), None);
        let file = config.global.vm_dir(&vm).join("run");
        fs::create_dir(config.global.vm_dir(&vm)).unwrap();
        let is_root = fs::metadata(dir.path()).unwrap().uid() == 0;
        let (us, boot) = (std::process::id(), boot().unwrap());
        let boot = boot.as_str();
        let start = started(us).unwrap();
        for (boot, pid, start, lives) in [
            (boot, us, start, is_root),
            ("another", us, start, false),
            (boot, us, start + 1, false),
            (boot, u32::MAX, start, false),
        ] {
            let child = format!(r#"{{"pid":{pid},"start":{start}}}"#);
            let record = format!(r#"{{"format":7,"boot":"{boot}","child":{child},"more":[]}}"#);
            fs::write(&file, record).unwrap();
            assert_eq!(
                of(&config, &vm),
                lives.then_some(us),
                "{boot} {pid} {start}"
            );
        }
        fs::write(&file, "{").unwrap();
        assert_eq!(of(&config, &vm), None);
    }
}
