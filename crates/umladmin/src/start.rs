//! `umladmin start`: monitors, and the kernels of those VMs that boot by themselves (umladmin).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cli::{Exit, Failure};
use client::Client;
use config::{Config, StartType, VmName};
use daemon::Home;
use monitors::{
    start::{Group, monitor_program, start_monitor},
    survivor,
};

use crate::report::{Report, Row};
use crate::{parallel, selection};

/// How long a kernel may take until it executes.
const READY: Duration = Duration::from_secs(60);

pub(crate) fn run(config: &Config, names: &[&str]) -> Result<Exit, Failure> {
    let vms = selection::named_or_all(config, names)?;
    let report = Report::new();
    selection::tell_if_none(config, &vms, &report);
    let mut rows = start_all(config, &vms, &report);
    if !names.is_empty() {
        // An administrator who names a VM wants it to run, and must see that it does not.
        for row in rows.iter_mut().filter(|row| row.result == NOT_STARTED) {
            row.good = false;
        }
    }
    let exit = report.results(&rows)?;
    Ok(selection::tell_nameless(config, names, &report, exit))
}

/// The result of a VM whose kernel has been started.
const BOOTING: &str = "booting";

/// The result of a VM with `start = off`.
const NOT_STARTED: &str = "not started";

/// Starts these VMs, those with the lowest `boot_order` first; one row for each, in the order given.
pub(crate) fn start_all(config: &Config, vms: &[VmName], report: &Report) -> Vec<Row> {
    let program = monitor_program();
    let mut rows = BTreeMap::new();
    let mut waves = waves(config, vms).into_iter().peekable();
    while let Some((_, wave)) = waves.next() {
        let started = start_wave(config, &wave, &program, report);
        // Only those that boot keep others waiting.
        let booting = wave.iter().zip(&started);
        let booting = booting.filter(|(_, row)| row.result == BOOTING);
        let delay = booting.filter_map(|(vm, _)| config.vm(vm).ok());
        let delay = delay.map(|vm| vm.boot_delay).max().unwrap_or(0);
        rows.extend(wave.into_iter().zip(started));
        if waves.peek().is_some() {
            std::thread::sleep(Duration::from_secs(delay.into()));
        }
    }
    vms.iter().filter_map(|vm| rows.remove(vm)).collect()
}

/// The VMs that are started at the same time, by their `boot_order`.
fn waves(config: &Config, vms: &[VmName]) -> BTreeMap<u32, Vec<VmName>> {
    let mut waves: BTreeMap<u32, Vec<VmName>> = BTreeMap::new();
    for vm in vms {
        // One with a fault is not started.
        let order = config.vm(vm).map_or(0, |configured| configured.boot_order);
        waves.entry(order).or_default().push(vm.clone());
    }
    waves
}

fn start_wave(config: &Config, vms: &[VmName], program: &Path, report: &Report) -> Vec<Row> {
    parallel::each(vms, parallel::STARTS, |vm| {
        let name = vm.to_string();
        let (result, detail, good) = match start_one(config, vm, program) {
            Ok((result, detail)) => {
                let detail_too = if detail.is_empty() {
                    String::new()
                } else {
                    format!(" ({detail})")
                };
                report.line(&name, &format!("{result}{detail_too}"));
                (result, detail, true)
            }
            Err(error) => {
                report.error(&name, &error);
                ("failed", error, false)
            }
        };
        Row {
            vm: name,
            result,
            detail,
            good,
        }
    })
}

/// Starts one VM as far as its start type says; returns the result and any remark.
fn start_one(
    config: &Config,
    vm: &VmName,
    program: &Path,
) -> Result<(&'static str, String), String> {
    let configured = config.vm(vm).map_err(|e| e.to_string())?;
    if configured.start == StartType::Off {
        return Ok((NOT_STARTED, "start = off".into()));
    }
    match Home::of_monitor(&config.global, vm).holder() {
        Ok(None) => {}
        Ok(Some(pid)) => return Ok(("left as it is", format!("its monitor runs, pid {pid}"))),
        Err(e) => return Err(e.to_string()),
    }
    let outlived = survivor::of(config, vm).is_some();
    start_monitor(program, &config.path, vm, Group::Ours)?;
    if outlived {
        return Ok(("adopted", "it had outlived its monitor".into()));
    }
    if configured.start == StartType::Manual {
        return Ok(("monitor started", "not booted: start = manual".into()));
    }
    // The guest boots by itself from here on.
    Client::at(vm, config.global.ctrl(vm))
        .with_limit(READY)
        .start(&[])
        .map_err(|e| format!("its monitor is running, but the kernel did not start: {e}"))?;
    Ok((BOOTING, String::new()))
}
