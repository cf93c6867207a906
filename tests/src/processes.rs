//! The processes that a VM is on the host, and on which processors these run (the end-to-end tests).

use std::collections::BTreeSet;
use std::fs;

use crate::{Vm, wait_for};

/// The processes of the host that the VM is: its second process, the kernel, and those of the guest.
pub fn processes_of(vm: &Vm<'_>) -> Vec<String> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(&vm.pid("kernel_pid").to_string()) else {
        return Vec::new();
    };
    let all = names("/proc");
    all.filter(|pid| namespace(pid).as_ref() == Some(&own))
        .collect()
}

/// The processors on which its threads may run: as many lists as there are different ones.
pub fn processors_of(vm: &Vm<'_>) -> BTreeSet<String> {
    let threads = processes_of(vm).into_iter().flat_map(|pid| {
        let tasks = format!("/proc/{pid}/task");
        names(&tasks).map(move |thread| format!("{tasks}/{thread}/status"))
    });
    let place = |status: String| {
        let status = fs::read_to_string(status).ok()?;
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some(list.trim().to_owned())
    };
    threads.filter_map(place).collect()
}

/// Waits until a process is gone.
#[track_caller]
pub fn is_gone(pid: i32) {
    wait_for("its end", || {
        (!fs::exists(format!("/proc/{pid}/exe")).unwrap()).then_some(())
    });
}

fn names(directory: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
