//! The only table of parameters. Parsing, protection, defaults and printing use it; the sample file and umlmon(5) are
//! tested against it. Used by every program.

use crate::error::{Error, Result};
use crate::kernelarg::check_administrators_argument;
use crate::mac::MacPool;
use crate::names::{ChannelName, number};
use crate::password::Password;
use crate::remote::{HostName, web_address};
use crate::setting::SectionKind;
use crate::share::MAX_SHARE;
use crate::size::{kilobytes_from, megabytes_from};
use crate::subnet::Subnet;
use crate::values::{MAX_ETH, MAX_UBD, UserRange, absolute_path, account, boolean};

mod find;
mod param;

pub use find::find;
pub(crate) use find::{find_or_hint, takes_form};
pub use param::Param;
pub(crate) use param::Set;

const GLOBAL: Param = Param {
    name: "",
    indexed: None,
    section: SectionKind::Global,
    protected: false,
    required: false,
    repeatable: false,
    default: None,
    value: "",
    doc: "",
    addition: false,
    set: Set::Global(|_, _| Ok(())),
};

const VM: Param = Param {
    section: SectionKind::Vm,
    set: Set::Vm(|_, _, _| Ok(())),
    ..GLOBAL
};

const VM_PROTECTED: Param = Param {
    protected: true,
    ..VM
};

/// Parses the value and stores it.
fn put<T: std::str::FromStr<Err = Error>>(place: &mut T, text: &str) -> Result<()> {
    *place = text.parse()?;
    Ok(())
}

/// Parses the value and stores it as set.
fn put_some<T: std::str::FromStr<Err = Error>>(place: &mut Option<T>, text: &str) -> Result<()> {
    *place = Some(text.parse()?);
    Ok(())
}

