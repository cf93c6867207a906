//! A mistake in an interface file. Runs in `cargo xtask gen`.

/// What is wrong with an interface file, and in which line.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) line: u32,
    pub(super) text: String,
}

impl Error {
    pub(super) fn new(line: u32, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Error>;
