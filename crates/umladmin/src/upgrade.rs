//! `umladmin upgrade`: monitors go on with the program that is on the disk now, while their VMs run (umladmin).
//!
//! A monitor that gets SIGUSR2 executes the new program in its place, which takes the VM over. One that cannot do that
//! goes on, and says why in its log.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use client::Client;
use config::{Config, VmName};
use daemon::Home;
use monitors::{
    process::{self, Process},
    survivor,
};
use rpc_xdr::umlmonctrl::{LogReadArgs, LogTailArgs};
use rustix::process::Signal;

use crate::report::{Report, table};
use crate::selection;

/// How long a monitor may take to answer as another program, or to say that it goes on.
const LIMIT: Duration = Duration::from_secs(30);
/// How long it may take for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is looked at.
const AGAIN: Duration = Duration::from_millis(20);
/// What a monitor says in its log if it cannot be replaced, before the reason.
const GOES_ON: &str = "this monitor goes on: ";
/// What the host adds to the name of a program whose file was removed (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// The result for one VM.
struct Upgrade {
    vm: String,
    /// The release before and after; empty if it is not known.
    was: String,
    is: String,
    result: Result<&'static str, String>,
}

/// One after the other: if the new program is of no use, as few VMs as possible learn of it.
pub(crate) fn run(config: &Config, names: &[&str]) -> Result<Exit, Failure> {
    let report = Report::new();
    let mut vms = selection::named_or_all(config, names)?;
    if names.is_empty() {
        let running = process::running(config)
            .map_err(|error| Failure::from(error).about("cannot find out which monitors run"))?;
        vms.retain(|vm| running.contains(vm) || survivor::of(config, vm).is_some());
        vms.extend(
            running
                .into_iter()
                .filter(|vm| !selection::is_configured(config, vm)),
        );
        if vms.is_empty() {
            report.print("Nothing to do: no monitor runs.\n")?;
        }
    }
    let done: Vec<Upgrade> = vms.iter().map(|vm| upgrade(config, vm, &report)).collect();
    if !done.is_empty() {
        let heading = ["VM", "WAS", "IS", "RESULT"].map(String::from);
        let rows = done.iter().map(Upgrade::row);
        report.print(&table(std::iter::once(heading).chain(rows)))?;
    }
    let exit = match done.iter().all(|upgrade| upgrade.result.is_ok()) {
        true => Exit::Done,
        false => Exit::Failed,
    };
    Ok(selection::tell_nameless(config, names, &report, exit))
}

impl Upgrade {
    fn row(&self) -> [String; 4] {
        let or_dash = |text: &str| match text {
            "" => "-".to_owned(),
            text => text.to_owned(),
        };
        let result = self.result.as_ref().map_or("failed", |result| result);
        [
            self.vm.clone(),
            or_dash(&self.was),
            or_dash(&self.is),
            result.to_owned(),
        ]
    }
}

fn upgrade(config: &Config, vm: &VmName, report: &Report) -> Upgrade {
    let mut upgrade = Upgrade {
        vm: vm.to_string(),
        was: String::new(),
        is: String::new(),
        result: Ok("off"),
    };
    upgrade.result = upgrade.carry_out(config, vm);
    if let Err(why) = &upgrade.result {
        report.error(&upgrade.vm, why);
    }
    upgrade
}

