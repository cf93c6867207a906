//! The main configuration file. Read by every program when it starts, and by umlmon again before every start of a VM.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::assignment::{Assignment, expand, read_section};
use crate::edit::Edit;
use crate::error::{Error, Place, Result, did_you_mean};
use crate::global::Global;
use crate::ini;
use crate::names::{TemplateName, VmName};
use crate::params::{self, PARAMS, Param};
use crate::setting::{Origin, SectionKind, Setting};
use crate::sound::{Fault, only, parse_sound};
use crate::template::{self, Template};
use crate::user::UserChanges;
use crate::values::absolute_path;
use crate::vm::Vm;

/// The main configuration file. Every line of `[GLOBAL]` was parsed and every value has the right form. If a section of
/// a VM has a fault, [`Config::vm`] returns it, and the other VMs are not affected. [`Config::vm`] also checks whether
/// the settings of a VM fit together, because this depends on user changes.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, as it was named when it was read.
    pub path: PathBuf,
    /// The section `[GLOBAL]`.
    pub global: Global,
    vms: Vec<VmSection>,
    templates: Vec<Template>,
    /// The faults of templates, and of sections whose name is not that of a VM.
    nameless: Vec<Fault>,
}

#[derive(Debug, Clone)]
struct VmSection {
    name: VmName,
    place: Place,
    /// Those of its templates first.
    assignments: Vec<Assignment>,
    /// Why it cannot be used; there are no assignments then.
    fault: Option<Fault>,
}

/// The part of the main configuration file that a client needs: where the monitors are. Other settings of the VMs are
/// not read, so that a fault there does not prevent commands to a running VM.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The section `[GLOBAL]`.
    pub global: Global,
    sections: Vec<String>,
}

impl Overview {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Overview> {
        Overview::parse(&ini::read(path)?, path)
    }

    /// Reads the text of a file; the path is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Overview> {
        let text = only(text, |_, section, is_header| {
            is_header || section.is_none_or(|name| name == "GLOBAL")
        });
        let (sections, faults) = parse_sound(&text, |text| ini::parse(text, path))?;
        let global = sections.iter().find(|section| section.name == "GLOBAL");
        let global = global.map_or(Ok(Vec::new()), |section| {
            read_section(section, SectionKind::Global, Origin::Main)
        })?;
        Ok(Overview {
            global: Global::build(&global)?,
            sections: sections
                .into_iter()
                .map(|section| section.name)
                .chain(
                    faults
                        .into_iter()
                        .filter_map(|fault| Some(fault.vm?.to_string())),
                )
                .collect(),
        })
    }

    /// Whether there is a section for this VM.
    pub fn has(&self, vm: &VmName) -> bool {
        self.sections.iter().any(|name| name == vm.as_str())
    }
}

/// What a file says, in the order of the sections of each kind.
struct Sections {
    global: Vec<Assignment>,
    templates: Vec<Template>,
    vms: Vec<VmSection>,
}

impl Sections {
    fn of(all: Vec<ini::Section>) -> Result<Sections> {
        let mut sections = Sections {
            global: Vec::new(),
            templates: Vec::new(),
            vms: Vec::new(),
        };
        for section in all {
            if section.name == "GLOBAL" {
                sections.global = read_section(&section, SectionKind::Global, Origin::Main)?;
            } else if let Some(name) = template::name_in(&section.name) {
                let template = Template::of(name, &section)?;
                template.check_new(&sections.templates)?;
                sections.templates.push(template);
            } else {
                sections.vms.push(VmSection {
                    name: section
                        .name
                        .parse()
                        .map_err(|e: Error| e.at(&section.place))?,
                    assignments: read_section(&section, SectionKind::Vm, Origin::Main)?,
                    place: section.place,
                    fault: None,
                });
            }
        }
        sections.inherit()?;
        Ok(sections)
    }

    /// Adds to each VM what its templates set.
    fn inherit(&mut self) -> Result<()> {
        for template in &self.templates {
            template::inherit(&self.templates, template.assignments.clone())?;
        }
        for vm in &mut self.vms {
            let own = std::mem::take(&mut vm.assignments);
            vm.assignments = template::inherit(&self.templates, own)?;
        }
        Ok(())
    }
}

impl Config {
    /// The path of the file unless the user gives another one.
    pub const DEFAULT_PATH: &str = "/etc/umlmon";

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or if a setting for all VMs has a fault. Faults in the sections of VMs are returned by
    /// [`Config::vm`] and [`Config::nameless_faults`].
    pub fn load(path: &Path) -> Result<Config> {
        Config::parse_sound(&ini::read(path)?, path)
    }

