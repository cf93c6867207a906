//! What `-help` prints: the words of a program, or what its manual page says of one.

use std::ffi::OsString;
use std::fmt::Write as _;

use crate::exit::Failure;
use crate::manual;
use crate::similar::similar;
use crate::words::{COMMON, Program, Word};

impl Program {
    /// What `-version` prints.
    pub fn version(&self) -> String {
        format!("{} {}\n", self.name, env!("CARGO_PKG_VERSION"))
    }

    /// What `-help` prints.
    pub fn help(&self) -> String {
        let mut text = format!("{} - {}\n\n", self.name, self.about);
        for (n, synopsis) in self.synopsis.iter().enumerate() {
            let lead = if n == 0 { "Usage:" } else { "      " };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{lead} {} {synopsis}", self.name);
        }
        for section in self.sections.iter().chain([&COMMON]) {
            let _ = writeln!(text, "\n{}:", section.heading);
            for word in section.words {
                let form = format!("-{}", word.form());
                text.push_str(&entry(2, &form, word.help));
            }
        }
        text.push_str(&self.modes_help());
        if !self.notes.is_empty() {
            let _ = writeln!(text, "\n{}", self.notes);
        }
        text
    }

    /// What `-help` prints with what follows it.
    pub(crate) fn help_with(&self, about: Option<OsString>) -> Result<String, Failure> {
        match about {
            None => Ok(self.help()),
            Some(about) => self.help_about(&about.to_string_lossy()),
        }
    }

    /// What `-help WORD` prints, for a word with or without its dash.
    ///
    /// # Errors
    /// A usage failure if there is no such word.
    pub fn help_about(&self, given: &str) -> Result<String, Failure> {
        let name = given.trim_start_matches('-');
        let mode = self.modes.iter().find(|mode| mode.name == given);
        if let Some(mode) = mode {
            return Ok(self.help_about_mode(mode));
        }
        let word = self.words().find(|word| word.name == name);
        let word = word.ok_or_else(|| {
            let modes = self.modes.iter().map(|mode| mode.name);
            let known = self.words().map(|word| word.name);
            let hint = similar(name, modes.chain(known))
                .map_or(String::new(), |known| format!("; did you mean {known}?"));
            Failure::usage(format_args!("there is no '{given}' to explain{hint}"))
        })?;
        let text = manual::entry(self.manual, self.name, "Fl", word.name);
        let text = text.unwrap_or_else(|| entry(0, "", word.help));
        Ok(format!("{} -{}\n\n{text}", self.name, word.form()))
    }

    fn help_about_mode(&self, mode: &Word) -> String {
        let is_its = |text: &str| text.split([' ', '|', ',']).any(|word| word == mode.name);
        let mut text = String::new();
        for line in self.synopsis.iter().filter(|line| is_its(line)) {
            let _ = writeln!(text, "{} {line}", self.name);
        }
        let manual = manual::entry(self.manual, self.name, "Cm", mode.name);
        let _ = write!(text, "\n{}", manual.unwrap_or_default());
        let sections = self.sections.iter();
        let options = sections.filter(|section| is_its(section.heading));
        for (n, word) in options.flat_map(|section| section.words).enumerate() {
            let heading = if n == 0 { "\nOptions:\n" } else { "" };
            let form = format!("-{}", word.form());
            let _ = write!(text, "{heading}{}", entry(2, &form, word.help));
        }
        text
    }

    fn modes_help(&self) -> String {
        let Some(width) = self.modes.iter().map(|mode| mode.name.len()).max() else {
            return String::new();
        };
        let mode = |mode: &Word| format!("  {:width$}  {}\n", mode.name, mode.help);
        let modes: String = self.modes.iter().map(mode).collect();
        format!("\nModes:\n{modes}")
    }
}

/// Where the words about something begin in a help, and where its lines end.
const COLUMN: usize = 24;
const WIDTH: usize = 80;

/// A line of a help, or several if it is long: what is typed, so many columns from the margin, and what it does.
pub fn entry(margin: usize, form: &str, help: &str) -> String {
    let column = margin + COLUMN;
    let mut lines: Vec<String> = Vec::new();
    for word in help.split(' ') {
        let fits = |line: &String| column + line.len() + 1 + word.len() <= WIDTH;
        match lines.last_mut().filter(|line| fits(line)) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    let form = format!("{:margin$}{form}", "");
    let begin = match form.len() < column {
        true => format!("{form:<column$}"),
        false => format!("{form}\n{:column$}", ""),
    };
    let between = format!("\n{:column$}", "");
    format!("{begin}{}\n", lines.join(&between))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arg::Arg;
    use crate::words::Section;

    #[test]
    fn a_help_is_as_wide_as_a_terminal() {
        assert_eq!(
            entry(2, "-info", "Shows it"),
            "  -info                   Shows it\n"
        );
        let long = entry(0, "-disk-create NAME:SIZE[:sparse]", &"word ".repeat(15));
        let lines: Vec<&str> = long.lines().collect();
        assert_eq!(lines.len(), 3, "{long}");
        assert!(lines.iter().all(|line| line.len() <= 80), "{long}");
        let begin = format!("{:24}word", "");
        assert!(
            lines.iter().skip(1).all(|line| line.starts_with(&begin)),
            "{long}"
        );
    }

    const PROGRAM: Program = Program {
        name: "umladmin",
        about: "test",
        synopsis: &["[OPTION]... list|stop [VM]...", "config VM"],
        sections: &[Section {
            heading: "For list, and others",
            words: &[Word::new("json", None, "Prints JSON")],
        }],
        modes: &[
            Word::new("list", Some(Arg::VM), "Lists"),
            Word::new("config", Some(Arg::VM), "Prints"),
        ],
        operand: None,
        notes: "",
        manual: ".It Cm list\nShows VMs.\n.It Cm config\nPrints.\n.It Fl config Ar file\nReads it.\n.El\n",
    };

    #[test]
    fn a_word_is_explained() {
        let about = |word| PROGRAM.help_about(word);
        assert_eq!(
            about("list").unwrap(),
            "umladmin [OPTION]... list|stop [VM]...\n\n    Shows VMs.\n\nOptions:\n  -json                   Prints JSON\n"
        );
        assert_eq!(
            about("config").unwrap(),
            "umladmin config VM\n\n    Prints.\n"
        );
        assert_eq!(
            about("-config").unwrap(),
            "umladmin -config FILE\n\n    Reads it.\n"
        );
        let unknown = about("lsit").unwrap_err();
        assert_eq!(
            unknown.message,
            "there is no 'lsit' to explain; did you mean list?"
        );
    }
}
