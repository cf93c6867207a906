//! The parameter of a name, or what may have been meant. Used by every program.

use crate::error::{Error, Result, did_you_mean};
use crate::names::number;
use crate::setting::SectionKind;

use super::{PARAMS, Param};

/// The parameter of this name (`mem`, `con0`) in this kind of section, and its index (0 if it has none).
pub fn find(section: SectionKind, name: &str) -> Option<(&'static Param, u8)> {
    PARAMS
        .iter()
        .filter(|p| p.section == section)
        .find_map(|p| match p.indexed {
            None => (p.name == name).then_some((p, 0)),
            Some(max) => name
                .strip_prefix(p.name)
                .and_then(|n| number(n, 0, max).ok())
                .map(|n| (p, n)),
        })
}

/// [`find`], or an error that suggests a similar name.
pub(crate) fn find_or_hint(section: SectionKind, name: &str) -> Result<(&'static Param, u8)> {
    find(section, name).ok_or_else(|| Error::UnknownParameter {
        section,
        name: name.to_owned(),
        hint: hint(section, name),
    })
}

fn hint(section: SectionKind, name: &str) -> String {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let indexed = PARAMS
        .iter()
        .find(|p| p.section == section && p.indexed.is_some() && p.name == base);
    if let Some((param, max)) = indexed.and_then(|p| Some((p, p.indexed?))) {
        return format!("; there is {0}0 to {0}{max}", param.name);
    }
    let other = match section {
        SectionKind::Global => SectionKind::Vm,
        SectionKind::Vm => SectionKind::Global,
    };
    if find(other, name).is_some() {
        return format!("; it belongs in {other}");
    }
    did_you_mean(
        name,
        PARAMS
            .iter()
            .filter(|p| p.section == section && p.indexed.is_none())
            .map(|p| p.name),
    )
}

/// Whether the value of this parameter is a form `name(key=value,...)`, which may be wrapped over lines.
pub(crate) fn takes_form(name: &str) -> bool {
    let found = find(SectionKind::Global, name).or_else(|| find(SectionKind::Vm, name));
    found.is_some_and(|(param, _)| param.value.contains('('))
}