    /// Reads the text of a file as [`Config::load`] does.
    pub(crate) fn parse_sound(text: &str, path: &Path) -> Result<Config> {
        let (mut config, faults) = parse_sound(text, |text| Config::parse(text, path))?;
        for fault in faults {
            let Some(name) = fault.vm.clone() else {
                config.nameless.push(fault);
                continue;
            };
            // Of two sections with the same name, it is not known which one is meant.
            config.vms.retain(|vm| vm.name != name);
            config.vms.push(VmSection {
                name,
                place: Place {
                    file: path.into(),
                    line: fault.line,
                },
                assignments: Vec::new(),
                fault: Some(fault),
            });
        }
        config.vms.sort_by_key(|vm| vm.place.line);
        Ok(config)
    }

    /// Reads only what is about one VM, for display: the sections of other VMs are passed over, so that it takes little
    /// longer with a thousand of them. Whether it conflicts with them is only checked by [`Config::load`].
    ///
    /// # Errors
    /// As those of [`Config::load`].
    pub fn load_only(path: &Path, name: &VmName) -> Result<Config> {
        let text = only(&ini::read(path)?, |_, section, _| {
            section.is_none_or(|section| {
                section == "GLOBAL"
                    || section == name.as_str()
                    || template::name_in(section).is_some()
            })
        });
        Config::parse_sound(&text, path)
    }

