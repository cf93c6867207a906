//! A VM as it is configured: the main configuration file merged with the user changes, and checked as a whole. Used by
//! every program but umldir.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::names::{DiskName, JailPath, LogName, VmName};
use crate::net::{Nic, Transport};
use crate::params::{PARAMS, Section, Set};
use crate::password::Password;
use crate::setting::{Assignment, Origin, Setting, expand};
use crate::values::{Scheduler, StartType, SyncDisks, Terminal};

/// Most additional kernel arguments of a VM.
const MAX_KERNELARGS: usize = 64;

/// The effective configuration of a VM, each field as described in umlmon(5).
#[derive(Debug, Clone, PartialEq)]
pub struct Vm {
    /// The name, which is that of the section.
    pub name: VmName,
    /// The user as which the VM runs.
    pub vmuser: String,
    /// The main group; None means that of the user.
    pub vmgroup: Option<String>,
    /// Scheduling class and priority.
    pub scheduler: Option<Scheduler>,
    /// The chroot jail.
    pub jaildir: PathBuf,
    /// Where the logs are; not in the jail.
    pub logdir: PathBuf,
    /// The log of the monitor.
    pub logfile: Option<LogName>,
    /// The kernel. There is no start without it, but a monitor.
    pub kernel: Option<JailPath>,
    /// Additional kernel arguments, those of the administrator first.
    pub kernelargs: Vec<String>,
    /// Memory in megabytes, at most `mem_limit`.
    pub mem: u32,
    /// The limit for `mem`.
    pub mem_limit: Option<u32>,
    /// Consoles by number.
    pub con: BTreeMap<u8, Terminal>,
    /// Serial lines by number.
    pub ssl: BTreeMap<u8, Terminal>,
    /// How much of each console is kept in memory, in kilobytes.
    pub history: u32,
    /// How large the log of a console grows, in megabytes; 0: no limit.
    pub log_limit: u32,
    /// Each line in the log of a console begins with the time.
    pub log_timestamps: bool,
    /// Disks by number.
    pub ubd: BTreeMap<u8, DiskName>,
    /// The disks opened in synchronous mode.
    pub sync_disks: SyncDisks,
    /// Network interfaces by number.
    pub eth: BTreeMap<u8, Nic>,
    /// How the kernel is connected with the network interfaces on the host.
    pub transport: Transport,
    /// How many processes of the host the VM can have.
    pub pids_limit: u32,
    /// How many megabytes of the host's memory the VM can use beyond `mem`.
    pub overhead_limit: u32,
    /// The password of TCP connections.
    pub password: Option<Password>,
    /// How far it is started when the system boots.
    pub start: StartType,
    settings: Vec<Setting>,
}

