//! What an argument is: its name in the help, and what can stand for it. Shells and the interactive mode of umlwatch
//! complete an argument by its kind.

/// The argument of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arg {
    /// What it is called in the help.
    pub label: &'static str,
    /// What can stand for it.
    pub kind: Kind,
}

/// What can stand for an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number, a letter, a key: nothing that could be offered.
    Value,
    /// Any text, also one with blanks and dashes.
    Text,
    /// A file of this host.
    File,
    /// A VM of the configuration.
    Vm,
    /// A channel of the VM, such as `con0`.
    Channel,
    /// `monitor`, or a channel.
    Log,
    /// An image that the VM can use.
    Disk,
    /// The name of an image that is to be made.
    NewDisk,
    /// A parameter of the configuration.
    Param,
    /// A parameter, `=`, and any text.
    Setting,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A command and its arguments: all that follows.
    Command,
    /// Two paths, the first or the second one on this host: two words.
    Paths,
    /// Two arguments with a colon between them.
    Pair(&'static Kind, &'static Kind),
}

impl Arg {
    /// A file of this host.
    pub const FILE: Arg = Arg::new("FILE", Kind::File);
    /// A VM of the configuration.
    pub const VM: Arg = Arg::new("VM", Kind::Vm);
    /// A parameter of the configuration.
    pub const PARAM: Arg = Arg::new("PARAM", Kind::Param);
    /// A parameter and its value.
    pub const SETTING: Arg = Arg::new("PARAM=VALUE", Kind::Setting);

    /// An argument of this name and kind.
    pub const fn new(label: &'static str, kind: Kind) -> Arg {
        Arg { label, kind }
    }
}
