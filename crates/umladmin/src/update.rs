//! `umladmin update`: makes the running VMs match the configuration (umladmin).

use std::time::Duration;

use cli::{Exit, Failure};
use config::{Config, StartType, VmName};
use monitors::{process, survivor};

use crate::report::{Report, Row};
use crate::{selection, start, stop};

pub(crate) fn run(config: &Config, names: &[&str], timeout: Duration) -> Result<Exit, Failure> {
    let report = Report::new();
    let mut running = process::running(config).map_err(|e| {
        let global = &config.global;
        Failure::from(e).about(format_args!(
            "cannot read {} and {}",
            global.vardir.display(),
            global.rundir.display()
        ))
    })?;
    let is_running = |vm: &&VmName| running.contains(vm);
    let survivors = config.vm_names().filter(|vm| !is_running(vm));
    let survivors = survivors.filter(|vm| survivor::of(config, vm).is_some());
    // Those with start = off are stopped, as if they had a monitor; the others are given one.
    let is_off = |vm: &&VmName| config.vm(vm).is_ok_and(|vm| vm.start == StartType::Off);
    let survivors: Vec<VmName> = survivors.filter(is_off).cloned().collect();
    running.extend(survivors);
    let meant = selection::named_or_all(config, names)?;
    let is_known = |vm: &&VmName| selection::is_configured(config, vm) || running.contains(vm);
    if let Some(vm) = meant.iter().find(|vm| !is_known(vm)) {
        // No such VM: the configuration has the best message.
        return config
            .vm(vm)
            .map(|_| Exit::Done)
            .map_err(selection::bad_config);
    }
    let is_meant = |vm: &&VmName| names.is_empty() || meant.contains(vm);
    let Plan {
        start,
        stop,
        failed,
    } = Plan::new(config, &running, is_meant, &report);
    if start.is_empty() && stop.is_empty() && failed.is_empty() {
        report.print("Nothing to do: what runs matches the configuration.\n")?;
    }
    // A VM that was renamed must release its disks before it is started under its new name.
    let mut rows = stop::stop_all(config, &stop, timeout, &report)?;
    rows.extend(start::start_all(config, &start, &report));
    rows.extend(failed);
    let exit = report.results(&rows)?;
    Ok(selection::tell_nameless(config, names, &report, exit))
}

/// What must be done so that the running VMs match the configuration.
struct Plan {
    start: Vec<VmName>,
    stop: Vec<VmName>,
    /// One row for each VM that stays as it is because its configuration is not known.
    failed: Vec<Row>,
}

impl Plan {
    fn new(
        config: &Config,
        running: &[VmName],
        is_meant: impl Fn(&&VmName) -> bool,
        report: &Report,
    ) -> Plan {
        let mut plan = Plan {
            start: Vec::new(),
            stop: Vec::new(),
            failed: Vec::new(),
        };
        for vm in config.vm_names().filter(&is_meant) {
            let runs = running.contains(vm);
            match config.vm(vm) {
                Ok(configured) if configured.start == StartType::Off && runs => {
                    plan.stop.push(vm.clone());
                }
                Ok(configured) if configured.start != StartType::Off && !runs => {
                    plan.start.push(vm.clone());
                }
                Ok(_) => {}
                Err(fault) => plan.fail(vm, fault.to_string(), report),
            }
        }
        let is_gone = |vm: &&VmName| !selection::is_configured(config, vm) && is_meant(vm);
        for vm in running.iter().filter(is_gone) {
            if config.is_faultless() {
                plan.stop.push(vm.clone());
            } else {
                let why = "not stopped: it has no section, but the configuration has errors";
                plan.fail(vm, why.into(), report);
            }
        }
        plan
    }

    fn fail(&mut self, vm: &VmName, why: String, report: &Report) {
        report.error(vm.as_str(), &why);
        self.failed.push(Row {
            vm: vm.to_string(),
            result: "failed",
            detail: why,
            good: false,
        });
    }
}
