//! The table of words of a program, and the parsing and help that follow from it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::arg::{Arg, Kind};
use crate::exit::Failure;
use crate::similar::similar;

/// One word of a command line, used as `-name`, `--name`, `-name ARG`, `-name=ARG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// The word without its dash.
    pub name: &'static str,
    /// Its argument, if it takes one.
    pub arg: Option<Arg>,
    /// What it does, in one line.
    pub help: &'static str,
}

impl Word {
    /// A row of a table.
    pub const fn new(name: &'static str, arg: Option<Arg>, help: &'static str) -> Word {
        Word { name, arg, help }
    }

    /// The word and its argument, as the help shows them, without a dash.
    pub fn form(&self) -> String {
        match self.arg {
            Some(arg) => format!("{} {}", self.name, arg.label),
            None => self.name.to_owned(),
        }
    }
}

/// The words of a table that is a constant and whose rows have a field `word`, as [`Program`] wants them.
#[macro_export]
macro_rules! words {
    ($table:expr) => {{
        const WORDS: [$crate::Word; $table.len()] = {
            let mut words = [$table[0].word; $table.len()];
            let mut n = 0;
            while n < words.len() {
                words[n] = $table[n].word;
                n += 1;
            }
            words
        };
        &WORDS
    }};
}

/// Words that belong together in the help.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Printed above the words.
    pub heading: &'static str,
    /// In the order of the help.
    pub words: &'static [Word],
}

/// Everything the command line of a program needs.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// As in messages.
    pub name: &'static str,
    /// What the program is, in one line.
    pub about: &'static str,
    /// What may follow the name, one line each.
    pub synopsis: &'static [&'static str],
    /// The program's own words. `-config`, `-version` and `-help` come by themselves.
    pub sections: &'static [Section],
    /// What the program does, if its first operand says that: keywords, each with the operands that follow it.
    pub modes: &'static [Word],
    /// What the operands are, if the program takes any and has no modes.
    pub operand: Option<Arg>,
    /// What the help ends with; may be empty.
    pub notes: &'static str,
    /// The manual page, which `-help WORD` quotes.
    pub manual: &'static str,
}

pub(crate) const COMMON: Section = Section {
    heading: "All programs",
    words: &[
        Word::new(
            "config",
            Some(Arg::FILE),
            "Reads this configuration file instead of /etc/umlmon",
        ),
        Word::new("version", None, "Prints the version"),
        Word::new(
            "help",
            None,
            "Prints this help; with a word after it, what the manual says of that",
        ),
    ],
};

/// A word that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its name in the table.
    pub name: &'static str,
    /// Its argument; empty if it takes none. The words of a command, and two paths, have NULs between them, which no
    /// word contains.
    pub value: OsString,
}

impl Given {
    /// The argument as text.
    pub fn text(&self) -> Result<&str, Failure> {
        self.value.to_str().ok_or_else(|| {
            Failure::usage(format_args!("-{}: not UTF-8: {:?}", self.name, self.value))
        })
    }
}

/// A command line that makes sense, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// The words, but `-config`, in their order.
    pub words: Vec<Given>,
    /// What is not a word: names of VMs, keywords.
    pub operands: Vec<OsString>,
    /// The last `-config`.
    pub config: Option<PathBuf>,
}

impl Line {
    /// Whether a word was given.
    pub fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word.name == name)
    }

    /// The argument of a word; the last one counts if it was given more than once.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        let last = self.words.iter().rfind(|word| word.name == name)?;
        Some(&last.value)
    }

    /// The configuration file to read: that of `-config`, else the default.
    pub fn config_or<'a>(&'a self, default: &'a (impl AsRef<Path> + ?Sized)) -> &'a Path {
        self.config.as_deref().unwrap_or(default.as_ref())
    }

    /// The operands as text.
    pub fn text_operands(&self) -> Result<Vec<&str>, Failure> {
        let text = |operand: &'_ OsString| Failure::usage(format_args!("not UTF-8: {operand:?}"));
        self.operands
            .iter()
            .map(|operand| operand.to_str().ok_or_else(|| text(operand)))
            .collect()
    }

    /// That there is no operand.
    ///
    /// # Errors
    /// A usage error that names the first one, and why there is to be none.
    pub fn no_operand(&self, why: &str) -> Result<(), Failure> {
        match self.text_operands()?.first() {
            None => Ok(()),
            Some(operand) => Err(Failure::usage(format_args!(
                "unexpected '{operand}': {why}"
            ))),
        }
    }

    /// The only operand.
    ///
    /// # Errors
    /// A usage error that names `what` if there is none. A second operand may be a word of `program` without its dash:
    /// the error suggests that word.
    pub fn one_operand(&self, program: &Program, what: &str) -> Result<&str, Failure> {
        match self.text_operands()?.as_slice() {
            [operand] => Ok(operand),
            [] => Err(Failure::usage(format_args!("{what} is missing"))),
            [_, more, ..] => Err(program.unexpected(more)),
        }
    }
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The program's work.
    Run(Line),
    /// Only this text: help or version.
    Print(String),
}