/// All parameters, in the order in which they are printed.
pub const PARAMS: &[Param] = &[
    Param {
        name: "vardir",
        default: Some("/var/lib/umlmon"),
        value: "DIRECTORY",
        doc: "the data directory, where the VMs are stored",
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.vardir = path)),
        ..GLOBAL
    },
    Param {
        name: "shared",
        default: Some("VARDIR/shared"),
        value: "DIRECTORY",
        doc: "the directory that all VMs can access",
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.shared = path)),
        ..GLOBAL
    },
    Param {
        name: "rundir",
        default: Some("/var/run/umlmon"),
        value: "DIRECTORY",
        doc: "the directory of the pid files",
        addition: true,
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.rundir = path)),
        ..GLOBAL
    },
    Param {
        name: "tcp",
        default: Some("false"),
        value: "true|false",
        doc: "whether the monitors listen on TCP ports",
        set: Set::Global(|g, v| boolean(v).map(|on| g.tcp = on)),
        ..GLOBAL
    },
    Param {
        name: "tcp_redir",
        default: Some("false"),
        value: "true|false",
        doc: "whether umldir forwards TCP connections to the monitors",
        set: Set::Global(|g, v| boolean(v).map(|on| g.tcp_redir = on)),
        ..GLOBAL
    },
    Param {
        name: "listen",
        value: "ADDRESS",
        doc: "the IP address that TCP ports are opened on; all addresses by default",
        addition: true,
        set: Set::Global(|g, v| match v.parse() {
            Ok(address) => {
                g.listen = Some(address);
                Ok(())
            }
            Err(_) => Err(Error::value("an IP address", v, "")),
        }),
        ..GLOBAL
    },
    Param {
        name: "umldir_port",
        value: "PORT",
        doc: "the TCP port of umldir; by default the service umldir in /etc/services",
        addition: true,
        set: Set::Global(|g, v| number(v, 1, u16::MAX).map(|port| g.umldir_port = Some(port))),
        ..GLOBAL
    },
    Param {
        name: "umlredir_port",
        value: "PORT",
        doc: "the TCP port of the redirector; by default the service umlredir in /etc/services",
        addition: true,
        set: Set::Global(|g, v| number(v, 1, u16::MAX).map(|port| g.umlredir_port = Some(port))),
        ..GLOBAL
    },
    Param {
        name: "seal",
        default: Some("require"),
        value: "require|allow",
        doc: "whether clients on other hosts must seal what they send",
        addition: true,
        set: Set::Global(|g, v| put(&mut g.seal, v)),
        ..GLOBAL
    },
    Param {
        name: "auth",
        default: Some("any"),
        value: "any|strong",
        doc: "which versions of the login are accepted: any, or only the one that hides the password from listeners",
        addition: true,
        set: Set::Global(|g, v| put(&mut g.auth, v)),
        ..GLOBAL
    },
    Param {
        name: "host_name",
        repeatable: true,
        value: "NAME",
        doc: "a name or address by which clients call this host, if it does not know that it is its own",
        addition: true,
        set: Set::Global(|g, v| v.parse::<HostName>().map(|name| g.host_names.push(name.0))),
        ..GLOBAL
    },
    Param {
        name: "tls",
        default: Some("off"),
        value: "off|allow|require",
        doc: "whether connections from other hosts are encrypted with TLS",
        addition: true,
        set: Set::Global(|g, v| put(&mut g.tls, v)),
        ..GLOBAL
    },
    Param {
        name: "tls_certificate",
        value: "FILE",
        doc: "the certificate for TLS, with its chain, in PEM",
        addition: true,
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.tls_certificate = Some(path))),
        ..GLOBAL
    },
    Param {
        name: "tls_key",
        value: "FILE",
        doc: "the private key of the certificate, in PEM, which root alone can read",
        addition: true,
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.tls_key = Some(path))),
        ..GLOBAL
    },
    Param {
        name: "web_listen",
        default: Some("127.0.0.1:8873"),
        value: "ADDRESS:PORT",
        doc: "where umlweb listens; TLS is required unless it is a loopback address",
        addition: true,
        set: Set::Global(|g, v| web_address(v).map(|address| g.web_listen = address)),
        ..GLOBAL
    },
    Param {
        name: "web_name",
        repeatable: true,
        value: "NAME",
        doc: "a name or address by which browsers may call umlweb, besides the one that it listens on",
        addition: true,
        set: Set::Global(|g, v| v.parse::<HostName>().map(|name| g.web_names.push(name.0))),
        ..GLOBAL
    },
    Param {
        name: "web_user",
        default: Some("umlweb"),
        value: "USER",
        doc: "the user as which umlweb runs",
        addition: true,
        set: Set::Global(|g, v| account(v).map(|user| g.web_user = user)),
        ..GLOBAL
    },
    Param {
        name: "web_certificate",
        value: "FILE",
        doc: "the certificate of umlweb, with its chain, in PEM",
        addition: true,
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.web_certificate = Some(path))),
        ..GLOBAL
    },
    Param {
        name: "web_key",
        value: "FILE",
        doc: "the private key of that certificate, in PEM, which root alone can read",
        addition: true,
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.web_key = Some(path))),
        ..GLOBAL
    },
    Param {
        name: "device",
        repeatable: true,
        value: "device_file(name=NAME,target_file=FILE,group=GROUP,identity=ignore|check|update)",
        doc: "a block device of the host that the VMs can use",
        set: Set::Global(|g, v| v.parse().map(|device| g.devices.push(device))),
        ..GLOBAL
    },
    Param {
        name: "pool",
        default: Some(MacPool::DEFAULT),
        value: "mac_pool(first_mac_address=MAC,number=N)",
        doc: "the MAC addresses that are given to network interfaces",
        set: Set::Global(|g, v| put(&mut g.pool, v)),
        ..GLOBAL
    },
    Param {
        name: "nat_pool",
        default: Some(Subnet::DEFAULT),
        value: "ADDRESS/BITS",
        doc: "the addresses of the networks of nat(...)",
        addition: true,
        set: Set::Global(|g, v| put(&mut g.nat_pool, v)),
        ..GLOBAL
    },
    Param {
        name: "user_pool",
        default: Some(UserRange::DEFAULT),
        value: "FIRST-LAST",
        doc: "the user IDs of the VMs with vmuser = auto",
        addition: true,
        set: Set::Global(|g, v| put(&mut g.user_pool, v)),
        ..GLOBAL
    },
    Param {
        name: "password",
        value: "PASSWORD|MD5|VERIFIER",
        doc: "the master password of TCP connections",
        set: Set::Global(|g, v| {
            Password::from_config(v).map(|password| g.password = Some(password))
        }),
        ..GLOBAL
    },
    Param {
        name: "sitecmd",
        value: "PROGRAM",
        doc: "the program that is run by umlwatch -site",
        set: Set::Global(|g, v| absolute_path(v).map(|path| g.sitecmd = Some(path))),
        ..GLOBAL
    },
    Param {
        name: "use",
        value: "TEMPLATE",
        doc: "the template that sets what is not set here",
        addition: true,
        set: Set::Vm(|vm, _, v| put_some(&mut vm.template, v)),
        ..VM_PROTECTED
    },
    Param {
        name: "vmuser",
        required: true,
        value: "USER|auto",
        doc: "the user as which the VM runs; auto: one of its own, whose ID is of user_pool",
        set: Set::Vm(|vm, _, v| account(v).map(|user| vm.vmuser = user)),
        ..VM_PROTECTED
    },
    Param {
        name: "vmgroup",
        value: "GROUP",
        doc: "the main group as which the VM runs; by default the main group of the user",
        set: Set::Vm(|vm, _, v| account(v).map(|group| vm.vmgroup = Some(group))),
        ..VM_PROTECTED
    },
    Param {
        name: "scheduler",
        value: "sched_default(prio=N)|sched_rr(prio=N)",
        doc: "scheduling class and priority of the VM",
        set: Set::Vm(|vm, _, v| put_some(&mut vm.scheduler, v)),
        ..VM_PROTECTED
    },
    Param {
        name: "jaildir",
        default: Some("VARDIR/VMNAME/jail"),
        value: "DIRECTORY",
        doc: "the directory of the chroot jail",
        set: Set::Vm(|vm, _, v| absolute_path(v).map(|path| vm.jaildir = path)),
        ..VM_PROTECTED
    },
    Param {
        name: "logdir",
        default: Some("VARDIR/VMNAME/log"),
        value: "DIRECTORY",
        doc: "the directory of the log files",
        set: Set::Vm(|vm, _, v| absolute_path(v).map(|path| vm.logdir = path)),
        ..VM_PROTECTED
    },
    Param {
        name: "logfile",
        value: "FILE",
        doc: "the log file of the monitor",
        set: Set::Vm(|vm, _, v| put_some(&mut vm.logfile, v)),
        ..VM
    },
    Param {
        name: "kernel",
        value: "FILE",
        doc: "the UML kernel, as seen in the jail",
        set: Set::Vm(|vm, _, v| put_some(&mut vm.kernel, v)),
        ..VM
    },
    Param {
        name: "kernelarg",
        repeatable: true,
        value: "ARGUMENT",
        doc: "an additional argument of the kernel",
        set: Set::Vm(|vm, _, v| {
            check_administrators_argument(v).map(|()| vm.kernelargs.push(v.to_owned()))
        }),
        ..VM
    },
    Param {
        name: "mem",
        required: true,
        value: "SIZE",
        doc: "the memory of the VM, in megabytes if it has no letter K, M, G or T",
        set: Set::Vm(|vm, _, v| megabytes_from(1, MAX_MEM, v).map(|n| vm.mem = n)),
        ..VM
    },
    Param {
        name: "mem_limit",
        value: "SIZE",
        doc: "how many megabytes mem can be at most",
        set: Set::Vm(|vm, _, v| megabytes_from(1, MAX_MEM, v).map(|n| vm.mem_limit = Some(n))),
        ..VM_PROTECTED
    },
    Param {
        name: "memory",
        default: Some("fixed"),
        value: "fixed|elastic",
        doc: "whether what an idle guest does not use of its memory is given back to the host",
        addition: true,
        set: Set::Vm(|vm, _, v| put(&mut vm.memory, v)),
        ..VM_PROTECTED
    },
    Param {
        name: "con",
        indexed: Some(ChannelName::MAX_CON),
        value: "pty|pty:LOGFILE",
        doc: "a virtual console",
        set: Set::Vm(|vm, n, v| v.parse().map(|terminal| drop(vm.con.insert(n, terminal)))),
        ..VM
    },
    Param {
        name: "ssl",
        indexed: Some(ChannelName::MAX_SSL),
        value: "pty|pty:LOGFILE",
        doc: "a virtual serial line",
        set: Set::Vm(|vm, n, v| v.parse().map(|terminal| drop(vm.ssl.insert(n, terminal)))),
        ..VM
    },
    Param {
        name: "history",
        default: Some("256"),
        value: "SIZE",
        doc: "how much of each console is kept in memory, in kilobytes",
        addition: true,
        set: Set::Vm(|vm, _, v| kilobytes_from(16, 65536, v).map(|n| vm.history = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "log_limit",
        default: Some("100"),
        value: "SIZE",
        doc: "how large a log grows before a new one is begun, in megabytes; 0: no limit",
        addition: true,
        set: Set::Vm(|vm, _, v| megabytes_from(0, 1 << 20, v).map(|n| vm.log_limit = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "log_quota",
        default: Some("4096"),
        value: "SIZE",
        doc: "how large all files in logdir may be together, in megabytes; 0: no limit",
        addition: true,
        set: Set::Vm(|vm, _, v| megabytes_from(0, 1 << 20, v).map(|n| vm.log_quota = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "log_timestamps",
        default: Some("false"),
        value: "true|false",
        doc: "whether each line in the log of a console begins with the time",
        addition: true,
        set: Set::Vm(|vm, _, v| boolean(v).map(|yes| vm.log_timestamps = yes)),
        ..VM
    },
    Param {
        name: "ubd",
        indexed: Some(MAX_UBD),
        value: "FILE",
        doc: "a virtual disk, as seen in the jail",
        set: Set::Vm(|vm, n, v| v.parse().map(|disk| drop(vm.ubd.insert(n, disk)))),
        ..VM
    },
    Param {
        name: "sync_disks",
        default: Some("auto"),
        value: "ubdN ...|auto|all|none",
        doc: "the disks that are opened in synchronous mode",
        set: Set::Vm(|vm, _, v| put(&mut vm.sync_disks, v)),
        ..VM
    },
    Param {
        name: "share",
        indexed: Some(MAX_SHARE),
        value: "DIRECTORY[:PATH][:ro]",
        doc: "a directory of the host that the guest can use",
        addition: true,
        set: Set::Vm(|vm, n, v| v.parse().map(|share| drop(vm.shares.insert(n, share)))),
        ..VM_PROTECTED
    },
    Param {
        name: "eth",
        indexed: Some(MAX_ETH),
        value: "host_to_host(...)|bridged(...)|nat(...)|user(...)|netns(...)|TEXT",
        doc: "a virtual network interface",
        set: Set::Vm(|vm, n, v| v.parse().map(|nic| drop(vm.eth.insert(n, nic)))),
        ..VM_PROTECTED
    },
    Param {
        name: "transport",
        default: Some("auto"),
        value: "auto|vec|tuntap|fd",
        doc: "how the kernel is connected with the interfaces on the host",
        addition: true,
        set: Set::Vm(|vm, _, v| put(&mut vm.transport, v)),
        ..VM_PROTECTED
    },
    Param {
        name: "pids_limit",
        default: Some("1000"),
        value: "N",
        doc: "how many processes of the host the VM can have at most, one for each process of the guest",
        addition: true,
        set: Set::Vm(|vm, _, v| number(v, 32, 1 << 20).map(|n| vm.pids_limit = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "overhead_limit",
        default: Some("512"),
        value: "SIZE",
        doc: "how many megabytes of the host's memory the VM can use at most beyond mem",
        addition: true,
        set: Set::Vm(|vm, _, v| megabytes_from(64, MAX_MEM, v).map(|n| vm.overhead_limit = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "cpu_limit",
        default: Some("0"),
        value: "N",
        doc: "how much processor time the VM can have at most, in percent of one processor; 0: no limit",
        addition: true,
        set: Set::Vm(|vm, _, v| number(v, 0, 100_000).map(|n| vm.cpu_limit = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "userspace",
        default: Some("ptrace"),
        value: "ptrace|seccomp|auto",
        doc: "how the kernel runs the programs of the guest; seccomp is faster, and they can reach the kernel's memory",
        addition: true,
        set: Set::Vm(|vm, _, v| put(&mut vm.userspace, v)),
        ..VM_PROTECTED
    },
    Param {
        name: "cpus",
        default: Some("1"),
        value: "N",
        doc: "how many processors the guest has",
        addition: true,
        set: Set::Vm(|vm, _, v| number(v, 1, 64).map(|n| vm.cpus = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "affinity",
        default: Some("auto"),
        value: "auto|none|LIST",
        doc: "the processors of the host on which the VM runs: one at a time, any, or those of a list such as 0-3,8",
        addition: true,
        set: Set::Vm(|vm, _, v| put(&mut vm.affinity, v)),
        ..VM_PROTECTED
    },
    Param {
        name: "password",
        value: "PASSWORD|MD5|VERIFIER",
        doc: "the password of TCP connections to this VM",
        set: Set::Vm(|vm, _, v| {
            Password::from_config(v).map(|password| vm.password = Some(password))
        }),
        ..VM
    },
    Param {
        name: "start",
        default: Some("manual"),
        value: "manual|boot|off",
        doc: "how far the VM is started when the system boots",
        set: Set::Vm(|vm, _, v| put(&mut vm.start, v)),
        ..VM
    },
    Param {
        name: "group",
        repeatable: true,
        value: "NAME",
        doc: "a group that the VM is in; umladmin selects its VMs by @NAME",
        addition: true,
        set: Set::Vm(|vm, _, v| v.parse().map(|group| vm.groups.push(group))),
        ..VM_PROTECTED
    },
    Param {
        name: "boot_order",
        default: Some("0"),
        value: "N",
        doc: "VMs with a lower number are started before it",
        addition: true,
        set: Set::Vm(|vm, _, v| number(v, 0, 9999).map(|n| vm.boot_order = n)),
        ..VM_PROTECTED
    },
    Param {
        name: "boot_delay",
        default: Some("0"),
        value: "SECONDS",
        doc: "how long VMs with a higher boot_order wait after its start",
        addition: true,
        set: Set::Vm(|vm, _, v| number(v, 0, 3600).map(|n| vm.boot_delay = n)),
        ..VM_PROTECTED
    },
];

/// The largest mem in megabytes: a terabyte.
const MAX_MEM: u32 = 1 << 20;

#[cfg(test)]
mod tests;
