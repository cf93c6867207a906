//! What a row of the table of parameters says. Used by every program.

use crate::error::Result;
use crate::global::Global;
use crate::setting::SectionKind;
use crate::vm::Vm;

/// The properties of a parameter.
pub struct Param {
    /// The name; of an indexed one without the number.
    pub name: &'static str,
    /// For `con` and similar: the name is followed by a number from 0 to this.
    pub indexed: Option<u8>,
    /// Where it can be set.
    pub section: SectionKind,
    /// Only the administrator can set it. (Users cannot set global ones anyway.)
    pub protected: bool,
    /// It is required in every VM section.
    pub required: bool,
    /// It may be given several times.
    pub repeatable: bool,
    /// The value if it is not set; VARDIR and VMNAME stand for the directory and the name.
    pub default: Option<&'static str>,
    /// The syntax of the value, for people.
    pub value: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Not in the format of 2005.
    pub addition: bool,
    pub(crate) set: Set,
}

/// How a value is checked and stored; the number is the index.
pub(crate) enum Set {
    Global(fn(&mut Global, &str) -> Result<()>),
    Vm(fn(&mut Vm, u8, &str) -> Result<()>),
}

impl Param {
    /// The value is never shown.
    pub fn secret(&self) -> bool {
        self.name == "password"
    }

    /// The name as it is written in a file.
    pub fn full_name(&self, index: u8) -> String {
        match self.indexed {
            None => self.name.to_owned(),
            Some(_) => format!("{}{index}", self.name),
        }
    }
}
