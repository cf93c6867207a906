//! Which monitors run: those that have registered, each as long as it keeps its registration (umldir).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use config::VmName;

/// What is known of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitor {
    /// Its process ID; 0 if it is in another PID namespace.
    pub pid: u32,
    /// Its TCP port; 0 if it has none.
    pub port: u16,
}

/// The registered monitors.
#[derive(Debug, Default)]
pub struct Directory {
    /// With the number of the registration.
    monitors: RefCell<BTreeMap<VmName, (u64, Monitor)>>,
    registrations: Cell<u64>,
}

/// Keeps a monitor in the directory; dropping it takes the monitor out, unless a later one has taken its place.
#[derive(Debug)]
pub struct Registration {
    directory: Rc<Directory>,
    vm: VmName,
    number: u64,
}

impl Directory {
    /// The monitor of a VM, if it runs.
    pub fn get(&self, vm: &VmName) -> Option<Monitor> {
        self.monitors.borrow().get(vm).map(|(_, monitor)| *monitor)
    }

    /// All monitors that run, ordered by the names of their VMs.
    pub fn all(&self) -> Vec<(VmName, Monitor)> {
        let monitors = self.monitors.borrow();
        let all = monitors
            .iter()
            .map(|(vm, (_, monitor))| (vm.clone(), *monitor));
        all.collect()
    }

    /// Enters a monitor, in place of an earlier one of the same VM: a monitor that was killed may be started again
    /// before the end of its connection is seen. None if there are `max` others already.
    pub fn register(
        self: &Rc<Self>,
        vm: VmName,
        monitor: Monitor,
        max: usize,
    ) -> Option<Registration> {
        let mut monitors = self.monitors.borrow_mut();
        if monitors.len() >= max && !monitors.contains_key(&vm) {
            return None;
        }
        let number = self.registrations.get().wrapping_add(1);
        self.registrations.set(number);
        monitors.insert(vm.clone(), (number, monitor));
        tracing::info!(pid = monitor.pid, port = monitor.port, "{vm} is registered");
        Some(Registration {
            directory: Rc::clone(self),
            vm,
            number,
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut monitors = self.directory.monitors.borrow_mut();
        let current = monitors.get(&self.vm).map(|(number, _)| *number);
        if current == Some(self.number) {
            monitors.remove(&self.vm);
            tracing::info!("{} is gone", self.vm);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 2;

    fn monitor(pid: u32) -> Monitor {
        Monitor { pid, port: 0 }
    }

    fn name(name: &str) -> VmName {
        name.parse().unwrap()
    }

    #[test]
    fn a_registration_ends_with_its_guard() {
        let directory = Rc::new(Directory::default());
        let vm2 = directory.register(name("vm2"), monitor(2), MAX).unwrap();
        let vm1 = directory.register(name("vm1"), monitor(1), MAX).unwrap();
        assert_eq!(
            directory.all(),
            [(name("vm1"), monitor(1)), (name("vm2"), monitor(2))]
        );
        drop(vm2);
        assert_eq!(directory.get(&name("vm2")), None);
        assert_eq!(directory.get(&name("vm1")), Some(monitor(1)));
        drop(vm1);
        assert_eq!(directory.all(), []);
    }

    #[test]
    fn the_end_of_an_earlier_monitor_does_not_remove_the_later_one() {
        let directory = Rc::new(Directory::default());
        let killed = directory.register(name("vm1"), monitor(1), MAX).unwrap();
        let restarted = directory.register(name("vm1"), monitor(2), MAX).unwrap();
        drop(killed);
        assert_eq!(directory.get(&name("vm1")), Some(monitor(2)));
        drop(restarted);
        assert_eq!(directory.get(&name("vm1")), None);
    }

    #[test]
    fn a_full_directory_takes_no_other_vm() {
        let directory = Rc::new(Directory::default());
        let _vm1 = directory.register(name("vm1"), monitor(1), MAX).unwrap();
        let _vm2 = directory.register(name("vm2"), monitor(2), MAX).unwrap();
        assert!(directory.register(name("vm3"), monitor(3), MAX).is_none());
        assert!(directory.register(name("vm1"), monitor(4), MAX).is_some());
    }
}
