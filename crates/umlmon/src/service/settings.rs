//! The procedures for the settings of the VM's user (umlmon, the monitor process).

use std::rc::Rc;

use config::{Config, Device, DiskName, Origin, Setting, UserChanges, Vm};
use rpc_xdr::umlmonctrl::*;

use crate::failure::Failure;
use crate::service::{Service, wire};

impl Service {
    pub(super) fn settings(&self) -> Result<Vec<ConfigSetting>, Failure> {
        Ok(self.next()?.settings().iter().map(setting).collect())
    }

    /// How the VM is configured for its next start.
    pub(super) fn next(&self) -> Result<Rc<Vm>, config::Error> {
        let (file, name) = (&self.setup.configured.file, self.setup.name());
        self.next.get(|marks| {
            // The text of a configuration with a thousand VMs, of which one was wanted, is to be freed.
            self.economy.notify_one();
            marks.mark(file);
            let config = Config::load_only(file, name)?;
            marks.mark(&config.global.user_file(name));
            config.vm(name)
        })
    }

    pub(super) fn set(&self, args: ConfigSetArgs) -> Result<(), Failure> {
        let not_text = |_| Failure::Invalid(format!("the value of {} must be UTF-8", args.param));
        let value = String::from_utf8(args.value).map_err(not_text)?;
        self.change(|changes, config| changes.set(config, self.setup.name(), &args.param, &value))
    }

    pub(super) fn del(&self, args: &ConfigDelArgs) -> Result<(), Failure> {
        self.change(|changes, config| changes.del(config, self.setup.name(), &args.param))
    }

    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut UserChanges, &Config) -> Result<(), config::Error>,
    ) -> Result<(), Failure> {
        let config = Config::load(&self.setup.configured.file)?;
        let file = config.global.user_file(self.setup.name());
        let mut changes = UserChanges::load(&file)?;
        change(&mut changes, &config)?;
        Ok(changes.save(&file)?)
    }

    /// Checks that a user could configure this disk as this parameter, and changes nothing. Returns the block device of
    /// the host that the administrator lends under this name, if there is one.
    pub(super) fn may_set_disk(
        &self,
        param: &str,
        disk: &DiskName,
    ) -> Result<Vec<Device>, Failure> {
        let config = Config::load(&self.setup.configured.file)?;
        let mut changes = UserChanges::load(&config.global.user_file(self.setup.name()))?;
        changes.set(&config, self.setup.name(), param, disk.as_str())?;
        let devices = config.global.devices.into_iter();
        Ok(devices.filter(|device| device.name == *disk).collect())
    }
}

/// A setting, and where its value comes from.
pub(super) fn setting(setting: &Setting) -> ConfigSetting {
    let origin = match setting.origin {
        Origin::Default => ConfigOrigin::Default,
        Origin::Main => ConfigOrigin::Main,
        Origin::User => ConfigOrigin::User,
        Origin::Template => ConfigOrigin::Template,
    };
    ConfigSetting {
        param: setting.param.clone(),
        value: wire::value(&setting.value),
        origin,
    }
}
