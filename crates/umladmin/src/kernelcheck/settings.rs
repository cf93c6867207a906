//! Which parameters suit a kernel (umladmin).

use serde_json::{Map, Value};

use super::trial::{Trial, Verdict};
use super::userspace::{CPUS, SECCOMP};

/// A parameter of umlmon(5), its value, and what the user has to know about it.
struct Setting {
    name: &'static str,
    value: &'static str,
    remark: Option<&'static str>,
}

/// Settings for a VM with a kernel that works.
pub(super) struct Settings(Vec<Setting>);

impl Settings {
    /// By what was found out about the kernel, on a host with so many processors.
    pub(super) fn of(rows: &[Trial], processors: usize) -> Settings {
        let works = |what| {
            let row = rows.iter().find(|row| row.what == what);
            row.is_some_and(|row| row.verdict == Verdict::Works)
        };
        let userspace = match works(SECCOMP) {
            true => (
                "seccomp",
                Some(
                    "Faster. Users of the guest can become root in it, but not on the host; ptrace prevents that.",
                ),
            ),
            false => ("ptrace", None),
        };
        let cpus = match works(CPUS) && processors > 1 {
            true => (
                "2",
                Some("Programs run in parallel; threads of one program do not."),
            ),
            false => ("1", None),
        };
        let all = [
            ("userspace", userspace),
            ("cpus", cpus),
            ("sync_disks", ("auto", None)),
            ("affinity", ("auto", None)),
        ];
        let setting = |(name, (value, remark))| Setting {
            name,
            value,
            remark,
        };
        Settings(all.map(setting).into())
    }

    /// As lines of a section of /etc/umlmon.
    pub(super) fn text(&self) -> String {
        let mut text = "# Recommended for VMs with this kernel:\n".to_owned();
        for setting in &self.0 {
            if let Some(remark) = setting.remark {
                text += &format!("# {remark}\n");
            }
            text += &format!("{} = {}\n", setting.name, setting.value);
        }
        text
    }

    /// As an object.
    pub(super) fn json(&self) -> Value {
        let members = self.0.iter();
        let members = members.map(|setting| (setting.name.to_owned(), setting.value.into()));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use config::{Config, UserChanges};

    use super::*;

    #[test]
    fn what_works_is_recommended_and_is_a_configuration() {
        let row = |what, verdict| Trial {
            what,
            verdict,
            found: String::new(),
        };
        let told = |seccomp, cpus, processors| {
            let rows = [row(SECCOMP, seccomp), row(CPUS, cpus)];
            let settings = Settings::of(&rows, processors);
            let vm = "[vm1]\nvmuser = nobody\nmem = 64\nkernel = /shared/kernels/k\n";
            let text = format!("{vm}{}", settings.text());
            let config = Config::parse(&text, "umlmon".as_ref()).unwrap();
            let vm = config.vm_with(&"vm1".parse().unwrap(), &UserChanges::default());
            vm.unwrap();
            let json = settings.json();
            ["userspace", "cpus"].map(|name| json[name].as_str().unwrap().to_owned())
        };
        use Verdict::{Beware, Lacks, Works};
        assert_eq!(told(Works, Works, 2), ["seccomp", "2"]);
        assert_eq!(told(Works, Works, 1), ["seccomp", "1"]);
        assert_eq!(told(Works, Lacks, 2), ["seccomp", "1"]);
        assert_eq!(told(Beware, Lacks, 2), ["ptrace", "1"]);
    }
}