impl Upgrade {
    fn carry_out(&mut self, config: &Config, vm: &VmName) -> Result<&'static str, String> {
        let home = Home::of_monitor(&config.global, vm);
        let Some(pid) = home.holder().map_err(|error| error.to_string())? else {
            return match (survivor::of(config, vm), config.vm(vm)) {
                (Some(_), _) => Err(survivor::advice(vm)),
                (None, Ok(_)) => Ok("off"),
                (None, Err(fault)) => Err(fault.to_string()),
            };
        };
        let process = Process::open(&home, pid)
            .map_err(|error| format!("its monitor, pid {pid}, is out of reach: {error}"))?;
        let client = || Client::at(vm, process::ctrl(config, vm, pid)).with_limit(ANSWER);
        let version = || client().info().map(|info| info.daemon_version);
        self.was = version().unwrap_or_default();
        self.is.clone_from(&self.was);
        let before = executed(pid)?;
        if before == on_disk(pid)? {
            return Ok("up to date");
        }
        if !heeds(pid)? {
            let why = "its monitor is of a release that cannot be replaced while the VM runs; 'umladmin stop' and \
                       'umladmin start' do it";
            return Err(why.to_owned());
        }
        let log_end = log_end(&mut client());
        process.signal(Signal::USR2)?;
        let until = Instant::now() + LIMIT;
        while executed(pid).is_ok_and(|program| program == before) {
            if let Some(why) = log_end.and_then(|end| reason(&mut client(), end)) {
                return Err(format!("not replaced: {why}"));
            }
            if Instant::now() >= until {
                return Err("its monitor does not react; its log may say why".to_owned());
            }
            thread::sleep(AGAIN);
        }
        self.is = loop {
            match version() {
                Ok(version) if home.holder().is_ok_and(|holder| holder == Some(pid)) => {
                    break version;
                }
                Err(failure) if Instant::now() >= until => {
                    let advice = survivor::of(config, vm).map(|_| survivor::advice(vm));
                    let advice = advice.unwrap_or_else(|| "its log may say why".to_owned());
                    return Err(format!(
                        "the new program does not answer: {failure}; {advice}"
                    ));
                }
                _ if Instant::now() >= until => {
                    return Err("another monitor has taken its place".to_owned());
                }
                _ => thread::sleep(AGAIN),
            }
        };
        Ok("upgraded")
    }
}

/// The file of the program that a process executes: device and inode.
fn executed(pid: u32) -> Result<(u64, u64), String> {
    identity(Path::new(&format!("/proc/{pid}/exe")))
}

/// The file that is by now where that program was.
fn on_disk(pid: u32) -> Result<(u64, u64), String> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).map_err(|error| format!("{link}: {error}"))?;
    identity(&without_remark(path))
}

/// The path that a program had before its file was removed.
fn without_remark(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(former) => std::ffi::OsString::from_vec(former.to_vec()).into(),
        None => path,
    }
}

fn identity(path: &Path) -> Result<(u64, u64), String> {
    let about = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((about.dev(), about.ino()))
}

/// Whether a process does something at SIGUSR2, which ends others.
fn heeds(pid: u32) -> Result<bool, String> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    Ok(is_held(&status, Signal::USR2))
}

/// Whether a signal is blocked or caught, by proc_pid_status(5).
fn is_held(status: &str, signal: Signal) -> bool {
    let bit = 1_u64 << (signal.as_raw() - 1);
    let masks = status.lines().filter_map(|line| {
        let (name, mask) = line.split_once(':')?;
        ["SigBlk", "SigCgt"].contains(&name).then_some(mask.trim())
    });
    let mut masks = masks.filter_map(|mask| u64::from_str_radix(mask, 16).ok());
    masks.any(|mask| mask & bit != 0)
}

/// Where the log of a monitor ends.
fn log_end(client: &mut Client) -> Option<u64> {
    let args = LogTailArgs {
        file: "monitor".to_owned(),
        lines: 1,
    };
    let range = client.call(|monitor| Ok(monitor.log_tail(&args)?.into_result()));
    range.ok().map(|range| range.end)
}

/// Why a monitor goes on, if it has said so in its log after this place.
fn reason(client: &mut Client, after: u64) -> Option<String> {
    let args = LogReadArgs {
        file: "monitor".to_owned(),
        offset: after,
        max: 65_536,
    };
    let chunk = client.call(|monitor| Ok(monitor.log_read(&args)?.into_result()));
    let text = String::from_utf8_lossy(&chunk.ok()?.data).into_owned();
    let line = text.lines().find_map(|line| line.split_once(GOES_ON));
    line.map(|(_, why)| why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_end_gets_no_signal() {
        let status = |blocked: &str, caught: &str| {
            let text = format!(
                "Name:\tx\nSigBlk:\t{blocked}\nSigIgn:\t0000000000000800\nSigCgt:\t{caught}\n"
            );
            is_held(&text, Signal::USR2)
        };
        let (none, all) = ("0000000000000000", "0000000000000800");
        assert!(!status(none, none));
        assert!(status(all, none) && status(none, all));
        assert!(!status("0000000000000400", "fffffffffffff7ff"));
    }

    #[test]
    fn a_removed_program_had_a_path() {
        let path = |text: &str| without_remark(PathBuf::from(text));
        assert_eq!(
            path("/usr/sbin/umlmon (deleted)"),
            Path::new("/usr/sbin/umlmon")
        );
        assert_eq!(path("/usr/sbin/umlmon"), Path::new("/usr/sbin/umlmon"));
    }
}
