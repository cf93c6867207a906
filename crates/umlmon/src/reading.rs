//! The configuration of one start, read once (umlmon, the monitor process).
//!
//! When a guest reboots, the kernel is started again with what its start has read, whatever has happened to the file
//! since then: a mistake in the section of another VM cannot prevent the reboot.

use std::path::PathBuf;

use config::{Config, Device, MacPool, Subnet, Vm, VmName};

/// What a run of the kernel needs of the configuration.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The section of the VM, with the changes of its user.
    pub vm: Vm,
    /// The block devices of the host among its disks.
    pub devices: Vec<Device>,
    /// The directory of the VM.
    pub vm_dir: PathBuf,
    /// The MAC addresses for its network interfaces.
    pub pool: MacPool,
    /// The addresses for networks of `nat(...)`.
    pub nat_pool: Subnet,
}

impl Reading {
    /// Takes from the configuration what a VM needs. The rest of it can be dropped.
    ///
    /// # Errors
    /// If the VM is not configured, or wrongly.
    pub fn take(config: &Config, name: &VmName) -> Result<Reading, config::Error> {
        let vm = config.vm(name)?;
        let global = &config.global;
        let used = |device: &&Device| vm.ubd.values().any(|disk| *disk == device.name);
        Ok(Reading {
            devices: global.devices.iter().filter(used).cloned().collect(),
            vm_dir: global.vm_dir(name),
            pool: global.pool,
            nat_pool: global.nat_pool,
            vm,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_the_devices_of_the_vm_are_kept() {
        let device =
            |name| format!("device = device_file(name={name},target_file=/dev/vg/a,group=disk)");
        let text = format!(
            "[GLOBAL]\nvardir = /srv/vms\n{}\n{}\n[vm1]\nvmuser = nobody\nmem = 64\nubd0 = /shared/disks/b.dev\n",
            device("a.dev"),
            device("b.dev")
        );
        let config = Config::parse(&text, Path::new("umlmon")).unwrap();
        let reading = Reading::take(&config, &"vm1".parse().unwrap()).unwrap();
        let names: Vec<_> = reading
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect();
        assert_eq!(names, ["/shared/disks/b.dev"]);
        assert_eq!(reading.vm_dir, Path::new("/srv/vms/vm1"));
    }
}