impl Vm {
    /// The parameters in effect in the order of the table, defaults included; a password is shown as `(set)`.
    pub fn settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }

    /// Nothing set, not even the defaults; for trying values.
    pub(crate) fn blank() -> Vm {
        Vm {
            name: VmName::placeholder(),
            vmuser: String::new(),
            vmgroup: None,
            scheduler: None,
            jaildir: PathBuf::new(),
            logdir: PathBuf::new(),
            logfile: None,
            kernel: None,
            kernelargs: Vec::new(),
            mem: 0,
            mem_limit: None,
            con: BTreeMap::new(),
            ssl: BTreeMap::new(),
            history: 0,
            log_limit: 0,
            log_timestamps: false,
            ubd: BTreeMap::new(),
            sync_disks: SyncDisks::All,
            eth: BTreeMap::new(),
            transport: Transport::Auto,
            pids_limit: 0,
            overhead_limit: 0,
            password: None,
            start: StartType::Manual,
            settings: Vec::new(),
        }
    }

    /// From merged assignments in the order of the table, and the defaults for the rest.
    pub(crate) fn build(global: &Global, name: &VmName, merged: &[Assignment]) -> Result<Vm> {
        let mut vm = Vm {
            name: name.clone(),
            ..Vm::blank()
        };
        for param in PARAMS.iter().filter(|p| p.section == Section::Vm) {
            let Set::Vm(set) = param.set else { continue };
            let mut given = false;
            for a in merged.iter().filter(|a| a.is_param(param, a.index)) {
                set(&mut vm, a.index, &a.value).map_err(|e| a.blame(e.of(&a.name())))?;
                vm.settings.push(a.setting());
                given = true;
            }
            if given {
                continue;
            }
            if param.required {
                return Err(Error::Missing {
                    vm: name.to_string(),
                    param: param.name,
                });
            }
            if let Some(default) = param.default {
                let value = expand(default, &global.vardir, name.as_str());
                set(&mut vm, 0, &value).map_err(|e| e.of(param.name))?;
                vm.settings.push(Setting {
                    param: param.name.to_owned(),
                    value,
                    origin: Origin::Default,
                });
            }
        }
        vm.check_memory(merged)?;
        vm.check_directories(global)?;
        check_logs(merged, &vm)?;
        check_proxies(merged, &vm)?;
        vm.check_kernelargs(merged)?;
        Ok(vm)
    }

    fn check_memory(&self, merged: &[Assignment]) -> Result<()> {
        if self.mem_limit.is_none_or(|limit| self.mem <= limit) {
            return Ok(());
        }
        let shown = |name| {
            merged
                .iter()
                .find(|a| a.param.name == name)
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        Err(Error::Conflict(format!(
            "{} is more than {}",
            shown("mem"),
            shown("mem_limit")
        )))
    }

    /// The jail belongs to the VM: logs in it would be the VM's to forge, and jail and shared directory would be mounted
    /// into themselves.
    fn check_directories(&self, global: &Global) -> Result<()> {
        let jail = &self.jaildir;
        let conflict = |what: &str, other: &PathBuf| {
            let (jail, other) = (jail.display(), other.display());
            Err(Error::Conflict(format!(
                "[{}]: the jail {jail} and the {what} {other} must not contain each other",
                self.name
            )))
        };
        if self.logdir.starts_with(jail) {
            return conflict("log directory", &self.logdir);
        }
        if global.shared.starts_with(jail) || jail.starts_with(&global.shared) {
            return conflict("shared directory", &global.shared);
        }
        if global.vardir.starts_with(jail) {
            return conflict("data directory", &global.vardir);
        }
        Ok(())
    }

    fn check_kernelargs(&self, merged: &[Assignment]) -> Result<()> {
        match merged.iter().rfind(|a| a.param.name == "kernelarg") {
            Some(last) if self.kernelargs.len() > MAX_KERNELARGS => {
                let why = format!("there are more than {MAX_KERNELARGS} kernel arguments");
                Err(last.blame(Error::Conflict(why).of("kernelarg")))
            }
            _ => Ok(()),
        }
    }
}

/// Every log has one writer: otherwise a guest could write into the monitor's log through a console.
fn check_logs(merged: &[Assignment], vm: &Vm) -> Result<()> {
    let log_of = |a: &Assignment| match a.param.name {
        "logfile" => vm.logfile.clone(),
        "con" => vm
            .con
            .get(&a.index)
            .and_then(|terminal| terminal.logfile.clone()),
        "ssl" => vm
            .ssl
            .get(&a.index)
            .and_then(|terminal| terminal.logfile.clone()),
        _ => None,
    };
    distinct(merged, log_of, "the same log file")
}

/// Every interface of the host has one VM interface behind it.
fn check_proxies(merged: &[Assignment], vm: &Vm) -> Result<()> {
    let proxy_of = |a: &Assignment| match a.param.name {
        "eth" => vm.eth.get(&a.index).and_then(Nic::proxy_if).cloned(),
        _ => None,
    };
    distinct(merged, proxy_of, "the same proxy_if")
}

fn distinct<K: Ord>(
    merged: &[Assignment],
    key: impl Fn(&Assignment) -> Option<K>,
    what: &str,
) -> Result<()> {
    let mut users: BTreeMap<K, &Assignment> = BTreeMap::new();
    for a in merged {
        let Some(key) = key(a) else { continue };
        if let Some(first) = users.insert(key, a) {
            return Err(Error::Conflict(format!("{first} and {a} use {what}")));
        }
    }
    Ok(())
}
