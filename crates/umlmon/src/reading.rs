//! The configuration of one start, read once (umlmon, the monitor process).
//!
//! When a guest reboots, the kernel is started again with what its start has read, whatever has happened to the file
//! since then: a mistake in the section of another VM cannot prevent the reboot.

use std::path::PathBuf;

use config::{Config, Device, MacPool, Subnet, UserChanges, UserRange, Vm, VmName};
use serde::{Deserialize, Serialize};

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
    /// The shared directory, and that of the pid files: the checks of a section need them.
    directories: [PathBuf; 2],
    /// The numbers of users, likewise.
    user_pool: UserRange,
}

/// A [`Reading`] in a record: the section in the words of umlmon(5), with all defaults, without the password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    text: String,
    devices: Vec<Device>,
    vm_dir: PathBuf,
    pool: MacPool,
    nat_pool: Subnet,
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
            directories: [global.shared.clone(), global.rundir.clone()],
            user_pool: global.user_pool,
            vm,
        })
    }

    /// As it is written to a record.
    pub fn to_record(&self) -> Recorded {
        let [shared, rundir] = self.directories.each_ref().map(|path| path.display());
        let vardir = self.vm_dir.parent().unwrap_or(&self.vm_dir).display();
        let UserRange { first, last } = self.user_pool;
        let mut text = format!(
            "[GLOBAL]\nvardir = {vardir}\nshared = {shared}\nrundir = {rundir}\nuser_pool = {first}-{last}\n[{}]\n",
            self.vm.name
        );
        let settings = self.vm.settings().into_iter();
        for setting in settings.filter(|it| !["password", "use"].contains(&&*it.param)) {
            text.push_str(&format!("{} = {}\n", setting.param, setting.value));
        }
        Recorded {
            text,
            devices: self.devices.clone(),
            vm_dir: self.vm_dir.clone(),
            pool: self.pool,
            nat_pool: self.nat_pool,
        }
    }

    /// From a record.
    ///
    /// # Errors
    /// If it is not a configuration of this VM.
    pub fn of_record(record: &Recorded, name: &VmName) -> Result<Reading, config::Error> {
        let path = record.vm_dir.join("run");
        let config = Config::parse(&record.text, &path)?;
        let global = &config.global;
        Ok(Reading {
            vm: config.vm_with(name, &UserChanges::parse("", &path)?)?,
            devices: record.devices.clone(),
            vm_dir: record.vm_dir.clone(),
            pool: record.pool,
            nat_pool: record.nat_pool,
            directories: [global.shared.clone(), global.rundir.clone()],
            user_pool: global.user_pool,
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

    #[test]
    fn what_is_recorded_is_read_again() {
        let text = "[GLOBAL]\nvardir = /srv/vms\nuser_pool = 100000-200000\n[template t]\ncon1 = pty:one\n\
                    [vm1]\nuse = t\nvmuser = nobody\nmem = 64\npassword = $secret$\nkernelarg = a=b\n\
                    kernelarg = d\neth0 = bridged(bridge_if=br0,proxy_if=p)\n";
        let config = Config::parse(text, Path::new("umlmon"));
        let config = match config {
            Ok(config) => config,
            // The form of passwords is another matter.
            Err(_) => {
                let text = text.replace("password = $secret$\n", "");
                Config::parse(&text, Path::new("umlmon")).unwrap()
            }
        };
        let name = "vm1".parse().unwrap();
        let reading = Reading::take(&config, &name).unwrap();
        let record = serde_json::to_string(&reading.to_record()).unwrap();
        assert!(!record.contains("secret"));
        let again = Reading::of_record(&serde_json::from_str(&record).unwrap(), &name).unwrap();
        assert_eq!(again.to_record().text, reading.to_record().text);
        assert_eq!(again.vm.kernelargs, reading.vm.kernelargs);
        assert_eq!(
            (&again.vm.con, &again.vm.eth),
            (&reading.vm.con, &reading.vm.eth)
        );
        assert_eq!(again.vm.logdir, reading.vm.logdir);
    }
}
