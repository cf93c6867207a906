//! How a VM behaves.

/// What a VM does when it is to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// Its guest shuts down at CTRL-ALT-DEL.
    #[default]
    Obeys,
    /// Its guest does not; the kernel can be halted.
    Ignores,
    /// Its kernel can only be killed, and answers to nothing else.
    Frozen,
    /// It obeys, but is suspended after a start.
    Sleeps,
    /// It obeys, but its monitor cannot tell about it.
    Vague,
    /// Its monitor accepts connections, and never answers.
    Mute,
}

impl Manner {
    /// The manner of this name, such as `obeys`.
    pub fn named(name: &str) -> Option<Manner> {
        Some(match name {
            "obeys" => Manner::Obeys,
            "ignores" => Manner::Ignores,
            "frozen" => Manner::Frozen,
            "sleeps" => Manner::Sleeps,
            "vague" => Manner::Vague,
            "mute" => Manner::Mute,
            _ => return None,
        })
    }
}
