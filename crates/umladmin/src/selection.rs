//! Which VMs a command applies to: by their names, by patterns, by groups (umladmin).

use std::collections::BTreeSet;

use cli::{Exit, Failure};
use config::{Config, GroupName, VmName};
use glob::Pattern;
use monitors::process;

use crate::report::Report;

/// The VMs of these names, patterns and groups in the order given, or all that are configured; within a pattern or
/// group, and without any name, in the order of the configuration. A named VM need not be configured.
pub(crate) fn named_or_all(config: &Config, names: &[&str]) -> Result<Vec<VmName>, Failure> {
    if names.is_empty() {
        return Ok(config.vm_names().cloned().collect());
    }
    let mut seen = BTreeSet::new();
    let mut vms = Vec::with_capacity(names.len());
    for name in names {
        let meant = meant_by(config, name)?;
        vms.extend(meant.into_iter().filter(|vm| seen.insert(vm.clone())));
    }
    Ok(vms)
}

/// What the name of a group begins with.
const GROUP: char = '@';

fn meant_by(config: &Config, name: &str) -> Result<Vec<VmName>, Failure> {
    let none = |what: &str| {
        let file = config.path.display();
        Failure::new(
            Exit::Failed,
            format_args!("{name}: no VM {what} (in {file})"),
        )
    };
    if let Some(group) = name.strip_prefix(GROUP) {
        let group = GroupName::try_from(group).map_err(Failure::usage)?;
        let vms = in_group(config, &group);
        return match vms.is_empty() {
            true => Err(none("is in this group")),
            false => Ok(vms),
        };
    }
    if !is_pattern(name) {
        return Ok(vec![VmName::try_from(name).map_err(Failure::usage)?]);
    }
    let pattern = Pattern::new(name)
        .map_err(|error| Failure::usage(format_args!("{name}: no valid pattern: {}", error.msg)))?;
    // Also those that have been removed from the configuration, and still run.
    let running = process::running(config).unwrap_or_default();
    let gone = running.iter().filter(|vm| !is_configured(config, vm));
    let fitting = config.vm_names().chain(gone);
    let fitting = fitting.filter(|vm| pattern.matches(vm.as_str()));
    let vms: Vec<VmName> = fitting.cloned().collect();
    match vms.is_empty() {
        true => Err(none("has a name that fits this pattern")),
        false => Ok(vms),
    }
}

/// Whether it is a pattern: no name of a VM has these characters.
fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The VMs of a group. Of a VM whose section has an error this is not known; it is left out, with a warning.
fn in_group(config: &Config, group: &GroupName) -> Vec<VmName> {
    let is_in = |vm: &&VmName| match config.vm(vm) {
        Ok(configured) => configured.groups.contains(group),
        Err(fault) => {
            let warning =
                format!("{vm} is left out: whether it is in @{group} is not known: {fault}");
            Report::new().warn(&warning);
            false
        }
    };
    config.vm_names().filter(is_in).cloned().collect()
}

/// Says what to do if a command applies to all VMs, and there are none.
pub(crate) fn tell_if_none(config: &Config, vms: &[VmName], report: &Report) {
    if vms.is_empty() {
        let file = config.path.display();
        report.warn(&format!(
            "no VM is configured; umladmin create vm1 makes one, or add a section to {file}"
        ));
        report.hint(FIRST_SECTION);
    }
}

/// What a new user does next.
const FIRST_SECTION: &str = "
    [vm1]
    vmuser = nobody
    mem = 64
    kernel = /shared/kernels/linux
    con0 = pty:con0
    con1 = pty
    ubd0 = /disks/root.dsk

umlmon(5) describes the parameters. Then:

    umladmin start vm1     starts its monitor, which creates its directories
    umladmin check         says what is missing, such as the kernel and the disk
    umlwatch vm1 -start    boots it
";

/// Whether the configuration has this VM.
pub(crate) fn is_configured(config: &Config, vm: &VmName) -> bool {
    config.vm_names().any(|known| known == vm)
}

/// Reports the faults of sections that have no name of a VM, if the command applies to all VMs; returns the exit status
/// of the command, which else would be `exit`.
pub(crate) fn tell_nameless(config: &Config, names: &[&str], report: &Report, exit: Exit) -> Exit {
    let mut faults = config.nameless_faults().filter(|_| names.is_empty());
    faults.by_ref().fold(exit, |_, fault| {
        report.warn(&fault.to_string());
        Exit::Failed
    })
}

/// The configuration cannot be used.
pub(crate) fn bad_config(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_groups_stand_for_vms() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let mut text = format!("[GLOBAL]\nvardir = {at}/var\nrundir = {at}/run\n");
        for (vm, rest) in [
            ("web1", "group = ci\ngroup = all\n"),
            ("db", "group = all\n"),
            ("web2", ""),
            ("broken", "group = ci\nnonsense = 1\n"),
        ] {
            text += &format!("[{vm}]\nvmuser = nobody\nmem = 64\n{rest}");
        }
        let file = dir.path().join("umlmon");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let chosen = |names: &[&str]| {
            let vms = named_or_all(&config, names);
            vms.map(|vms| {
                vms.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .map_err(|failure| failure.message)
        };
        for (names, expected) in [
            (&[][..], "web1 db web2 broken"),
            (&["web*"], "web1 web2"),
            (&["web[!1]", "web?", "@ci"], "web2 web1"),
            (&["@all", "other"], "web1 db other"),
            (&["@ci"], "web1"),
        ] {
            assert_eq!(chosen(names).as_deref(), Ok(expected), "{names:?}");
        }
        for (name, why) in [
            ("x*", "x*: no VM has a name that fits this pattern"),
            ("@x", "@x: no VM is in this group"),
            ("@", "the name of a group"),
            ("[a", "[a: no valid pattern"),
            ("../x", "a VM name"),
        ] {
            let failure = chosen(&[name]).unwrap_err();
            assert!(failure.contains(why), "{failure}");
        }
    }
}
