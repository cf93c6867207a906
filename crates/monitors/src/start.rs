//! Starting monitors, also those of VMs that have outlived theirs (umladmin, and the other programs that make VMs).

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use config::{Config, VmName};

use crate::{survivor, wait};

/// How long a monitor may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// The monitor's program: the one beside this one, else the one that PATH finds.
pub fn monitor_program() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .map(|exe| exe.with_file_name("umlmon"));
    match beside.filter(|path| path.is_file()) {
        Some(path) => path,
        None => "umlmon".into(),
    }
}

/// Which process group a monitor is in until it is ready, and so whether Ctrl-C ends it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// That of this program.
    Ours,
    /// One of its own.
    Own,
}

/// Starts a monitor and waits until it is ready. The monitor reports errors itself, on the same stderr.
///
/// # Errors
/// If it cannot be executed, or ends, or is not ready in time.
pub fn start_monitor(
    program: &Path,
    config: &Path,
    vm: &VmName,
    group: Group,
) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg("-config").arg(config).arg(vm.as_str());
    if group == Group::Own {
        command.process_group(0);
    }
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    match wait::child(&mut child, READY) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("its monitor did not start ({status})")),
        Ok(None) => {
            // If this fails, it cannot be waited for, either.
            let _ = child.kill().and_then(|()| child.wait());
            let seconds = READY.as_secs();
            Err(format!(
                "its monitor was not ready after {seconds} s and has been killed"
            ))
        }
        Err(e) => Err(format!("cannot wait for its monitor: {e}")),
    }
}

/// Gives the VM a monitor again, if it has outlived its own; says whether it has.
///
/// # Errors
/// If no monitor takes it over, and how to end it nevertheless.
pub fn adopt(config: &Config, vm: &VmName) -> Result<bool, String> {
    let Some(pid) = survivor::of(config, vm) else {
        return Ok(false);
    };
    start_monitor(&monitor_program(), &config.path, vm, Group::Own)
        .map(|()| true)
        .map_err(|why| {
            format!(
                "it has outlived its monitor: {why}; 'kill -9 {pid}' ends it without a shutdown"
            )
        })
}
