//! What the VM of a pod is to be like: as the administrator chooses in `[template containerd]`, as annotations of the
//! pod ask for, and as its limits need (the server of a pod).

use std::path::{Path, PathBuf};

use anyhow::bail;
use config::{Config, Global};
use monitors::pods;

use crate::bundle::Bundle;

/// The parameters that an annotation may set, as `umlmon.mem`. An engine passes on only those annotations that its
/// configuration names.
const ANNOTATIONS: [&str; 4] = ["kernel", "mem", "cpus", "userspace"];
/// What their names begin with.
const PREFIX: &str = "umlmon.";
/// Memory in megabytes: what a VM has whose containers have no limit, and what the guest needs beside its containers.
const MEMORY: u64 = 512;
const OVERHEAD: u64 = 64;

/// Parameters of the section of a VM, in the order in which they were set.
#[derive(Debug, Default)]
pub(crate) struct Settings(Vec<(String, String)>);

impl Settings {
    /// Those of the pod that begins with this container.
    pub(crate) fn of(config: &Config, bundle: &Bundle) -> anyhow::Result<Settings> {
        let mut settings = Settings::default();
        // Nothing of it outlasts the VM, so nothing is lost with the host.
        settings.set("sync_disks", "none".into());
        settings.set("mem", MEMORY.to_string());
        for setting in pods::settings(config).map_err(anyhow::Error::msg)? {
            match setting.param.as_str() {
                "kernelarg" => settings.add("kernelarg", setting.value),
                param => settings.set(param, setting.value),
            }
        }
        if let Some(bytes) = bundle.memory() {
            let limit = bytes.div_ceil(1 << 20);
            settings.set("mem", (limit + limit / 32 + OVERHEAD).to_string());
        }
        if let Some(processors) = bundle.processors() {
            settings.set("cpus", processors.to_string());
        }
        for param in ANNOTATIONS {
            let annotation = format!("{PREFIX}{param}");
            let Some(value) = bundle.annotation(&annotation) else {
                continue;
            };
            let is_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if value.is_empty() || !value.chars().all(is_word) {
                bail!("the annotation {annotation} is no value for {param}: {value:?}");
            }
            settings.set(param, value.to_owned());
        }
        Ok(settings)
    }

    fn set(&mut self, param: &str, value: String) {
        self.0.retain(|(name, _)| name != param);
        self.add(param, value);
    }

    fn add(&mut self, param: &str, value: String) {
        self.0.push((param.to_owned(), value));
    }

    /// The kernel on the host that is wanted; without one, the usual one is taken.
    pub(crate) fn kernel(&self, global: &Global) -> Option<PathBuf> {
        let (_, value) = self.0.iter().find(|(name, _)| name == "kernel")?;
        Some(match value.starts_with('/') {
            true => pods::kernel_on_host(global, Path::new(value)),
            // That of an annotation, which names none elsewhere.
            false => global.shared.join("kernels").join(value),
        })
    }

    /// The lines of the section, but for the kernel, of which the VM has a copy.
    pub(crate) fn lines(&self) -> String {
        let lines = self.0.iter().filter(|(name, _)| name != "kernel");
        lines
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::bundle;

    fn of(text: &str, json: &str) -> anyhow::Result<Settings> {
        let config = Config::parse(text, "umlmon".as_ref()).unwrap();
        Settings::of(&config, &bundle(json))
    }

    const LIMITED: &str =
        r#"{"ociVersion":"1.0.2","linux":{"resources":{"memory":{"limit":67108864}}}}"#;

    #[test]
    fn limits_come_before_the_template_and_annotations_before_both() {
        let plain = r#"{"ociVersion":"1.0.2"}"#;
        let lines = |text: &str, json: &str| of(text, json).unwrap().lines();
        assert_eq!(lines("", plain), "sync_disks = none\nmem = 512\n");
        let text = "[template containerd]\nmem = 96\nuserspace = auto\n";
        let expected = "sync_disks = none\nmem = 96\nuserspace = auto\n";
        assert_eq!(lines(text, plain), expected);
        assert!(lines(text, LIMITED).contains("mem = 130\n"));
        let asked =
            r#"{"ociVersion":"1.0.2","annotations":{"umlmon.mem":"1G","umlmon.kernel":"linux-7"}}"#;
        let settings = of(text, asked).unwrap();
        assert!(settings.lines().contains("mem = 1G\n"), "{settings:?}");
        let global = Config::parse("[GLOBAL]\nshared = /srv\n", "umlmon".as_ref());
        let kernel = settings.kernel(&global.unwrap().global);
        assert_eq!(kernel, Some("/srv/kernels/linux-7".into()));
    }

    #[test]
    fn an_annotation_sets_nothing_but_its_parameter() {
        for value in ["", "64\\nvmuser = root", "../../linux", "a b"] {
            let json =
                format!(r#"{{"ociVersion":"1.0.2","annotations":{{"umlmon.kernel":"{value}"}}}}"#);
            assert!(of("", &json).is_err(), "{value}");
        }
        let json = r#"{"ociVersion":"1.0.2","annotations":{"umlmon.vmuser":"root"}}"#;
        assert!(!of("", json).unwrap().lines().contains("vmuser"));
    }
}