impl Program {
    /// All words, the common ones last.
    pub fn words(&self) -> impl Iterator<Item = &'static Word> {
        let own = self.sections.iter().flat_map(|section| section.words);
        own.chain(COMMON.words)
    }

    /// Reads the arguments (without the program's own name). The error is always of usage.
    pub fn parse(&self, args: impl IntoIterator<Item = OsString>) -> Result<Request, Failure> {
        let mut line = Line::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(dashed) = dashed(&arg) else {
                line.operands.push(arg);
                continue;
            };
            if dashed.is_empty() {
                line.operands.extend(args.by_ref());
                break;
            }
            let (name, attached) = split_value(dashed);
            let word = self.find(name)?;
            let value = take_value(word, attached, &mut args)?;
            match word.name {
                "help" => return self.help_with(args.next()).map(Request::Print),
                "version" => return Ok(Request::Print(self.version())),
                "config" => line.config = Some(value.into()),
                name => line.words.push(Given { name, value }),
            }
        }
        Ok(Request::Run(line))
    }

    fn unexpected(&self, operand: &str) -> Failure {
        // Whoever types h wants help, and not a hint about halt.
        let known = match operand {
            "h" => Some("help"),
            _ => similar(operand, self.words().map(|word| word.name)),
        };
        let hint = known.map_or(String::new(), |word| format!("; did you mean -{word}?"));
        Failure::usage(format_args!("unexpected '{operand}'{hint}"))
    }

    fn find(&self, name: &[u8]) -> Result<&'static Word, Failure> {
        // A user who types -h wants help, and not a hint about -halt.
        let name = if name == b"h" { b"help" } else { name };
        if let Some(word) = self.words().find(|word| word.name.as_bytes() == name) {
            return Ok(word);
        }
        let name = String::from_utf8_lossy(name);
        let hint = similar(&name, self.words().map(|word| word.name))
            .map_or(String::new(), |word| {
                format!("; a similar option exists: '-{word}'")
            });
        Err(Failure::usage(format_args!(
            "unknown option '-{name}'{hint}"
        )))
    }
}

/// The part after the dashes; None if the argument is an operand. A dash alone is one, two dashes end the words.
fn dashed(arg: &OsStr) -> Option<&[u8]> {
    let rest = arg.as_bytes().strip_prefix(b"-")?;
    match rest.strip_prefix(b"-") {
        Some(rest) => Some(rest),
        None if rest.is_empty() => None,
        None => Some(rest),
    }
}

fn split_value(dashed: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut halves = dashed.splitn(2, |byte| *byte == b'=');
    (halves.next().unwrap_or_default(), halves.next())
}

