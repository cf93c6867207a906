//! The usable part of a configuration file that has faults: the sections of the VMs that are right. Used by every
//! program, so that a mistake in the section of one VM does not affect the others.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::names::VmName;
use crate::template::name_in;

/// With more faulty sections than this, the file as a whole is refused: for each one, the file is read once more.
const MAX_FAULTS: usize = 200;

/// A section of a VM that cannot be used.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The VM; None if its name is the fault.
    pub(crate) vm: Option<VmName>,
    /// The name of the section.
    section: String,
    /// The template that it uses, if the fault is that there is none of this name.
    missing: Option<String>,
    /// The line of the header.
    pub(crate) line: usize,
    /// What is wrong, as [`Error`] displays it.
    problem: String,
}

impl Fault {
    pub(crate) fn error(&self) -> Error {
        Error::Conflict(self.problem.clone())
    }
}

/// A template that has a fault is missing where it is used: the fault is told there, too.
fn tell_why_missing(faults: &mut [Fault]) {
    for n in 0..faults.len() {
        let (before, rest) = faults.split_at_mut(n);
        let Some(fault) = rest.first_mut() else {
            return;
        };
        let missing = fault.missing.as_deref();
        let is_cause = |cause: &&Fault| missing.is_some() && name_in(&cause.section) == missing;
        if let Some(cause) = before.iter().find(is_cause) {
            fault.problem.clone_from(&cause.problem);
        }
    }
}

/// Parses a text; after a fault in the section of a VM it continues as if that section were not there. The text before
/// the first section, and `[GLOBAL]`, must be right.
pub(crate) fn parse_sound<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T>,
) -> Result<(T, Vec<Fault>)> {
    let mut faults = Vec::new();
    let mut left = text.to_owned();
    loop {
        let error = match parse(&left) {
            Ok(parsed) => {
                tell_why_missing(&mut faults);
                return Ok((parsed, faults));
            }
            Err(error) => error,
        };
        let section = error.place().and_then(|place| section(&left, place.line));
        match section {
            Some((name, lines)) if name != "GLOBAL" && faults.len() < MAX_FAULTS => {
                faults.push(Fault {
                    vm: name.parse().ok(),
                    section: name.to_owned(),
                    missing: match error.root() {
                        Error::UnknownTemplate { name, .. } => Some(name.clone()),
                        _ => None,
                    },
                    line: lines.start + 1,
                    problem: error.to_string(),
                });
                left = only(&left, |n, _, _| !lines.contains(&n));
            }
            _ => return Err(error),
        }
    }
}

/// The name of the section that a line is in, and its lines, counted from 0, from its header on.
fn section(text: &str, line: usize) -> Option<(&str, Range<usize>)> {
    let mut found = None;
    let mut end = 0;
    for (n, text) in text.lines().enumerate() {
        if let Some(name) = header(text) {
            if n >= line {
                break;
            }
            found = Some((name, n));
        }
        end = n + 1;
    }
    found.map(|(name, begin)| (name, begin..end))
}

/// The name in a line that looks like a header.
pub(crate) fn header(line: &str) -> Option<&str> {
    let header = line.trim().strip_prefix('[')?;
    Some(header.trim_end_matches(']').trim())
}

/// The text with empty lines in place of the lines that are not wanted, by their number, counted from 0, the name of
/// their section, if they are in one, and whether they are its header.
pub(crate) fn only(text: &str, is_wanted: impl Fn(usize, Option<&str>, bool) -> bool) -> String {
    let mut kept = String::new();
    let mut section = None;
    for (n, line) in text.lines().enumerate() {
        let header = header(line);
        section = header.or(section);
        if is_wanted(n, section, header.is_some()) {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}
