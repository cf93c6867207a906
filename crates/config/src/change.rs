//! Making a user change: allowed only if the VM is valid with it. umlmon does it.

use crate::assignment::Assignment;
use crate::error::{Error, Result};
use crate::main_file::Config;
use crate::names::VmName;
use crate::params;
use crate::password::Password;
use crate::setting::{Origin, SectionKind};
use crate::user::UserChanges;

impl UserChanges {
    /// Changes a parameter; of a repeatable one, adds a value. Refused, with nothing changed, if users may not set it
    /// or the VM would not be valid with it. A password is kept as its MD5 sum.
    pub fn set(&mut self, config: &Config, vm: &VmName, param: &str, value: &str) -> Result<()> {
        // In a file, blanks around a value do not count.
        let trimmed = value.trim_matches([' ', '\t']);
        let mut new = Assignment::new(SectionKind::Vm, param, trimmed, Origin::User)?;
        if new.param.secret() {
            if trimmed != value {
                return Err(Error::Conflict(
                    "a password must not begin or end with a blank".into(),
                )
                .of(param));
            }
            new.value = Password::from_config(value)?.to_text();
        }
        let mut changed = self.of_vm(vm)?;
        if !new.param.repeatable {
            changed.assignments.retain(|a| !a.same_param(&new));
        }
        changed.assignments.push(new);
        config.vm_with(vm, &changed)?;
        *self = changed;
        Ok(())
    }

    /// Removes the user change of a parameter, so that the administrator's value is effective again; for a repeatable
    /// one, all values that users have added. Refused if the VM would become invalid by it.
    pub fn del(&mut self, config: &Config, vm: &VmName, param: &str) -> Result<()> {
        let (found, index) = params::find_or_hint(SectionKind::Vm, param)?;
        if found.protected {
            return Err(Error::Protected {
                param: param.to_owned(),
            });
        }
        let mut changed = self.of_vm(vm)?;
        changed.assignments.retain(|a| !a.is_param(found, index));
        if changed.assignments.len() == self.assignments.len() {
            return Err(Error::NoUserChange {
                param: param.to_owned(),
                instead: config.where_set(vm, found, index)?,
            });
        }
        // The configuration may be invalid already; then this may be a step to repair it.
        if let Err(e) = config.vm_with(vm, &changed)
            && config.vm_with(vm, self).is_ok()
        {
            return Err(e);
        }
        *self = changed;
        Ok(())
    }
}
