//! `umladmin check`: everything that is wrong with a configuration and with the host for it, each with its place and
//! what to do (umladmin).
//!
//! Each file below checks one subject; none changes anything.

mod containerd;
mod directories;
mod disks;
mod host;
mod kernel;
mod places;
mod secrets;
mod subject;
mod templates;
mod users;
mod walls;
mod web;

use std::path::Path;

use cli::{Exit, Failure};
use serde_json::Value;

use crate::report::Report;
use crate::selection::bad_config;
use subject::{Finding, Subject, fault_in};

type Check = fn(&Subject) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    directories::check,
    secrets::check,
    templates::check,
    users::check,
    kernel::check,
    disks::check,
    host::memory,
    host::mappings,
    host::networks,
    host::services,
    walls::check,
    web::check,
    containerd::check,
];

pub(crate) fn run(path: &Path, as_json: bool) -> Result<Exit, Failure> {
    let (faults, config) = config::lint(path).map_err(bad_config)?;
    let mut findings: Vec<Finding> = faults.iter().map(|fault| fault_in(path, fault)).collect();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::from(error).about(path.display()))?;
    let (subject, faults) = Subject::new(path, &text, config);
    findings.extend(faults);
    findings.extend(CHECKS.iter().flat_map(|check| check(&subject)));
    let problems = findings.iter().filter(|finding| !finding.is_note()).count();
    let report = Report::new();
    if as_json {
        let all: Vec<Value> = findings.iter().map(Finding::json).collect();
        report.print(&format!("{:#}\n", Value::from(all)))?;
    } else {
        let lines: String = findings.iter().map(Finding::line).collect();
        report.print(&lines)?;
        report.print(&match problems {
            0 => "nothing is wrong\n".to_owned(),
            1 => "1 problem\n".to_owned(),
            n => format!("{n} problems\n"),
        })?;
    }
    Ok(match problems {
        0 => Exit::Done,
        _ => Exit::Failed,
    })
}
