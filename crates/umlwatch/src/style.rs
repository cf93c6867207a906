//! The options that say how results are shown: one table for the command line and the interactive mode (umlwatch).

use cli::{Arg, Failure, Kind, Line, Word};

use crate::keys::Escape;

/// How the results of commands are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// `-json`
    pub json: bool,
    /// `-raw`
    pub raw: bool,
    /// `-follow`
    pub follow: bool,
    /// `-escape`
    pub escape: Escape,
}

/// A row of the table.
pub(crate) struct StyleOption {
    pub(crate) word: Word,
    /// Sets it; the text is its argument, if it takes one.
    set: fn(&mut Style, &str) -> Result<(), Failure>,
}

/// What counts for all commands of a command line, or for one of the interactive mode.
pub(crate) const OPTIONS: &[StyleOption] = &[
    StyleOption {
        word: Word::new(
            "json",
            None,
            "-info, -disk-list, -screen and -events print JSON",
        ),
        set: |style, _| {
            style.json = true;
            Ok(())
        },
    },
    StyleOption {
        word: Word::new(
            "follow",
            None,
            "-tail continues with new output, until CTRL-C",
        ),
        set: |style, _| {
            style.follow = true;
            Ok(())
        },
    },
    StyleOption {
        word: Word::new(
            "escape",
            Some(Arg::new("KEY", Kind::Value)),
            "The key that leaves a connection: ^], ^A .., or none",
        ),
        set: |style, key| {
            style.escape = Escape::parse(key)?;
            Ok(())
        },
    },
    StyleOption {
        word: Word::new(
            "raw",
            None,
            "-tail and -site leave control characters as they are",
        ),
        set: |style, _| {
            style.raw = true;
            Ok(())
        },
    },
];

/// What [`Style::set`] has used.
pub(crate) enum Taken {
    /// The word is no option.
    Nothing,
    /// Only the option.
    Option,
    /// The option and the word after it.
    OptionAndKey,
}

impl Style {
    /// The options of a command line.
    ///
    /// # Errors
    /// A usage failure.
    pub fn of(line: &Line) -> Result<Style, Failure> {
        let mut style = Style::default();
        for given in &line.words {
            if let Some(option) = find(given.name) {
                (option.set)(&mut style, &given.value.to_string_lossy())?;
            }
        }
        Ok(style)
    }

    /// Sets an option, given without its dash; `next` is the word after it.
    ///
    /// # Errors
    /// A usage failure.
    pub(crate) fn set(&mut self, option: &str, next: &str) -> Result<Taken, Failure> {
        let (name, attached) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let Some(option) = find(name) else {
            return Ok(Taken::Nothing);
        };
        let (argument, taken) = match (option.word.arg, attached) {
            (None, None) => ("", Taken::Option),
            (None, Some(_)) => return Ok(Taken::Nothing),
            (Some(_), Some(value)) => (value, Taken::Option),
            (Some(_), None) => (next, Taken::OptionAndKey),
        };
        (option.set)(self, argument)?;
        Ok(taken)
    }
}

fn find(name: &str) -> Option<&'static StyleOption> {
    OPTIONS.iter().find(|option| option.word.name == name)
}
