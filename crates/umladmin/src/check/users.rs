//! The users as which VMs run: there, not root, and not shared (umladmin).

use std::collections::BTreeMap;

use super::subject::{Finding, Subject};

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for vm in &subject.vms {
        let name = vm.name.as_str();
        let place = subject.places.param(name, "vmuser");
        if let Some(Err(error)) = subject.account(vm) {
            findings.push(Finding::new(
                &place,
                error,
                "create the user, for instance with adduser --system",
            ));
        }
        if vm.has_auto_user() {
            continue;
        }
        match first.get(vm.vmuser.as_str()) {
            Some(other) => findings.push(Finding::new(
                place,
                format!(
                    "{name} and {other} run as the same user {}: a guest that escapes from one can reach the disks of the other",
                    vm.vmuser
                ),
                "give each VM a user of its own",
            )),
            None => {
                first.insert(&vm.vmuser, name);
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;

    #[test]
    fn shared_and_unknown_users() {
        let dir = tempfile::tempdir().unwrap();
        let vm = |name: &str, user: &str| format!("[{name}]\nvmuser = {user}\nmem = 64\n");
        let text = [
            vm("a", "nobody"),
            vm("b", "no-such-user"),
            vm("c", "nobody"),
            vm("d", "auto"),
            vm("e", "auto"),
        ]
        .concat();
        let found = findings(check, &text, dir.path());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("umlmon:8: ") && found[0].contains("no-such-user"));
        assert!(found[1].starts_with("umlmon:11: c and a run as the same user nobody"));
    }
}