fn take_value(
    word: &Word,
    attached: Option<&[u8]>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, Failure> {
    let name = word.name;
    match (word.arg, attached) {
        (Some(arg), None) if arg.kind == Kind::Command => the_rest(name, arg, rest),
        (Some(arg), None) if arg.kind == Kind::Paths => {
            let first = rest.next().ok_or_else(|| missing(name, arg))?;
            let second = rest.next().ok_or_else(|| missing(name, arg))?;
            Ok([first, second].join(OsStr::new("\0")))
        }
        (None, None) => Ok(OsString::new()),
        (None, Some(_)) => Err(Failure::usage(format_args!("-{name} takes no argument"))),
        (Some(_), Some(value)) => Ok(OsString::from_vec(value.to_vec())),
        (Some(arg), None) => rest.next().ok_or_else(|| missing(name, arg)),
    }
}

/// A command: all words that follow, after two dashes or not.
fn the_rest(
    name: &str,
    arg: Arg,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, Failure> {
    let mut words: Vec<_> = rest.collect();
    if words.first().is_some_and(|word| word == "--") {
        words.remove(0);
    }
    if words.is_empty() {
        return Err(missing(name, arg));
    }
    Ok(words.join(OsStr::new("\0")))
}

fn missing(name: &str, arg: Arg) -> Failure {
    let label = arg.label;
    let needs = match arg.kind {
        Kind::Paths => "two arguments",
        _ => "an argument",
    };
    Failure::usage(format_args!("-{name} needs {needs}: -{name} {label}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    const PROGRAM: Program = Program {
        name: "umlwatch",
        about: "test",
        synopsis: &["[COMMAND]... VM"],
        sections: &[Section {
            heading: "Commands",
            words: &[
                Word {
                    name: "info",
                    arg: None,
                    help: "Shows it",
                },
                Word {
                    name: "tail",
                    arg: Some(Arg::new("FILE[,N]", Kind::Log)),
                    help: "Shows the end",
                },
                Word {
                    name: "exec",
                    arg: Some(Arg::new("COMMAND", Kind::Command)),
                    help: "Runs it",
                },
                Word {
                    name: "start-with",
                    arg: Some(Arg::new("ARG", Kind::Text)),
                    help: "Starts it",
                },
            ],
        }],
        modes: &[],
        operand: Some(Arg::VM),
        notes: "",
        manual: "",
    };

    fn run(args: &[&str]) -> Result<Line, Failure> {
        match PROGRAM.parse(args.iter().map(OsString::from))? {
            Request::Run(line) => Ok(line),
            Request::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn words_keep_their_order_and_repeat() {
        let line = run(&[
            "-info",
            "-tail",
            "con0,20",
            "vm1",
            "--info",
            "-start-with",
            "-s",
            "-tail=-x=y",
            "-config",
            "f",
        ])
        .unwrap();
        let words: Vec<_> = line
            .words
            .iter()
            .map(|w| (w.name, w.value.to_str().unwrap()))
            .collect();
        assert_eq!(
            words,
            [
                ("info", ""),
                ("tail", "con0,20"),
                ("info", ""),
                ("start-with", "-s"),
                ("tail", "-x=y")
            ]
        );
        assert_eq!(line.one_operand(&PROGRAM, "VM").unwrap(), "vm1");
        assert_eq!(line.config_or("/etc/umlmon"), Path::new("f"));
        assert_eq!(line.value("tail").unwrap(), "-x=y");
        assert!(line.has("info") && !line.has("halt"));
    }

    #[test]
    fn all_that_follows_belongs_to_a_command() {
        for args in [
            &["vm1", "-exec", "ls", "-info", "--", "x y"][..],
            &["vm1", "-exec", "--", "ls", "-info", "--", "x y"],
        ] {
            let line = run(args).unwrap();
            assert_eq!(line.operands, ["vm1"]);
            assert_eq!(line.value("exec").unwrap(), "ls\0-info\0--\0x y");
        }
        let none = run(&["vm1", "-exec", "--"]).unwrap_err();
        assert_eq!(none.message, "-exec needs an argument: -exec COMMAND");
    }

    #[test]
    fn dashes_alone() {
        let line = run(&["-", "--", "-info"]).unwrap();
        assert_eq!(line.operands, ["-", "-info"]);
        assert!(line.words.is_empty());
        assert_eq!(line.config_or("/etc/umlmon"), Path::new("/etc/umlmon"));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |args: &[&str]| {
            let failure = run(args).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            failure.message
        };
        assert_eq!(
            message(&["-inof"]),
            "unknown option '-inof'; a similar option exists: '-info'"
        );
        assert_eq!(
            message(&["--start"]),
            "unknown option '-start'; a similar option exists: '-start-with'"
        );
        assert_eq!(message(&["-x"]), "unknown option '-x'");
        assert_eq!(message(&["-info=3"]), "-info takes no argument");
        assert_eq!(
            message(&["-tail"]),
            "-tail needs an argument: -tail FILE[,N]"
        );
        assert_eq!(
            run(&[])
                .unwrap()
                .one_operand(&PROGRAM, "VM")
                .unwrap_err()
                .message,
            "VM is missing"
        );
        assert_eq!(
            run(&["a", "b"])
                .unwrap()
                .one_operand(&PROGRAM, "VM")
                .unwrap_err()
                .message,
            "unexpected 'b'"
        );
        assert_eq!(
            run(&["a", "tail"])
                .unwrap()
                .one_operand(&PROGRAM, "VM")
                .unwrap_err()
                .message,
            "unexpected 'tail'; did you mean -tail?"
        );
    }

    #[test]
    fn h_is_help_whatever_begins_so() {
        const OTHER: Program = Program {
            sections: &[Section {
                heading: "Commands",
                words: &[Word::new("halt", None, "Halts it")],
            }],
            ..PROGRAM
        };
        for h in ["-h", "--h", "-help"] {
            let help = Ok(Request::Print(OTHER.help()));
            assert_eq!(OTHER.parse([h.into()]), help);
        }
    }

    #[test]
    fn help_shows_modes_before_the_notes() {
        const OTHER: Program = Program {
            modes: &[
                Word::new("stop", Some(Arg::VM), "Stops them"),
                Word::new("password", None, "Reads one"),
            ],
            notes: "That is all.",
            ..PROGRAM
        };
        let modes = "\n\nModes:\n  stop      Stops them\n  password  Reads one\n\nThat is all.\n";
        assert!(OTHER.help().ends_with(modes), "{}", OTHER.help());
    }

    #[test]
    fn help_shows_single_dashes() {
        let Request::Print(help) = PROGRAM.parse(["--help".into()]).unwrap() else {
            panic!()
        };
        assert!(help.contains("Usage: umlwatch [COMMAND]... VM\n"));
        assert!(help.contains("\n  -tail FILE[,N]          Shows the end\n"));
        assert!(!help.contains("--"));
        assert!(
            matches!(PROGRAM.parse(["-version".into()]), Ok(Request::Print(v)) if v.starts_with("umlwatch "))
        );
    }
}
