//! The VMs of pods: what an administrator chooses for them, and where they are (the shim of containerd makes them, and
//! umladmin shows them).

use std::fs;
use std::path::{Path, PathBuf};

use config::{Config, Global, Setting, VmName};

use crate::CONFIGURATION;

/// The template with the settings of pods: `[template containerd]`.
pub const TEMPLATE: &str = "containerd";
/// The parameters that it may set. The shim decides on all others.
pub const CHOICES: [&str; 12] = [
    "kernel",
    "kernelarg",
    "mem",
    "mem_limit",
    "memory",
    "cpus",
    "cpu_limit",
    "affinity",
    "userspace",
    "pids_limit",
    "overhead_limit",
    "scheduler",
];
/// What each of these VMs is called, alone in its installation as it is.
pub const VM: &str = "pod";
/// What follows the name of the directory of VMs in that of the shim, which is beside it.
const BESIDE: &str = "-containerd";
/// The file, beside the configuration of a pod's VM, with the name of the pod.
const LABEL: &str = "pod";
/// The longest name of a pod, in bytes.
const LONGEST: usize = 512;

/// Where the shim has its files.
#[must_use]
pub fn directory(global: &Global) -> PathBuf {
    let mut directory = global.vardir.clone().into_os_string();
    directory.push(BESIDE);
    directory.into()
}

/// Where the shim has its VMs.
#[must_use]
pub fn vms(global: &Global) -> PathBuf {
    directory(global).join("vms")
}

/// The settings of pods; none if there is no such template.
///
/// # Errors
/// If the template sets something that is not for it.
pub fn settings(config: &Config) -> Result<Vec<Setting>, String> {
    let template = config.template(TEMPLATE);
    let settings = template.map_err(|error| error.to_string())?;
    let settings = settings.unwrap_or_default();
    let is_choice = |setting: &&Setting| CHOICES.contains(&setting.param.as_str());
    match settings.iter().find(|setting| !is_choice(setting)) {
        None => Ok(settings),
        Some(wrong) => Err(format!(
            "[template {TEMPLATE}] sets {}, which the shim decides on; it may set {}",
            wrong.param,
            CHOICES.join(", ")
        )),
    }
}

/// The file of a kernel that a VM knows by this path.
#[must_use]
pub fn kernel_on_host(global: &Global, path: &Path) -> PathBuf {
    match path.strip_prefix("/shared") {
        Ok(rest) => global.shared.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// A pod whose VM is there.
#[derive(Debug)]
pub struct Pod {
    /// What it is called by those who made it, such as `default/web-1`.
    pub name: String,
    /// The configuration of its VM.
    pub config: Config,
    /// The VM in that.
    pub vm: VmName,
}

/// Writes the name of a pod beside the configuration of its VM. What cannot be shown is replaced.
///
/// # Errors
/// If it cannot be written.
pub fn put_name(directory: &Path, name: &str) -> std::io::Result<()> {
    let shown = |c: char| match c.is_ascii_graphic() {
        true => c,
        false => '?',
    };
    let name: String = name.chars().map(shown).take(LONGEST).collect();
    fs::write(directory.join(LABEL), name)
}

/// The pods of this host that the caller may see, by name.
#[must_use]
pub fn all(global: &Global) -> Vec<Pod> {
    let entries = fs::read_dir(vms(global)).into_iter().flatten().flatten();
    let pods = entries.filter_map(|entry| {
        let directory = entry.path();
        // One that is just being made or removed has not all of its files.
        let name = fs::read_to_string(directory.join(LABEL)).ok()?;
        let config = Config::load(&directory.join(CONFIGURATION)).ok()?;
        let vm = config.vm_names().next()?.clone();
        Some(Pod { name, config, vm })
    });
    let mut pods: Vec<Pod> = pods.collect();
    pods.sort_by(|one, other| one.name.cmp(&other.name));
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Config {
        Config::parse(text, "umlmon".as_ref()).unwrap()
    }

    #[test]
    fn a_template_is_for_pods() {
        assert_eq!(settings(&parsed("")).unwrap(), []);
        let text = "[template small]\nmem = 96\n[template containerd]\nuse = small\ncpus = 2\n";
        let both: Vec<String> = settings(&parsed(text))
            .unwrap()
            .into_iter()
            .map(|setting| format!("{} = {}", setting.param, setting.value))
            .collect();
        assert_eq!(both, ["mem = 96", "cpus = 2"]);
        let why = settings(&parsed("[template containerd]\nubd0 = /disks/a.dsk\n")).unwrap_err();
        assert!(
            why.starts_with("[template containerd] sets ubd0, "),
            "{why}"
        );
    }

    #[test]
    fn pods_are_found_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let vardir = directory.path().join("umlmon");
        let global = parsed(&format!("[GLOBAL]\nvardir = {}\n", vardir.display())).global;
        for (place, name) in [("a", "default/web"), ("b", "a\nb"), ("c", "")] {
            let place = vms(&global).join(place);
            fs::create_dir_all(&place).unwrap();
            fs::write(
                place.join(CONFIGURATION),
                "[pod]\nkernel = /a\nvmuser = nobody\n",
            )
            .unwrap();
            if !name.is_empty() {
                put_name(&place, name).unwrap();
            }
        }
        let names: Vec<String> = all(&global).into_iter().map(|pod| pod.name).collect();
        assert_eq!(names, ["a?b", "default/web"]);
    }
}
