//! What can be wrong with a configuration. Runs in every program; each error prints as one line that names the place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::setting::SectionKind;

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A line of a configuration file, for messages. Displays as `FILE:LINE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named when it was opened.
    pub file: Arc<Path>,
    /// Line, counted from 1; of a wrapped value the first one.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What is wrong. `Display` is the complete message in one line (so [`std::error::Error::source`] has nothing to add);
/// text from files and users is quoted, and control characters in it are escaped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are what the messages show
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// The user changes cannot be saved; the old file is intact.
    #[error("cannot save {}: {error}", path.display())]
    Save { path: PathBuf, error: io::Error },
    /// A file as a whole is not acceptable.
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
    /// The problem is in this line.
    #[error("{place}: {problem}")]
    At { place: Place, problem: Box<Error> },
    /// The problem is the value of this parameter.
    #[error("{param}: {problem}")]
    Param { param: String, problem: Box<Error> },
    /// The structure of a file, or the combination of several settings.
    #[error("{0}")]
    Conflict(String),
    /// A name or value does not have the form it must have.
    #[error("{} is not {what}{}", quoted(text), explained(why))]
    Value {
        what: String,
        text: String,
        why: String,
    },
    /// There is no parameter of this name in this kind of section.
    #[error("there is no parameter {} in {section}{hint}", quoted(name))]
    UnknownParameter {
        section: SectionKind,
        name: String,
        hint: String,
    },
    /// A user tried to change a parameter that only the administrator may set.
    #[error(
        "{param} is protected: only the administrator can set it, in the main configuration file"
    )]
    Protected { param: String },
    /// A user passed a kernel argument that is reserved for the monitor or accesses something outside the VM.
    #[error(
        "the kernel argument {} is reserved for the administrator: {why}",
        quoted(argument)
    )]
    ReservedArgument { argument: String, why: &'static str },
    /// A required parameter is not set.
    #[error("[{vm}]: the required parameter {param} is missing")]
    Missing { vm: String, param: &'static str },
    /// The main configuration file has no such section.
    #[error("there is no VM {} in {}{hint}", quoted(name), path.display())]
    UnknownVm {
        path: PathBuf,
        name: String,
        hint: String,
    },
    /// The main configuration file has no such template.
    #[error("there is no section [template {name}]{hint}")]
    UnknownTemplate { name: String, hint: String },
    /// The parameter to delete is not a user change.
    #[error("{param} is not a user change: {instead}")]
    NoUserChange { param: String, instead: String },
}

impl Error {
    /// The problem itself, without the file, line and parameter it was found in.
    pub fn root(&self) -> &Error {
        match self {
            Error::At { problem, .. } | Error::Param { problem, .. } => problem.root(),
            _ => self,
        }
    }

    /// The line it was found in, if it is one line of a file.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Error::At { place, .. } => Some(place),
            Error::Param { problem, .. } => problem.place(),
            _ => None,
        }
    }

    /// The problem without the line it was found in; for that see [`Error::place`].
    pub fn without_place(&self) -> &Error {
        match self {
            Error::At { problem, .. } => problem.without_place(),
            _ => self,
        }
    }

    pub(crate) fn value(what: impl Into<String>, text: &str, why: impl Into<String>) -> Error {
        Error::Value {
            what: what.into(),
            text: text.to_owned(),
            why: why.into(),
        }
    }

    pub(crate) fn at(self, place: &Place) -> Error {
        Error::At {
            place: place.clone(),
            problem: Box::new(self),
        }
    }

    pub(crate) fn of(self, param: &str) -> Error {
        Error::Param {
            param: param.to_owned(),
            problem: Box::new(self),
        }
    }
}

fn explained(why: &str) -> String {
    if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    }
}

/// Quotes text of unknown origin: control characters escaped, cut after 80 characters.
pub(crate) fn quoted(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    let cut = if start.len() < text.len() { "..." } else { "" };
    format!("{start:?}{cut}")
}

/// `; did you mean "mem"?` if one of the known words is similar, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // No misspelling is that long, and the distance takes quadratic time.
    if word.len() > 64 {
        return String::new();
    }
    let lower = word.to_ascii_lowercase();
    let nearest = known
        .into_iter()
        .map(|k| (distance(&lower, &k.to_ascii_lowercase()), k))
        .min();
    match nearest {
        Some((d, k)) if d <= 2 && d < k.len() && k != word => format!("; did you mean {k:?}?"),
        _ => String::new(),
    }
}

/// How many bytes must be inserted, deleted or replaced to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (y, pair) in b.bytes().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { continue };
            left = (diagonal + usize::from(x != y))
                .min(above + 1)
                .min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_get_a_suggestion() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        let known = ["vmuser", "mem", "kernelarg"];
        assert_eq!(did_you_mean("VMUSER", known), "; did you mean \"vmuser\"?");
        assert_eq!(
            did_you_mean("kernelargs", known),
            "; did you mean \"kernelarg\"?"
        );
        assert_eq!(did_you_mean("pool", known), "");
        assert_eq!(did_you_mean("a", ["b"]), "");
    }

    #[test]
    fn quoted_text_is_harmless() {
        assert_eq!(quoted("a\n\x1b[2J"), r#""a\n\u{1b}[2J""#);
        assert_eq!(quoted(&"x".repeat(100)).len(), 85);
    }
}
