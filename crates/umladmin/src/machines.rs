//! `umladmin boot`, `restart`, `ctrlaltdel` and `kill`: what umlwatch does to one VM, for many (umladmin).

use std::time::Duration;

use cli::{Exit, Failure};
use client::Client;
use config::{Config, VmName};
use daemon::Home;
use rpc_xdr::umlmonctrl::VmState;

use crate::report::{Report, Row};
use crate::{parallel, selection};

/// How long a monitor may take to carry out a command.
const LIMIT: Duration = Duration::from_secs(60);

/// What is done to each machine. The monitor must run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Starts the kernel, if it does not run.
    Boot,
    /// Has the guest shut down, waits for that, and starts the kernel.
    Restart,
    /// Sends CTRL-ALT-DEL.
    CtrlAltDel,
    /// Ends the kernel by force.
    Kill,
}

/// Carries it out for the named VMs at the same time.
pub(crate) fn run(
    config: &Config,
    names: &[&str],
    command: Command,
    timeout: Duration,
) -> Result<Exit, Failure> {
    if names.is_empty() {
        // A command that was sent too early must not reach every machine of the host.
        return Err(Failure::usage(
            "no VM is named; give names, groups as @GROUP, or patterns, such as '*' for all",
        ));
    }
    let vms = selection::named_or_all(config, names)?;
    let report = Report::new();
    let rows = parallel::each(&vms, parallel::CALLS, |vm| {
        let name = vm.to_string();
        let (result, detail, good) = match carry_out(config, vm, command, timeout) {
            Ok(result) => {
                report.line(&name, result);
                (result, String::new(), true)
            }
            Err(failure) => {
                report.error(&name, &failure.message);
                ("failed", failure.message, false)
            }
        };
        Row {
            vm: name,
            result,
            detail,
            good,
        }
    });
    report.results(&rows)
}

fn carry_out(
    config: &Config,
    vm: &VmName,
    command: Command,
    timeout: Duration,
) -> Result<&'static str, Failure> {
    if matches!(Home::of_monitor(&config.global, vm).holder(), Ok(None)) {
        monitors::start::adopt(config, vm).map_err(|why| Failure::new(Exit::Failed, why))?;
    }
    let mut client = Client::at(vm, config.global.ctrl(vm)).with_limit(LIMIT);
    let is_inactive = client.info()?.state == VmState::Inactive;
    match command {
        Command::Boot if !is_inactive => return Ok("runs already"),
        Command::Restart if !is_inactive => {
            client.ctrl_alt_del(true)?;
            let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
            let mut waiting = Client::at(vm, config.global.ctrl(vm)).with_limit(timeout + LIMIT);
            if !waiting.wait(seconds)?.inactive {
                let why = format!(
                    "the guest has not shut down in {seconds} s; umlwatch {vm} -halt ends it at once"
                );
                return Err(Failure::new(Exit::Timeout, why));
            }
        }
        _ => {}
    }
    match command {
        Command::Boot => client.start(&[]).map(|()| "booting"),
        Command::Restart => client.start(&[]).map(|()| "booting again"),
        Command::CtrlAltDel => client.ctrl_alt_del(false).map(|()| "CTRL-ALT-DEL sent"),
        Command::Kill => client.kill().map(|()| "killed"),
    }
}
