//! The configuration file: what is accepted can be printed, and read again as the same.

use std::path::Path;

use config::{Config, UserChanges};

/// Reads `data` as a configuration file.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(config) = Config::parse(text, Path::new("/etc/umlmon")) else {
        return;
    };
    let without_global = !text.contains("[GLOBAL]");
    for name in config.vm_names() {
        let vm = |config: &Config| config.vm_with(name, &UserChanges::default());
        let Ok(before) = vm(&config) else { continue };
        let printed = before.to_ini();
        // The defaults depend on the global section, which is not printed with a VM.
        if without_global {
            let again =
                Config::parse(&printed, Path::new("/etc/umlmon")).and_then(|config| vm(&config));
            let after = again.unwrap_or_else(|error| panic!("{error}:\n{printed}"));
            assert_eq!(settings(&after.to_ini()), settings(&printed));
        }
    }
}

/// The lines that count: what is secret or a default is a comment.
fn settings(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// The sample configuration, as it is and with all of it in effect.
pub fn seeds() -> Vec<Vec<u8>> {
    let sample = include_str!("../../../etc/umlmon");
    let uncommented: String = sample
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let sections = uncommented
        .split_once("[GLOBAL]")
        .map_or("", |(_, rest)| rest);
    let vms = sections
        .find("\n[")
        .and_then(|at| sections.get(at..))
        .unwrap_or("");
    [
        sample,
        &uncommented,
        vms,
        "[vm1]\nvmuser = nobody\nkernel = /shared/kernels/linux\nmem = 64\ncon0 = pty:con0\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
