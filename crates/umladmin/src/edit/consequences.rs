//! What has to be done so that a changed configuration is in force (umladmin edit).

use std::collections::BTreeMap;

use config::{Config, Vm, VmName};

/// Read when a monitor is started, and only then.
const OF_MONITOR: [&str; 4] = ["vmuser", "vmgroup", "jaildir", "logdir"];

/// A line for each VM that is new, removed or changed, and one for `[GLOBAL]`; without a former configuration nothing.
pub(super) fn describe(before: Option<&Config>, after: &Config) -> String {
    let Some(before) = before else {
        return String::new();
    };
    let mut lines = String::new();
    if before.global != after.global {
        lines += "[GLOBAL]: in force for each program when it is started again\n";
    }
    let has = |config: &Config, vm: &VmName| config.vm_names().any(|it| it == vm);
    for vm in before.vm_names().filter(|vm| !has(after, vm)) {
        lines += &format!("{vm}: removed; umladmin update stops it\n");
    }
    for vm in after.vm_names() {
        if !has(before, vm) {
            lines += &format!("{vm}: new; umladmin update starts its monitor\n");
            continue;
        }
        // What was or is faulty was told before.
        let (Ok(old), Ok(new)) = (before.vm(vm), after.vm(vm)) else {
            continue;
        };
        let changed = changed(&old, &new);
        if changed.is_empty() {
            continue;
        }
        let of_monitor = changed
            .iter()
            .any(|param| OF_MONITOR.contains(&param.as_str()));
        let when = match of_monitor {
            true => format!("in force after umladmin stop {vm} and umladmin start {vm}"),
            false => "in force when the VM is started again".to_owned(),
        };
        lines += &format!("{vm}: {}; {when}\n", changed.join(", "));
    }
    lines
}

/// The parameters whose values are different.
fn changed(old: &Vm, new: &Vm) -> Vec<String> {
    let values = |vm: &Vm| {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for setting in vm.settings() {
            values.entry(setting.param).or_default().push(setting.value);
        }
        values
    };
    let (old_values, new_values) = (values(old), values(new));
    let params = old_values.keys().chain(new_values.keys());
    let mut changed: Vec<String> = params
        .filter(|param| old_values.get(*param) != new_values.get(*param))
        .cloned()
        .collect();
    if old.password != new.password {
        changed.push("password".to_owned());
    }
    changed.sort();
    changed.dedup();
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_with_what_it_needs() {
        let config = |text: &str| {
            let text = format!("[GLOBAL]\nvardir = /nonexistent\n{text}");
            Config::parse(&text, "umlmon".as_ref()).unwrap()
        };
        let vm = |name: &str, rest: &str| format!("[{name}]\nvmuser = nobody\n{rest}");
        let before = [
            vm("a", "mem = 64\npassword = x\n"),
            vm("b", "mem = 64\n"),
            vm("c", "mem = 64\n"),
        ];
        let after = [
            vm("a", "mem = 32\nkernelarg = quiet\npassword = y\n"),
            "[b]\nvmuser = auto\nmem = 64\n".to_owned(),
            vm("d", "mem = 64\n"),
        ];
        let told = describe(Some(&config(&before.concat())), &config(&after.concat()));
        assert_eq!(
            told,
            "c: removed; umladmin update stops it\n\
             a: kernelarg, mem, password; in force when the VM is started again\n\
             b: vmuser; in force after umladmin stop b and umladmin start b\n\
             d: new; umladmin update starts its monitor\n"
        );
        let same = config(&before.concat());
        assert_eq!(describe(Some(&same), &same), "");
    }
}
