//! The sections `[template NAME]`: parameters that several VMs have in common. Used by every program.

use crate::assignment::{Assignment, read_section};
use crate::error::{Error, Place, Result, did_you_mean};
use crate::ini;
use crate::names::TemplateName;
use crate::setting::{Origin, SectionKind};

/// The parameter that names the template of a VM, or of a template.
pub(crate) const USE: &str = "use";

/// A section `[template NAME]`.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) name: TemplateName,
    pub(crate) place: Place,
    pub(crate) assignments: Vec<Assignment>,
}

impl Template {
    pub(crate) fn of(name: &str, section: &ini::Section) -> Result<Template> {
        let name: TemplateName = name.parse().map_err(|e: Error| e.at(&section.place))?;
        Ok(Template {
            assignments: read_section(section, SectionKind::Vm, Origin::Template)?,
            place: section.place.clone(),
            name,
        })
    }

    /// Headers of the same template can differ in blanks.
    pub(crate) fn check_new(&self, others: &[Template]) -> Result<()> {
        match others.iter().any(|other| other.name == self.name) {
            false => Ok(()),
            true => {
                let why = format!("there is already a section [template {}]", self.name);
                Err(Error::Conflict(why).at(&self.place))
            }
        }
    }
}

/// What follows the word `template` in the header of such a section. No name of a VM has a blank.
pub(crate) fn name_in(header: &str) -> Option<&str> {
    let name = header.strip_prefix("template")?;
    name.starts_with([' ', '\t']).then(|| name.trim())
}

/// The parameters of a section, and before them those of the template that it uses, of the template that this one uses,
/// and so on. What is set in a section replaces what its template sets; a repeatable parameter has the values of both,
/// those of the template first.
pub(crate) fn inherit(templates: &[Template], own: Vec<Assignment>) -> Result<Vec<Assignment>> {
    let mut all = own;
    let mut used: Vec<&TemplateName> = Vec::new();
    let mut line = uses(&all).cloned();
    while let Some(by) = line {
        let template = find(templates, &by.value).map_err(|e| by.blame(e.of(USE)))?;
        if used.contains(&&template.name) {
            let why = format!("the template {} uses itself", template.name);
            return Err(by.blame(Error::Conflict(why).of(USE)));
        }
        used.push(&template.name);
        line = uses(&template.assignments).cloned();
        let is_replaced =
            |a: &Assignment| !a.param.repeatable && all.iter().any(|own| own.same_param(a));
        let inherited = template.assignments.iter().filter(|a| !is_replaced(a));
        all = inherited.cloned().chain(all.iter().cloned()).collect();
    }
    Ok(all)
}

/// The line that names the template of a section, if it uses one.
pub(crate) fn uses(assignments: &[Assignment]) -> Option<&Assignment> {
    assignments.iter().find(|a| a.param.name == USE)
}

fn find<'a>(templates: &'a [Template], name: &str) -> Result<&'a Template> {
    let names = templates.iter().map(|template| template.name.as_str());
    let unknown = || Error::UnknownTemplate {
        name: name.to_owned(),
        hint: did_you_mean(name, names),
    };
    let found = templates
        .iter()
        .find(|template| template.name.as_str() == name);
    found.ok_or_else(unknown)
}
