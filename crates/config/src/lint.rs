//! All faults of a configuration file, and not only the first one. Used by umladmin.

use std::path::Path;

use crate::error::{Error, Result};
use crate::ini;
use crate::main_file::Config;
use crate::template;
use crate::user::UserChanges;

/// The limit on the number of faults; no reader needs more at once.
const MAX_FAULTS: usize = 200;

/// Reads a file as [`Config::parse`] does, and continues after each fault as if its line were not there. Returns the
/// faults, and the rest of the configuration. User changes are not read.
///
/// # Errors
/// If the file cannot be read, or is no configuration file at all.
pub fn lint(path: &Path) -> Result<(Vec<Error>, Config)> {
    lint_text(ini::read(path)?, path)
}

pub(crate) fn lint_text(mut text: String, path: &Path) -> Result<(Vec<Error>, Config)> {
    let mut faults: Vec<Error> = Vec::new();
    let whole = text.clone();
    loop {
        let fault = match Config::parse(&text, path) {
            Ok(config) => match first_fault(&config) {
                None => {
                    faults.sort_by_key(|fault| fault.place().map(|place| place.line));
                    return Ok((faults, config));
                }
                Some(fault) => fault,
            },
            Err(fault) => fault,
        };
        let line = fault.place().map(|place| place.line);
        match line.and_then(|line| without(&text, line)) {
            Some(rest) if faults.len() < MAX_FAULTS => {
                if !faults.iter().any(|cause| follows(&fault, cause, &whole)) {
                    faults.push(fault);
                }
                text = rest;
            }
            _ => return Err(fault),
        }
    }
}

/// Whether a parameter is missing only because its faulty line was removed.
fn follows(fault: &Error, cause: &Error, text: &str) -> bool {
    let (Some(header), Some(entry)) = (fault.place(), cause.place()) else {
        return false;
    };
    let mut above = text.lines().take(entry.line);
    let last_header = above
        .by_ref()
        .enumerate()
        .filter(|(_, line)| line.trim().starts_with('['))
        .last();
    let is_in_section = last_header.is_some_and(|(n, _)| n + 1 == header.line);
    let is_in_template = last_header.is_some_and(|(_, header)| {
        template::name_in(header.trim().trim_start_matches('[').trim_start()).is_some()
    });
    match (fault.root(), cause.without_place()) {
        (Error::Missing { param, .. }, Error::Param { param: faulty, .. }) => {
            (is_in_section || is_in_template) && param == faulty
        }
        _ => false,
    }
}

/// The fault of the first VM whose settings do not fit together.
fn first_fault(config: &Config) -> Option<Error> {
    let none = UserChanges::default();
    config
        .vm_names()
        .find_map(|vm| config.vm_with(vm, &none).err())
}

/// The text with empty lines in place of the entry that begins in this line, or of the section whose header it is; None
/// if nothing is there.
fn without(text: &str, line: usize) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let rest = lines.get_mut(line.checked_sub(1)?..)?;
    let first = rest.first()?.trim();
    if first.is_empty() {
        return None;
    }
    let is_header = |line: &str| line.trim().starts_with('[');
    let mut open = 0_isize;
    for (n, line) in rest.iter_mut().enumerate() {
        let ends = match is_header(first) {
            true => n > 0 && is_header(line),
            false => n > 0 && (open <= 0 || is_header(line)),
        };
        if ends {
            break;
        }
        open += line.chars().map(depth).sum::<isize>();
        *line = "";
    }
    Some(lines.join("\n"))
}

/// A value whose parentheses are open continues in the next line.
fn depth(c: char) -> isize {
    match c {
        '(' => 1,
        ')' => -1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> (Vec<String>, Config) {
        let (faults, config) = lint_text(text.to_owned(), Path::new("umlmon")).unwrap();
        (faults.iter().map(ToString::to_string).collect(), config)
    }

    #[test]
    fn every_fault_is_told_and_the_rest_is_read() {
        let text = "[GLOBAL]\nvardir = relative\ntcp = perhaps\n\
            [bad name]\nvmuser = nobody\n\
            [vm1]\nmem = 64\n\
            [vm2]\nvmuser = nobody\nmen = 64\nmem = x\neth0 = host_to_host(\n  proxy_if=a,\n  what=b)\nmem = 32\n\
            nonsense\n[vm3]\nvmuser = nobody\nmem = 16\n";
        let (faults, config) = faults(text);
        let begin = |line: usize| format!("umlmon:{line}: ");
        let lines: Vec<usize> = faults
            .iter()
            .map(|fault| (1..30).find(|n| fault.starts_with(&begin(*n))).unwrap())
            .collect();
        assert_eq!(lines, [2, 3, 4, 6, 10, 11, 12, 16], "{faults:#?}");
        let names: Vec<_> = config.vm_names().map(ToString::to_string).collect();
        assert_eq!(names, ["vm2", "vm3"]);
        let vm = config.vm_with(&"vm2".parse().unwrap(), &UserChanges::default());
        assert_eq!(vm.unwrap().mem, 32);
    }

    #[test]
    fn a_good_file_has_none() {
        let (faults, config) = faults("[vm1]\nvmuser = nobody\nmem = 64\n");
        assert!(faults.is_empty() && config.vm_names().count() == 1);
    }
}
