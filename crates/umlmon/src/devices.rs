//! The block devices of the host that the configuration lends to the VMs (umlmon, the monitor process).

use config::{Config, Device, Vm};
use nix::unistd::Group;

use crate::failure::Failure;
use crate::run::Setup;

/// Provides those that a VM uses, as they are when its kernel is started.
///
/// # Errors
/// [`Failure::NotStarted`]: the device, and why.
pub fn provide(setup: &Setup, vm: &Vm) -> Result<(), Failure> {
    if !vm
        .ubd
        .values()
        .any(|disk| disk.kind() == config::DiskKind::Dev)
    {
        return Ok(());
    }
    let config = Config::load(&setup.config_path)?;
    let used = |device: &&Device| vm.ubd.values().any(|disk| *disk == device.name);
    for device in config.global.devices.iter().filter(used) {
        provide_one(&setup.devices, device).map_err(Failure::NotStarted)?;
    }
    Ok(())
}

/// Provides one device; what the administrator should know is logged.
///
/// # Errors
/// The device, and why.
pub fn provide_one(devices: &disks::Devices, device: &Device) -> Result<(), String> {
    let disk = &device.name;
    let group = Group::from_name(&device.group);
    let group = group.map_err(|error| format!("device {disk}: group {}: {error}", device.group))?;
    let group = group.ok_or_else(|| {
        format!(
            "device {disk}: there is no group {} (parameter device in section [GLOBAL])",
            device.group
        )
    })?;
    let notes = devices
        .provide(device, group.gid.as_raw())
        .map_err(|error| error.to_string())?;
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    Ok(())
}
