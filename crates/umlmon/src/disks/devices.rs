//! The block devices of the host that the configuration lends to the VMs (umlmon, the monitor process).

use config::Device;
use disks::Devices;
use nix::unistd::Group;

/// Provides devices as they are now; what the administrator should know is logged.
///
/// # Errors
/// The first device that cannot be provided, and why.
pub fn provide(devices: &Devices, lent: &[Device]) -> Result<(), String> {
    lent.iter()
        .try_for_each(|device| provide_one(devices, device))
}

fn provide_one(devices: &Devices, device: &Device) -> Result<(), String> {
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
