//! Printing the configuration of a VM so that it can be read again, and changing what is printed: the work of
//! `umladmin config`.

use crate::names::VmName;
use crate::setting::Origin;
use crate::vm::Vm;

/// A change of a printed configuration, with the rights of the administrator. The order matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Removes a parameter, of a repeatable one all values. It need not be set.
    Clear(String),
    /// Sets a parameter to a value, of a repeatable one adds the value.
    Set(String, String),
    /// Gives the VM another name.
    Rename(VmName),
}

impl Vm {
    /// The section of this VM as it can stand in a main configuration file. Defaults are comments, as they may depend
    /// on the name and the file; so is the password, which is not shown.
    pub fn to_ini(&self) -> String {
        let mut text = format!("[{}]\n", self.name);
        for setting in self.settings() {
            let (param, value) = (setting.param, setting.value);
            text.push_str(&match setting.origin {
                _ if param == "password" => "# password is set, but not shown\n".to_owned(),
                Origin::Default => format!("# {param} = {value}\n"),
                _ if param == "use" => format!("# {param} = {value}, which sets the following\n"),
                Origin::Main | Origin::Template | Origin::User => format!("{param} = {value}\n"),
            });
        }
        text
    }
}
