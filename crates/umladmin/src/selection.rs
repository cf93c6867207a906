//! Which VMs a command is about (umladmin).

use std::collections::BTreeSet;

use cli::{Exit, Failure};
use config::{Config, VmName};

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

/// Whether the configuration has this VM.
pub(crate) fn is_configured(config: &Config, vm: &VmName) -> bool {
    config.vm_names().any(|known| known == vm)
}

/// The configuration cannot be used.
pub(crate) fn bad_config(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}
