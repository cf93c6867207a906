//! Which VMs a command applies to (umladmin).

use std::collections::BTreeSet;

use cli::{Exit, Failure};
use config::{Config, VmName};

use crate::report::Report;

/// The named VMs in the order given, or all that are configured in the order of the file.
pub(crate) fn named_or_all(config: &Config, names: &[&str]) -> Result<Vec<VmName>, Failure> {
    if names.is_empty() {
        return Ok(config.vm_names().cloned().collect());
    }
    let mut seen = BTreeSet::new();
    let mut vms = Vec::with_capacity(names.len());
    for name in names {
        let vm = VmName::try_from(*name).map_err(Failure::usage)?;
        if seen.insert(name) {
            vms.push(vm);
        }
    }
    Ok(vms)
}

/// Says what to do if a command applies to all VMs, and there are none.
pub(crate) fn tell_if_none(config: &Config, vms: &[VmName], report: &Report) {
    if vms.is_empty() {
        let file = config.path.display();
        report.warn(&format!(
            "no VM is configured; add a section for one to {file}"
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
