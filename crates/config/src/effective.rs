//! From the values that were set to the configuration in effect: they are merged with the defaults and checked as a
//! whole. Used by every program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::assignment::{Assignment, expand};
use crate::error::{Error, Result};
use crate::global::Global;
use crate::names::VmName;
use crate::net::{Nic, Transport};
use crate::params::{PARAMS, Set};
use crate::remote::TlsPolicy;
use crate::setting::{Origin, SectionKind, Setting};
use crate::values::Userspace;
use crate::vm::Vm;

/// The most additional kernel arguments of a VM.
const MAX_KERNELARGS: usize = 64;

impl Global {
    /// From the entries of the section, and the defaults for the rest.
    pub(crate) fn build(assignments: &[Assignment]) -> Result<Global> {
        let mut global = Global::blank();
        for param in PARAMS.iter().filter(|p| p.section == SectionKind::Global) {
            let Set::Global(set) = param.set else {
                continue;
            };
            let mut given = false;
            for a in assignments.iter().filter(|a| a.is_param(param, 0)) {
                set(&mut global, &a.value).map_err(|e| a.blame(e.of(param.name)))?;
                given = true;
            }
            if let (false, Some(default)) = (given, param.default) {
                let default = expand(default, &global.vardir, "");
                set(&mut global, &default).map_err(|e| e.of(param.name))?;
            }
        }
        global.check_tls()?;
        global.check_web()?;
        Ok(global)
    }

    /// TLS needs a certificate and its key.
    fn check_tls(&self) -> Result<()> {
        if self.tls == TlsPolicy::Off || (self.tls_certificate.is_some() && self.tls_key.is_some())
        {
            return Ok(());
        }
        Err(Error::Conflict(
            "with tls, [GLOBAL] needs tls_certificate and tls_key".into(),
        ))
    }

    /// What others could read on the way needs a certificate; a key alone is a mistake.
    fn check_web(&self) -> Result<()> {
        let why = match (&self.web_certificate, &self.web_key) {
            (Some(_), Some(_)) => return Ok(()),
            (None, None) if self.web_listen.ip().is_loopback() => return Ok(()),
            (None, None) => "with a web_listen that is no loopback address",
            _ => "for TLS of umlweb",
        };
        Err(Error::Conflict(format!(
            "{why}, [GLOBAL] needs web_certificate and web_key"
        )))
    }
}

impl Vm {
    /// From merged assignments in the order of the table, and the defaults for the rest.
    pub(crate) fn build(global: &Global, name: &VmName, merged: &[Assignment]) -> Result<Vm> {
        let mut vm = Vm {
            name: name.clone(),
            ..Vm::blank()
        };
        for param in PARAMS.iter().filter(|p| p.section == SectionKind::Vm) {
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
        vm.check_user(global, merged)?;
        vm.check_memory(merged)?;
        vm.check_processors()?;
        vm.check_directories(global)?;
        check_logs(merged, &vm)?;
        check_proxies(merged, &vm)?;
        check_user_network(merged, &vm)?;
        check_nat_networks(merged, &vm)?;
        check_netns(merged, &vm)?;
        vm.check_kernelargs(merged)?;
        Ok(vm)
    }

    /// Another VM could get this number.
    fn check_user(&self, global: &Global, merged: &[Assignment]) -> Result<()> {
        let line = merged.iter().find(|a| a.param.name == "vmuser");
        match (self.vmuser.parse::<u32>(), line) {
            (Ok(uid), Some(line)) if global.user_pool.contains(uid) => {
                let why = format!("{uid} is in user_pool; use auto, or another number");
                Err(line.blame(Error::Conflict(why).of("vmuser")))
            }
            _ => Ok(()),
        }
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

    /// A kernel that traces its programs can run one at a time.
    fn check_processors(&self) -> Result<()> {
        if self.cpus == 1 || self.userspace == Userspace::Seccomp {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "[{}]: cpus = {} needs userspace = seccomp",
            self.name, self.cpus
        )))
    }

    /// The jail belongs to the VM: it could forge logs there, and jail and shared directory would be mounted into
    /// themselves.
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

/// Every interface of the host belongs to one VM interface.
fn check_proxies(merged: &[Assignment], vm: &Vm) -> Result<()> {
    let proxy_of = |a: &Assignment| match a.param.name {
        "eth" => vm.eth.get(&a.index).and_then(Nic::proxy_if).cloned(),
        _ => None,
    };
    distinct(merged, proxy_of, "the same proxy_if")
}

/// The process that makes the connections of a VM serves one interface, in a network that the VM has for itself.
fn check_user_network(merged: &[Assignment], vm: &Vm) -> Result<()> {
    let user_of = |a: &Assignment| match a.param.name {
        "eth" => matches!(vm.eth.get(&a.index), Some(Nic::User { .. })).then_some(()),
        _ => None,
    };
    distinct(merged, user_of, "user(...), of which a VM can have one")?;
    let user = merged.iter().find(|a| user_of(a).is_some());
    match user {
        Some(a) if vm.is_in_network_of_host() => Err(Error::Conflict(format!(
            "{a} needs a network that the VM has for itself, and text for the kernel about networks needs that of the \
             host"
        ))),
        _ => Ok(()),
    }
}

/// A VM has one address, and one name, in a network.
fn check_nat_networks(merged: &[Assignment], vm: &Vm) -> Result<()> {
    let network_of = |a: &Assignment| match (a.param.name, vm.eth.get(&a.index)) {
        ("eth", Some(Nic::Nat { network, .. })) => Some(network.clone()),
        _ => None,
    };
    distinct(merged, network_of, "the same network")
}

/// Each interface of a namespace belongs to one of the VM. Its tap is in that namespace, so that the kernel cannot
/// attach to it.
fn check_netns(merged: &[Assignment], vm: &Vm) -> Result<()> {
    let interface_of = |a: &Assignment| match (a.param.name, vm.eth.get(&a.index)) {
        ("eth", Some(Nic::Netns { path, interface })) => Some((path.clone(), interface.clone())),
        _ => None,
    };
    distinct(merged, interface_of, "the same interface")?;
    let netns = merged.iter().find(|a| interface_of(a).is_some());
    match (netns, vm.transport) {
        (Some(a), Transport::Vec | Transport::Tuntap) => Err(Error::Conflict(format!(
            "{a} needs transport = fd or auto, and not {}",
            vm.transport
        ))),
        _ => Ok(()),
    }
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
