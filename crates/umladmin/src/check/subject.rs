//! The inputs of the checks, and their findings (umladmin).

use std::io;
use std::path::Path;

use cli::printable;
use config::{Config, UserChanges, Vm};
use jail::Account;
use serde_json::{Value, json};

use super::places::Places;
use crate::account;

/// What to do if the caller may not see something.
pub(super) const AS_ROOT: &str = "check as root";

/// What to do about an error: [`AS_ROOT`] if it is only that the caller may not see the file.
pub(super) fn remedy(error: &io::Error, otherwise: impl ToString) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => AS_ROOT.into(),
        _ => otherwise.to_string(),
    }
}

/// Something that will not work, or is not safe; or a note about what the administrator may have wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// `FILE:LINE`, or the file.
    place: String,
    problem: String,
    /// What to do about it.
    suggestion: String,
    is_note: bool,
}

impl Finding {
    pub(super) fn new(
        place: impl ToString,
        problem: impl ToString,
        suggestion: impl ToString,
    ) -> Finding {
        Finding {
            place: place.to_string(),
            problem: problem.to_string(),
            suggestion: suggestion.to_string(),
            is_note: false,
        }
    }

    /// Something that works, and is as safe as it can be here: it is told, and not counted.
    pub(super) fn note(
        place: impl ToString,
        what: impl ToString,
        suggestion: impl ToString,
    ) -> Finding {
        Finding {
            is_note: true,
            ..Finding::new(place, what, suggestion)
        }
    }

    /// It is no problem.
    pub(super) fn is_note(&self) -> bool {
        self.is_note
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let suggestion = match self.suggestion.as_str() {
            "" => String::new(),
            suggestion => format!("; {suggestion}"),
        };
        let note = if self.is_note { "note: " } else { "" };
        let line = format!("{}: {note}{}{suggestion}", self.place, self.problem);
        format!("{}\n", printable(line.as_bytes()))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "place": self.place,
            "problem": self.problem,
            "suggestion": self.suggestion,
            "note": self.is_note,
        })
    }
}

/// The inputs of the checks: the configuration without its faulty lines.
pub(super) struct Subject {
    pub(super) config: Config,
    /// With the changes of their users.
    pub(super) vms: Vec<Vm>,
    pub(super) places: Places,
}

impl Subject {
    /// What a text says that has been understood as a configuration, and the faults of the changes that users made to
    /// it.
    pub(super) fn new(path: &Path, text: &str, config: Config) -> (Subject, Vec<Finding>) {
        let (vms, faults) = effective(&config);
        let places = Places::of(path, text);
        let subject = Subject {
            config,
            vms,
            places,
        };
        (subject, faults)
    }
}

impl Subject {
    /// The account of a VM; None if it gets a number of its own when it is started for the first time.
    pub(super) fn account(&self, vm: &Vm) -> Option<jail::Result<Account>> {
        let group = vm.vmgroup.as_deref();
        if let Some(user) = vm.named_user() {
            return Some(Account::resolve(user, group));
        }
        let pool = account::pool(&self.config.global);
        let uid = pool.recorded(vm.name.as_str()).transpose()?;
        Some(uid.and_then(|uid| Account::resolve(&uid.to_string(), group)))
    }
}

/// A fault of the configuration, with its place.
pub(super) fn fault_in(path: &Path, fault: &config::Error) -> Finding {
    match fault.place() {
        Some(place) => Finding::new(place, fault.without_place(), ""),
        None => Finding::new(path.display(), fault, ""),
    }
}

/// The VMs with the changes of their users; faulty changes are a finding, and are ignored.
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
pub(super) mod tests {
    use super::*;

    /// What a check says about a configuration whose directories are below a new one, which replaces `DIR`.
    pub(in super::super) fn findings(
        check: fn(&Subject) -> Vec<Finding>,
        text: &str,
        dir: &Path,
    ) -> Vec<String> {
        let text = format!(
            "[GLOBAL]\nvardir = {0}/var\nrundir = {0}/run\n{1}",
            dir.display(),
            text.replace("DIR", &dir.display().to_string())
        );
        let path = Path::new("umlmon");
        let config = Config::parse(&text, path).unwrap();
        let (subject, faults) = Subject::new(path, &text, config);
        assert_eq!(faults, []);
        check(&subject).iter().map(Finding::line).collect()
    }

    #[test]
    fn a_finding_is_a_harmless_line() {
        let finding = Finding::new("umlmon:3", "bad \x1b[2J", "do this");
        assert_eq!(finding.line(), "umlmon:3: bad \\x1b[2J; do this\n");
        let note = Finding::note("umlmon:3", "odd", "");
        assert_eq!(note.line(), "umlmon:3: note: odd\n");
    }
}
