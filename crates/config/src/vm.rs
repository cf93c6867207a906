//! A VM as it is configured. Used by every program but umldir.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::affinity::Affinity;
use crate::names::{DiskName, GroupName, JailPath, LogName, TemplateName, VmName};
use crate::net::{Nic, Transport};
use crate::password::Password;
use crate::setting::Setting;
use crate::share::Share;
use crate::values::{MemoryUse, Scheduler, StartType, SyncDisks, Terminal, Userspace};

/// The effective configuration of a VM, each field as described in umlmon(5).
#[derive(Debug, Clone, PartialEq)]
pub struct Vm {
    /// The name, which is that of the section.
    pub name: VmName,
    /// The template that its section uses.
    pub template: Option<TemplateName>,
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
    /// The kernel. Without it the monitor can run, but the VM cannot be started.
    pub kernel: Option<JailPath>,
    /// Additional kernel arguments, those of the administrator first.
    pub kernelargs: Vec<String>,
    /// Memory in megabytes, at most `mem_limit`.
    pub mem: u32,
    /// The limit for `mem`.
    pub mem_limit: Option<u32>,
    /// Whether an idle guest gives memory back.
    pub memory: MemoryUse,
    /// Consoles by number.
    pub con: BTreeMap<u8, Terminal>,
    /// Serial lines by number.
    pub ssl: BTreeMap<u8, Terminal>,
    /// How much of each console is kept in memory, in kilobytes.
    pub history: u32,
    /// Processor time, in percent of one processor; 0: no limit.
    pub cpu_limit: u32,
    /// How its kernel runs the programs of the guest.
    pub userspace: Userspace,
    /// How many processors the guest has.
    pub cpus: u32,
    /// The processors of the host on which it runs.
    pub affinity: Affinity,
    /// How large a log grows, in megabytes; 0: no limit.
    pub log_limit: u32,
    /// How large all logs may be together, in megabytes; 0: no limit.
    pub log_quota: u32,
    /// Each line in the log of a console begins with the time.
    pub log_timestamps: bool,
    /// Disks by number.
    pub ubd: BTreeMap<u8, DiskName>,
    /// The disks opened in synchronous mode.
    pub sync_disks: SyncDisks,
    /// Directories of the host that the guest can use, by number.
    pub shares: BTreeMap<u8, Share>,
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
    /// The groups that it is in, by which umladmin selects VMs.
    pub groups: Vec<GroupName>,
    /// VMs with a lower number are started before it.
    pub boot_order: u32,
    /// How long VMs with a higher number wait after its start, in seconds.
    pub boot_delay: u32,
    /// See [`Vm::settings`].
    pub(crate) settings: Vec<Setting>,
}

impl Vm {
    /// The parameters in effect in the order of the table, defaults included; a password is shown as `(set)`.
    pub fn settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }

    /// The names of its log files.
    pub fn logs(&self) -> impl Iterator<Item = &LogName> {
        let terminals = self.con.values().chain(self.ssl.values());
        let of_terminals = terminals.filter_map(|terminal| terminal.logfile.as_ref());
        self.logfile.iter().chain(of_terminals)
    }

    /// It runs as a user of its own from `user_pool`.
    pub fn has_auto_user(&self) -> bool {
        self.named_user().is_none()
    }

    /// The user as which it runs; None if that is one of its own from `user_pool`.
    pub fn named_user(&self) -> Option<&str> {
        Some(self.vmuser.as_str()).filter(|user| *user != "auto")
    }

    /// Its kernel gets text about networks in its own words, a raw `eth` or a `kernelarg`, and so must see the network
    /// of the host: such text can name its interfaces. Only the administrator can give one.
    pub fn is_in_network_of_host(&self) -> bool {
        self.eth.values().any(|nic| matches!(nic, Nic::Raw(_)))
            || self.kernelargs.iter().any(|arg| is_about_networks(arg))
    }

    /// How large each log grows until it is kept under another name, in bytes; 0: without limit. It is `log_limit`, or
    /// less if there are so many logs that they and the kept ones would be larger than half of `log_quota`.
    pub fn log_bytes(&self) -> u64 {
        let bytes = |megabytes| u64::from(megabytes) << 20;
        let share = bytes(self.log_quota) / (4 * self.logs().count().max(1) as u64);
        match (bytes(self.log_limit), share) {
            (limit, 0) => limit,
            (0, _) => 0,
            (limit, share) => limit.min(share),
        }
    }

    /// Nothing set, not even the defaults; for checks of single values.
    pub(crate) fn blank() -> Vm {
        Vm {
            name: VmName::placeholder(),
            template: None,
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
            memory: MemoryUse::Fixed,
            con: BTreeMap::new(),
            ssl: BTreeMap::new(),
            history: 0,
            cpu_limit: 0,
            userspace: Userspace::Ptrace,
            cpus: 1,
            affinity: Affinity::None,
            log_limit: 0,
            log_quota: 0,
            log_timestamps: false,
            ubd: BTreeMap::new(),
            sync_disks: SyncDisks::Auto,
            shares: BTreeMap::new(),
            eth: BTreeMap::new(),
            transport: Transport::Auto,
            pids_limit: 0,
            overhead_limit: 0,
            password: None,
            start: StartType::Manual,
            groups: Vec::new(),
            boot_order: 0,
            boot_delay: 0,
            settings: Vec::new(),
        }
    }
}

/// A kernel argument `ethN...` or `vecN...`.
fn is_about_networks(argument: &str) -> bool {
    ["eth", "vec"]
        .iter()
        .filter_map(|word| argument.strip_prefix(word))
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_about_networks_are_known() {
        assert!(is_about_networks("vec0:transport=tap") && is_about_networks("eth0=tuntap"));
        assert!(!is_about_networks("ether=1") && !is_about_networks("vector"));
    }

    #[test]
    fn many_logs_are_shorter() {
        let size = |logs, log_limit, log_quota| {
            let terminal = |n| format!("pty:log{n}").parse().map(|terminal| (n, terminal));
            let vm = Vm {
                ssl: (0..logs).map(terminal).collect::<Result<_, _>>().unwrap(),
                log_limit,
                log_quota,
                ..Vm::blank()
            };
            vm.log_bytes()
        };
        assert_eq!(size(0, 100, 4096), 100 << 20);
        assert_eq!(size(10, 100, 4096), 100 << 20);
        assert_eq!(size(64, 100, 4096), 16 << 20);
        // Without one of the limits, the other one counts.
        assert_eq!(size(64, 100, 0), 100 << 20);
        assert_eq!((size(64, 0, 4096), size(1, 0, 0)), (0, 0));
    }
}
