//! `umladmin update`: what runs becomes what is configured (umladmin).

use std::time::Duration;

use cli::{Exit, Failure};
use config::{Config, StartType, VmName};

use crate::report::Report;
use crate::{monitor, selection, start, stop};

pub(crate) fn run(config: &Config, names: &[&str], timeout: Duration) -> Result<Exit, Failure> {
    let report = Report::new();
    // All of it, even if only some VMs are named: half a configuration is none.
    let wanted = wanted(config, &report)?;
    let running = monitor::running(config).map_err(|e| {
        Failure::from(e).about(format_args!(
            "cannot read {}",
            config.global.rundir.display()
        ))
    })?;
    let meant = selection::named_or_all(config, names)?;
    let is_known = |vm: &&VmName| selection::is_configured(config, vm) || running.contains(vm);
    if let Some(vm) = meant.iter().find(|vm| !is_known(vm)) {
        // No such VM: the configuration says it best.
        return config
            .vm(vm)
            .map(|_| Exit::Done)
            .map_err(selection::bad_config);
    }
    let is_meant = |vm: &&VmName| names.is_empty() || meant.contains(vm);
    let surplus = minus(&running, &wanted).filter(is_meant).cloned();
    let missing = minus(&wanted, &running).filter(is_meant).cloned();
    let (surplus, missing): (Vec<_>, Vec<_>) = (surplus.collect(), missing.collect());
    if surplus.is_empty() && missing.is_empty() {
        report.print("Nothing to do: what runs matches the configuration.\n")?;
        return Ok(Exit::Done);
    }
    // A VM that was renamed must let go of its disks before it comes back under its new name.
    let mut rows = stop::stop_all(config, &surplus, timeout, &report)?;
    rows.extend(start::start_all(config, &missing, &report));
    report.results(&rows)
}

/// The VMs that should have a monitor; only if the whole configuration makes sense.
fn wanted(config: &Config, report: &Report) -> Result<Vec<VmName>, Failure> {
    let mut wanted = Vec::new();
    let mut errors = 0;
    for vm in config.vm_names() {
        match config.vm(vm) {
            Ok(configured) if configured.start == StartType::Off => {}
            Ok(_) => wanted.push(vm.clone()),
            Err(e) => {
                report.error(vm.as_str(), &e.to_string());
                errors += 1;
            }
        }
    }
    match errors {
        0 => Ok(wanted),
        _ => Err(selection::bad_config(
            "the configuration has errors, so nothing was started or stopped",
        )),
    }
}

fn minus<'a>(these: &'a [VmName], those: &'a [VmName]) -> impl Iterator<Item = &'a VmName> {
    these.iter().filter(|vm| !those.contains(vm))
}
