//! Monitors that are killed, and VMs that outlive them or do not (the end-to-end tests).

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Vm, wait_for};

/// Waits until the VM would outlive its monitor.
#[track_caller]
pub fn outlives(vm: &Vm<'_>) {
    wait_for("the VM is recorded", || {
        vm.file("run").exists().then_some(())
    });
}

/// Kills a process as the host's kernel would for lack of memory, and waits until it is gone.
#[track_caller]
fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_for("the end of a process", || {
        let ended = |stat: String| stat.contains(") Z ") || stat.contains(") X ");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, ended).then_some(())
    });
}

/// Kills the monitor, and waits until it is gone.
#[track_caller]
pub fn kill_monitor(vm: &Vm<'_>) {
    kill(vm.monitor_pid());
}

/// Kills the monitor, and then the VM.
#[track_caller]
pub fn kill_with_vm(vm: &Vm<'_>) {
    let child = vm.pid("child_pid");
    outlives(vm);
    kill_monitor(vm);
    kill(child);
}

/// Kills the monitor, and starts the next one.
#[track_caller]
pub fn exchange_monitor(vm: &Vm<'_>) {
    kill_monitor(vm);
    vm.start_monitor().ok();
}

/// The numbers of the processes that outlive a monitor: the second process, and the kernel.
#[track_caller]
pub fn processes_that_stay(vm: &Vm<'_>) -> (i32, i32) {
    (vm.pid("child_pid"), vm.pid("kernel_pid"))
}

/// How often a monitor has taken the VM over, as its log says.
pub fn adoptions(vm: &Vm<'_>) -> usize {
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    log.matches("adopted the running VM").count()
}

/// How often a test kills monitors: so often, unless `UMLMON_TEST_KILLS` says another number.
pub fn kills(usually: usize) -> usize {
    let set = std::env::var("UMLMON_TEST_KILLS").ok();
    set.and_then(|set| set.parse().ok()).unwrap_or(usually)
}
