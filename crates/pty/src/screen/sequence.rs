//! How far an escape sequence has been read. Part of the screen model in the umlmon daemon.

/// How far a sequence has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No sequence.
    Normal,
    /// ESC
    Escape,
    /// ESC \[
    Bracket,
    /// ESC \[ and a parameter or a mark of privacy
    Parameters(Private),
    /// ESC \[ \[, and one more to be swallowed
    FunctionKey,
    /// ESC #
    Hash,
    /// ESC ( or ESC )
    Charset(u8),
    /// ESC %
    Percent,
    /// ESC \[ with what no sequence has here
    Ignore,
    /// ESC ]
    Nonstandard,
    /// ESC ] P
    Palette,
    /// ESC ] and a digit: swallowed until BEL or ESC
    Osc,
    /// DCS, PM or APC: swallowed in the same way
    Text,
}

/// The mark after ESC \[.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Private {
    /// None.
    Standard,
    /// `?`
    Dec,
    /// `<`, `=` or `>`, with which the console knows no sequences.
    Other(u8),
}
