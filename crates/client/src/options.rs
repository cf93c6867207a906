//! The options that say how another host is reached. Runs in the clients.

use std::path::PathBuf;

use cli::{Arg, Failure, Kind, Line, Word};

use crate::tls::Wish;

/// How a monitor on another host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// The one that is offered; the direct one, if both are.
    #[default]
    Any,
    /// At its own port.
    Direct,
    /// Through the redirector.
    Redirector,
}

/// How another host is reached.
#[derive(Debug, Default)]
pub struct Options {
    /// `-via`
    pub via: Via,
    /// `-tls`
    pub tls: Wish,
    /// `-ca`
    pub ca: Option<PathBuf>,
    /// `-password-file`
    pub password_file: Option<PathBuf>,
    /// `-legacy`
    pub legacy: bool,
}

/// Their words on a command line.
pub const REMOTE: &[Word] = &[
    Word::new(
        "via",
        Some(Arg::new("WAY", Kind::Words(&["direct", "redirector"]))),
        "Connects only this way: direct or redirector",
    ),
    Word::new(
        "password-file",
        Some(Arg::FILE),
        "Reads the password from the first line of this file",
    ),
    Word::new(
        "tls",
        Some(Arg::new("HOW", Kind::Words(&["require", "off"]))),
        "TLS: require or off; by default, if the host offers it",
    ),
    Word::new(
        "ca",
        Some(Arg::FILE),
        "Accepts only certificates signed by those in this file",
    ),
    Word::new(
        "legacy",
        None,
        "Logs in with version 1, which lets listeners try passwords",
    ),
];

impl Options {
    /// Those of a command line.
    ///
    /// # Errors
    /// If a value is not valid.
    pub fn of(line: &Line) -> Result<Options, Failure> {
        let ways = [("direct", Via::Direct), ("redirector", Via::Redirector)];
        let wishes = [("require", Wish::Require), ("off", Wish::Off)];
        let options = Options {
            via: choice(line, "via", &ways)?,
            tls: choice(line, "tls", &wishes)?,
            ca: line.value("ca").map(PathBuf::from),
            password_file: line.value("password-file").map(PathBuf::from),
            legacy: line.has("legacy"),
        };
        match options.ca.is_some() && options.tls == Wish::Off {
            true => Err(Failure::usage("-ca cannot be used with -tls off")),
            false => Ok(options),
        }
    }
}

/// The meaning of an option's value; the default if it is not given.
fn choice<T: Copy + Default>(line: &Line, name: &str, choices: &[(&str, T)]) -> Result<T, Failure> {
    let Some(value) = line.value(name) else {
        return Ok(T::default());
    };
    let found = choices.iter().find(|(word, _)| value == *word);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        Failure::usage(format_args!(
            "-{name}: {value:?} is not valid; use one of {}",
            words.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::{Exit, Program, Request, Section};

    const PROGRAM: Program = Program {
        name: "test",
        about: "",
        synopsis: &[],
        sections: &[Section {
            heading: "",
            words: REMOTE,
        }],
        modes: &[],
        operand: Some(Arg::VM),
        notes: "",
        manual: "",
    };

    fn options(args: &[&str]) -> Result<Options, Failure> {
        match PROGRAM.parse(args.iter().map(Into::into))? {
            Request::Run(line) => Options::of(&line),
            Request::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn each_word_is_understood() {
        let none = options(&["vm1"]).unwrap();
        assert_eq!((none.via, none.tls), (Via::Any, Wish::Auto));
        let all = options(&[
            "-via",
            "redirector",
            "-tls",
            "require",
            "-ca",
            "/a",
            "-password-file",
            "/p",
            "-legacy",
            "vm1@h",
        ])
        .unwrap();
        assert_eq!((all.via, all.tls), (Via::Redirector, Wish::Require));
        assert_eq!(all.ca, Some("/a".into()));
        assert_eq!(all.password_file, Some("/p".into()));
        assert!(all.legacy && !none.legacy);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &["-via", "tcp", "vm1"][..],
            &["-tls", "on", "vm1"],
            &["-tls", "off", "-ca", "/a", "vm1"],
        ] {
            assert_eq!(options(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
        assert_eq!(
            options(&["-via", "tcp", "vm1"]).unwrap_err().message,
            "-via: \"tcp\" is not valid; use one of direct, redirector"
        );
    }
}