    /// Reads the text of a file in which everything must be right; the path is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config> {
        let sections = Sections::of(ini::parse(text, path)?)?;
        let config = Config {
            path: path.to_owned(),
            global: Global::build(&sections.global)?,
            vms: sections.vms,
            templates: sections.templates,
            nameless: Vec::new(),
        };
        config.check_devices(&sections.global)?;
        config.check_directories()?;
        Ok(config)
    }

    fn check_devices(&self, global: &[Assignment]) -> Result<()> {
        let devices = &self.global.devices;
        let lines = global.iter().filter(|a| a.param.name == "device");
        for (n, (device, line)) in devices.iter().zip(lines).enumerate() {
            if devices.iter().take(n).any(|d| d.name == device.name) {
                let why = format!(
                    "there is already a device named {}",
                    device.name.file_name()
                );
                return Err(line.blame(Error::Conflict(why).of("device")));
            }
        }
        Ok(())
    }

    /// Every directory belongs to one VM: users choose the names of the files in their log directory.
    fn check_directories(&self) -> Result<()> {
        let mut owners: HashMap<PathBuf, &VmName> = HashMap::new();
        for VmSection {
            name,
            place,
            assignments,
            ..
        } in &self.vms
        {
            if self.global.is_vm_dir_taken(name) {
                let why =
                    format!("the directory of the VM {name} is already used as shared or rundir");
                return Err(Error::Conflict(why).at(place));
            }
            for param in PARAMS
                .iter()
                .filter(|p| ["jaildir", "logdir"].contains(&p.name))
            {
                let set = assignments
                    .iter()
                    .find(|a| a.is_param(param, 0))
                    .map(|a| a.value.clone());
                let set = set
                    .or_else(|| Some(expand(param.default?, &self.global.vardir, name.as_str())));
                let path = absolute_path(&set.unwrap_or_default())?;
                if let Some(owner) = owners.insert(path, name) {
                    let why = format!(
                        "the {} of {name} is already a directory of {owner}",
                        param.name
                    );
                    return Err(Error::Conflict(why).at(place));
                }
            }
        }
        Ok(())
    }

    /// The names of the VMs in the order of the file, also of those whose section has a fault.
    pub fn vm_names(&self) -> impl Iterator<Item = &VmName> {
        self.vms.iter().map(|vm| &vm.name)
    }

    /// The templates that no section uses, and where they are.
    pub fn unused_templates(&self) -> impl Iterator<Item = (&TemplateName, &Place)> {
        let vms = self.vms.iter().map(|vm| &vm.assignments);
        let sections = vms.chain(self.templates.iter().map(|template| &template.assignments));
        let used: Vec<&str> = sections
            .filter_map(|section| Some(template::uses(section)?.value.as_str()))
            .collect();
        let templates = self.templates.iter();
        templates
            .filter(move |template| !used.contains(&template.name.as_str()))
            .map(|template| (&template.name, &template.place))
    }

    /// What a template sets, with what it has from those that it uses; None if there is no such template.
    ///
    /// # Errors
    /// If it uses one that is not there, or itself.
    pub fn template(&self, name: &str) -> Result<Option<Vec<Setting>>> {
        let named = |template: &&Template| template.name.as_str() == name;
        let Some(template) = self.templates.iter().find(named) else {
            return Ok(None);
        };
        let all = template::inherit(&self.templates, template.assignments.clone())?;
        let all = all.iter().filter(|a| a.param.name != template::USE);
        Ok(Some(all.map(Assignment::setting).collect()))
    }

    /// The faults of templates, and of sections whose name is not that of a VM: it is not known which VMs are meant.
    pub fn nameless_faults(&self) -> impl Iterator<Item = Error> {
        self.nameless.iter().map(Fault::error)
    }

    /// Whether no section has a fault. Only then it is certain that a VM without a section has been removed: after a
    /// mistake in a header, its lines belong to another section.
    pub fn is_faultless(&self) -> bool {
        self.nameless.is_empty() && self.vms.iter().all(|vm| vm.fault.is_none())
    }

    /// The effective configuration of a VM: with the user changes as they are stored now.
    pub fn vm(&self, name: &VmName) -> Result<Vm> {
        self.section(name)?;
        self.vm_with(name, &UserChanges::load(&self.global.user_file(name))?)
    }

    /// The effective configuration of a VM with these user changes.
    pub fn vm_with(&self, name: &VmName, changes: &UserChanges) -> Result<Vm> {
        self.build(name, name, self.merge(name, changes)?, &[])
    }

    /// The effective configuration of a VM with the edits of an administrator, as for printing it with [`Vm::to_ini`].
    pub fn vm_edited(&self, name: &VmName, changes: &UserChanges, edits: &[Edit]) -> Result<Vm> {
        let mut merged = self.merge(name, changes)?;
        let mut new_name = name;
        for edit in edits {
            match edit {
                Edit::Clear(param) => {
                    let (param, index) = params::find_or_hint(SectionKind::Vm, param)?;
                    merged.retain(|a| !a.is_param(param, index));
                }
                Edit::Set(param, value) => {
                    let new = Assignment::new(
                        SectionKind::Vm,
                        param,
                        value.trim_matches([' ', '\t']),
                        Origin::Main,
                    )?;
                    if new.param.name == "use" {
                        let why = "what a template sets is printed in its place; change that";
                        return Err(Error::Conflict(why.into()).of("use"));
                    }
                    merged.retain(|a| new.param.repeatable || !a.same_param(&new));
                    merged.push(new);
                }
                Edit::Rename(name) => new_name = name,
            }
        }
        self.build(name, new_name, merged, edits)
    }

    fn build(
        &self,
        section: &VmName,
        name: &VmName,
        mut merged: Vec<Assignment>,
        edits: &[Edit],
    ) -> Result<Vm> {
        merged.sort_by_key(Assignment::rank);
        let place = &self.section(section)?.place;
        // A parameter that an edit has removed is not missing in the file.
        let is_cleared = |param: &str| {
            edits
                .iter()
                .any(|edit| matches!(edit, Edit::Clear(cleared) if cleared == param))
        };
        Vm::build(&self.global, name, &merged).map_err(|e| match e {
            Error::Missing { param, .. } if !is_cleared(param) => e.at(place),
            _ => e,
        })
    }

    /// A user change replaces what the administrator has set, except that repeatable parameters are added to it.
    fn merge(&self, name: &VmName, changes: &UserChanges) -> Result<Vec<Assignment>> {
        let main = &self.section(name)?.assignments;
        let changes = changes.assignments(name)?;
        let replaced = |a: &Assignment| {
            !a.param.repeatable && changes.iter().any(|change| change.same_param(a))
        };
        let mut merged: Vec<Assignment> = main.iter().filter(|a| !replaced(a)).cloned().collect();
        merged.extend_from_slice(changes);
        Ok(merged)
    }

    fn section(&self, name: &VmName) -> Result<&VmSection> {
        let found = self.vms.iter().find(|vm| vm.name == *name);
        let found = found.ok_or_else(|| Error::UnknownVm {
            path: self.path.clone(),
            name: name.to_string(),
            hint: did_you_mean(name.as_str(), self.vm_names().map(VmName::as_str)),
        })?;
        match &found.fault {
            None => Ok(found),
            Some(fault) => Err(fault.error()),
        }
    }

    /// Where the administrator has set a parameter of a VM, for a message.
    pub(crate) fn where_set(&self, name: &VmName, param: &Param, index: u8) -> Result<String> {
        let mut lines = self.section(name)?.assignments.iter();
        Ok(
            match lines
                .find(|a| a.is_param(param, index))
                .and_then(|a| a.place.as_ref())
            {
                Some(place) => format!("the administrator has set it in {place}"),
                None => match param.default {
                    Some(_) => "it has its default value".into(),
                    None => "it is not set".into(),
                },
            },
        )
    }
}
