//! Tier root: on which processors of the host a VM runs.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use e2e::{Vm, World, processors_of, run, skip, wait_for};

fn shown(vm: &Vm<'_>) -> String {
    vm.info()
        .get("processors")
        .and_then(|shown| shown.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// The processor that the VM is on, if it is one.
fn kept(vm: &Vm<'_>) -> Option<String> {
    let shown = shown(vm);
    shown.parse::<usize>().is_ok().then_some(shown)
}

/// The processors that this process may use.
fn ours() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..1024).filter(|n| set.is_set(*n)).collect()
}

/// Something that never sleeps on this processor.
struct Rival(Child);

impl Rival {
    fn on(processor: &str) -> Rival {
        let mut command = Command::new("taskset");
        command.args(["-c", processor, "sh", "-c", "while :; do :; done"]);
        Rival(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_vm_runs_on_one_processor_and_leaves_it_to_others() {
    let Some(world) = World::new() else { return };
    if ours().len() < 2 {
        return skip("there is one processor only");
    }
    let vm = world.vm("vm1").con(1).monitor();
    assert_eq!(shown(&vm), "");
    vm.start();
    let first = wait_for("the VM to be on one", || kept(&vm));
    assert_eq!(processors_of(&vm), BTreeSet::from([first.clone()]));
    assert!(
        vm.umlwatch(&["-info"])
            .ok()
            .contains(&format!("Processor  {first}\n"))
    );

    let rival = Rival::on(&first);
    let mut console = vm.connect("con1");
    console.send("spin:3\n");
    wait_for("the VM to move", || (shown(&vm) != first).then_some(()));
    let all_of_it = || (processors_of(&vm) == BTreeSet::from([shown(&vm)])).then_some(());
    wait_for("all of it to be in one place", all_of_it);
    drop(rival);
    console.leave();
    vm.kill();
}

#[test]
fn what_a_vm_takes_is_told() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.send("spin:3\n");
    let table = ["-json", "-interval", "1", "-count", "2", "top"];
    let top = world.umladmin(&table).ok();
    let last: serde_json::Value = serde_json::from_str(top.lines().next_back().unwrap()).unwrap();
    let rates = last.get(0).unwrap();
    assert_eq!(rates.get("vm").unwrap(), "vm1");
    let cpu = rates.get("cpu").unwrap().as_f64();
    assert!(cpu.is_some_and(|cpu| cpu > 0.2 && cpu < 1.5), "{top}");

    let list = world.umladmin(&["-csv", "-columns", "vm,state,cpu", "list"]);
    let list = list.ok();
    let (heading, row) = list.split_once('\n').unwrap();
    assert_eq!(heading, "vm,state,cpu");
    let seconds = row.trim().strip_prefix("vm1,running,").unwrap();
    let metrics = world.umladmin(&["metrics"]).ok();
    let metric = "umlmon_vm_cpu_seconds_total{vm=\"vm1\"} ";
    let later = metrics.lines().find_map(|line| line.strip_prefix(metric));
    let [seconds, later] = [seconds, later.unwrap()].map(|text| text.parse::<f64>().unwrap());
    assert!(0.2 < seconds && seconds <= later, "{list}{later}");
    console.leave();
    vm.kill();
}

#[test]
fn a_vm_runs_anywhere_while_others_take_all_processors() {
    let Some(world) = World::new() else { return };
    if ours().len() < 2 {
        return skip("there is one processor only");
    }
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    wait_for("the VM to be on one", || kept(&vm));
    let rival = |processor: &usize| Rival::on(&processor.to_string());
    let rivals: Vec<Rival> = ours().iter().map(rival).collect();
    let mut console = vm.connect("con1");
    console.send("spin:3\n");
    wait_for("the VM to run anywhere", || {
        kept(&vm).is_none().then_some(())
    });
    drop(rivals);
    wait_for("the VM to be on one again", || kept(&vm));
    console.leave();
    vm.kill();
}

#[test]
fn a_list_of_processors_is_kept_to() {
    let Some(world) = World::new() else { return };
    let last = ours().last().map(ToString::to_string).unwrap_or_default();
    let listed = world
        .vm("vm1")
        .line(&format!("affinity = {last}"))
        .monitor();
    let free = world.vm("vm2").line("affinity = none").monitor();
    let missing = world.vm("vm3").line("affinity = 1020-1023").monitor();
    listed.start();
    assert_eq!(processors_of(&listed), BTreeSet::from([last.clone()]));
    assert_eq!(shown(&listed), last);
    free.start();
    assert_eq!(processors_of(&free), BTreeSet::from([shown(&free)]));
    assert_eq!(shown(&free) == last, ours().len() == 1);
    let why = missing.umlwatch(&["-start"]).fails(1);
    assert!(
        why.contains("affinity = 1020-1023: the host has no processor 1020-1023"),
        "{why}"
    );
    for vm in [&listed, &free] {
        vm.kill();
    }
}

#[test]
fn a_monitor_uses_the_processors_that_it_was_given() {
    let Some(world) = World::new() else { return };
    let first = ours().first().map(ToString::to_string).unwrap_or_default();
    let vm = world.vm("vm1").configure();
    let monitor = world.command("umlmon", &["vm1"]);
    let mut command = Command::new("taskset");
    command.args(["-c", &first]).arg(monitor.get_program());
    run(command.args(monitor.get_args())).ok();
    vm.put_files();
    vm.start();
    assert_eq!(processors_of(&vm), BTreeSet::from([first]));
    vm.kill();
}

#[test]
fn programs_and_processors_of_a_guest_are_as_configured() {
    let Some(world) = World::new() else { return };
    let lines = "userspace = seccomp\ncpus = 2";
    let vm = world.vm("vm1").line(lines).monitor();
    vm.start();
    let kernel = vm.pid("kernel_pid");
    let arguments = std::fs::read_to_string(format!("/proc/{kernel}/cmdline")).unwrap();
    assert!(
        arguments.contains("\0seccomp=on\0ncpus=2\0"),
        "{arguments:?}"
    );
    // With two processors, one of the host would be too few.
    assert_eq!(shown(&vm).contains(['-', ',']), ours().len() > 1);
    let page = vm.umlwatch(&["-info"]).ok();
    assert!(
        page.contains("seccomp: programs of the guest can reach its kernel"),
        "{page}"
    );
    vm.kill();
}
