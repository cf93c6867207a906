//! `umladmin check`: everything that is wrong with a configuration and with the host for it, each with its place and
//! what to do (umladmin).
//!
//! Each file below looks at one subject; none changes anything.

mod directories;
mod disks;
mod host;
mod kernel;
mod places;
mod secrets;
mod users;

use std::path::Path;

use cli::{Exit, Failure, printable};
use config::{Config, UserChanges, Vm};
use serde_json::{Value, json};

use crate::report::Report;
use crate::selection::bad_config;
use places::Places;

/// Something that will not work, or is not safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `FILE:LINE`, or the file.
    place: String,
    problem: String,
    /// What to do about it.
    suggestion: String,
}

impl Finding {
    fn new(place: impl ToString, problem: impl ToString, suggestion: impl ToString) -> Finding {
        Finding {
            place: place.to_string(),
            problem: problem.to_string(),
            suggestion: suggestion.to_string(),
        }
    }

    fn line(&self) -> String {
        let suggestion = match self.suggestion.as_str() {
            "" => String::new(),
            suggestion => format!("; {suggestion}"),
        };
        let line = format!("{}: {}{suggestion}", self.place, self.problem);
        format!("{}\n", printable(line.as_bytes()))
    }

    fn json(&self) -> Value {
        json!({"place": self.place, "problem": self.problem, "suggestion": self.suggestion})
    }
}

/// What the checks look at: what is left of the configuration when its faulty lines are taken away.
pub(crate) struct Subject {
    config: Config,
    /// With the changes of their users.
    vms: Vec<Vm>,
    places: Places,
}

type Check = fn(&Subject) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    directories::check,
    secrets::check,
    users::check,
    kernel::check,
    disks::check,
    host::memory,
    host::networks,
    host::services,
];

pub(crate) fn run(path: &Path, as_json: bool) -> Result<Exit, Failure> {
    let (faults, config) = config::lint(path).map_err(bad_config)?;
    let mut findings: Vec<Finding> = faults.iter().map(|fault| fault_in(path, fault)).collect();
    let (vms, mut spoilt) = effective(&config);
    findings.append(&mut spoilt);
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::from(error).about(path.display()))?;
    let subject = Subject {
        places: Places::of(path, &text),
        config,
        vms,
    };
    findings.extend(CHECKS.iter().flat_map(|check| check(&subject)));
    let report = Report::new();
    if as_json {
        let all: Vec<Value> = findings.iter().map(Finding::json).collect();
        report.print(&format!("{:#}\n", Value::from(all)))?;
    } else {
        let lines: String = findings.iter().map(Finding::line).collect();
        report.print(&lines)?;
        report.print(&match findings.len() {
            0 => "nothing is wrong\n".to_owned(),
            1 => "1 problem\n".to_owned(),
            n => format!("{n} problems\n"),
        })?;
    }
    Ok(if findings.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn fault_in(path: &Path, fault: &config::Error) -> Finding {
    match fault.place() {
        Some(place) => Finding::new(place, fault.without_place(), ""),
        None => Finding::new(path.display(), fault, ""),
    }
}

/// The VMs with the changes of their users; where these are faulty, that is a finding, and they do not count.
fn effective(config: &Config) -> (Vec<Vm>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut vms = Vec::new();
    for name in config.vm_names() {
        match config.vm(name) {
            Ok(vm) => vms.push(vm),
            Err(fault) => {
                let file = config.global.user_file(name);
                findings.push(fault_in(&file, &fault));
                vms.extend(config.vm_with(name, &UserChanges::default()).ok());
            }
        }
    }
    (vms, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a check says about a configuration whose directories are below a new one, which replaces `DIR`.
    pub(super) fn findings(check: Check, text: &str, dir: &Path) -> Vec<String> {
        let text = format!(
            "[GLOBAL]\nvardir = {0}/var\nrundir = {0}/run\n{1}",
            dir.display(),
            text.replace("DIR", &dir.display().to_string())
        );
        let path = Path::new("umlmon");
        let config = Config::parse(&text, path).unwrap();
        let (vms, spoilt) = effective(&config);
        assert_eq!(spoilt, []);
        let subject = Subject {
            places: Places::of(path, &text),
            config,
            vms,
        };
        check(&subject).iter().map(Finding::line).collect()
    }

    #[test]
    fn a_finding_is_a_harmless_line() {
        let finding = Finding::new("umlmon:3", "bad \x1b[2J", "do this");
        assert_eq!(finding.line(), "umlmon:3: bad \\x1b[2J; do this\n");
    }
}
