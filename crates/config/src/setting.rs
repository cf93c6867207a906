//! The properties of a parameter that is set: in which kind of section, by whom, and to what. Used by every program.

use std::fmt;

/// The kinds of sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// `[GLOBAL]`.
    Global,
    /// The section of a VM.
    Vm,
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SectionKind::Global => "the section [GLOBAL]",
            SectionKind::Vm => "the section of a VM",
        })
    }
}

/// Where the value of a parameter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The section of the VM in the main configuration file, or `[GLOBAL]`.
    Main,
    /// A template that the VM uses.
    Template,
    /// A user change.
    User,
}

/// A parameter in effect, as it may be shown to all users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name with the index, like `con0`.
    pub param: String,
    /// The value as it was written; `(set)` for a password.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}
