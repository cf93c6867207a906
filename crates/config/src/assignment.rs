//! A parameter that was given a value, and where that happened. Shared by the code for the main configuration file and
//! that for the user changes; used by every program.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use crate::error::{Error, Place, Result};
use crate::global::Global;
use crate::ini;
use crate::kernelarg::check_user_argument;
use crate::params::{self, PARAMS, Param, Set};
use crate::setting::{Origin, SectionKind, Setting};
use crate::vm::Vm;

/// Longest value in bytes, as on the wire (CTL_VALUE_MAX in umlmonctrl.x).
const MAX_VALUE: usize = 4096;

/// A value given to a parameter; it has the right form, but may conflict with others.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) param: &'static Param,
    pub(crate) index: u8,
    pub(crate) value: String,
    pub(crate) origin: Origin,
    /// None if it was not read from a file.
    pub(crate) place: Option<Place>,
}

impl Assignment {
    /// Checks name and value, and for users, whether they may set it.
    pub(crate) fn new(
        section: SectionKind,
        name: &str,
        value: &str,
        origin: Origin,
    ) -> Result<Assignment> {
        let (param, index) = params::find_or_hint(section, name)?;
        if origin == Origin::User && param.protected {
            return Err(Error::Protected {
                param: name.to_owned(),
            });
        }
        let assignment = Assignment {
            param,
            index,
            value: value.to_owned(),
            origin,
            place: None,
        };
        assignment.check().map_err(|e| e.of(name))?;
        Ok(assignment)
    }

    fn check(&self) -> Result<()> {
        if self.value.is_empty() {
            return Err(Error::Conflict("the value is empty".into()));
        }
        if self.value.len() > MAX_VALUE {
            return Err(Error::Conflict(format!(
                "the value is longer than {MAX_VALUE} bytes"
            )));
        }
        if self.value.contains(|c: char| c.is_control() && c != '\t') {
            return Err(Error::Conflict(
                "the value contains control characters".into(),
            ));
        }
        if self.origin == Origin::User && self.param.name == "kernelarg" {
            check_user_argument(&self.value)?;
        }
        match self.param.set {
            Set::Global(set) => set(&mut Global::blank(), &self.value),
            Set::Vm(set) => set(&mut Vm::blank(), self.index, &self.value),
        }
    }

    /// The name with the index.
    pub(crate) fn name(&self) -> String {
        self.param.full_name(self.index)
    }

    /// Whether this is the same parameter.
    pub(crate) fn same_param(&self, other: &Assignment) -> bool {
        self.is_param(other.param, other.index)
    }

    pub(crate) fn is_param(&self, param: &Param, index: u8) -> bool {
        self.param.section == param.section && self.param.name == param.name && self.index == index
    }

    /// Sorts into the order of the table.
    pub(crate) fn rank(&self) -> (usize, u8) {
        let is = |p: &Param| p.section == self.param.section && p.name == self.param.name;
        (
            PARAMS.iter().position(is).unwrap_or(PARAMS.len()),
            self.index,
        )
    }

    /// The value as it may be shown.
    pub(crate) fn setting(&self) -> Setting {
        Setting {
            param: self.name(),
            value: if self.param.secret() {
                "(set)".into()
            } else {
                self.value.clone()
            },
            origin: self.origin,
        }
    }

    /// Puts the place before an error, if there is one.
    pub(crate) fn blame(&self, error: Error) -> Error {
        match &self.place {
            Some(place) => error.at(place),
            None => error,
        }
    }
}

impl fmt::Display for Assignment {
    /// `mem = 64 (FILE:LINE)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { param, value, .. } = self.setting();
        match &self.place {
            Some(place) => write!(f, "{param} = {value} ({place})"),
            None => write!(f, "{param} = {value}"),
        }
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The entries of a section, each checked for itself.
pub(crate) fn read_section(
    section: &ini::Section,
    kind: SectionKind,
    origin: Origin,
) -> Result<Vec<Assignment>> {
    let mut assignments = Vec::with_capacity(section.entries.len());
    let mut seen = HashSet::new();
    for entry in &section.entries {
        let at = |e: Error| e.at(&entry.place);
        let mut assignment = Assignment::new(kind, &entry.key, &entry.value, origin).map_err(at)?;
        if !assignment.param.repeatable && !seen.insert(entry.key.as_str()) {
            return Err(at(Error::Conflict(format!(
                "{} is already set in this section",
                entry.key
            ))));
        }
        assignment.place = Some(entry.place.clone());
        assignments.push(assignment);
    }
    Ok(assignments)
}

/// A default with the words VARDIR, which can only stand at its beginning, and VMNAME replaced.
pub(crate) fn expand(default: &str, vardir: &Path, name: &str) -> String {
    match default.strip_prefix("VARDIR") {
        Some(rest) => format!("{}{}", vardir.display(), rest.replace("VMNAME", name)),
        None => default.to_owned(),
    }
}
