//! `umladmin list VM@HOST`: how VMs on other hosts can be reached, as the directory services there tell it of VMs that
//! are named (umladmin).

use std::time::Instant;

use cli::{Exit, Failure, Line};
use client::{Directory, Host, LIMIT, Target};
use config::{Config, Service, VmName};
use serde_json::json;

use crate::report::Report;

/// The VMs on other hosts, if that is what the names of `list` mean.
pub(crate) fn targets(names: &[&str]) -> Result<Option<Vec<(VmName, Host)>>, Failure> {
    // A name that begins with it is that of a group.
    if !names
        .iter()
        .any(|name| name.find('@').is_some_and(|at| at > 0))
    {
        return Ok(None);
    }
    let target = |name: &&str| {
        let usage = || {
            Failure::usage(format_args!(
                "{name}: with VMs on other hosts, each is named as VM@HOST; what else runs there, a host tells nobody"
            ))
        };
        let Target { vm, host } = name.parse().map_err(|_| usage())?;
        Ok((vm, host.ok_or_else(usage)?))
    };
    names.iter().map(target).collect::<Result<_, _>>().map(Some)
}

pub(crate) fn run(
    config: &Config,
    targets: &[(VmName, Host)],
    line: &Line,
) -> Result<Exit, Failure> {
    if let Some(word) = line.words.iter().find(|word| word.name != "json") {
        return Err(Failure::usage(format_args!(
            "-{} cannot be used with @HOST",
            word.name
        )));
    }
    let port = config.global.port_of(Service::Umldir);
    let port = port.map_err(|e| Failure::new(Exit::Failed, e))?;
    let mut found = Vec::new();
    for (vm, host) in targets {
        let mut directory = Directory::connect(host, port, Instant::now() + LIMIT)?;
        let offer = directory.offer(vm)?;
        let direct = offer.direct.map_or(0, |at| at.port());
        found.push((vm, host, direct, offer.redirector.is_some()));
    }
    let objects = found.iter().map(|(vm, host, port, redirector)| {
        json!({"vm": vm.as_str(), "host": host.as_str(), "port": port, "redirector": redirector})
    });
    let rows = found.iter().map(|(vm, host, port, redirector)| {
        [vm.to_string(), host.to_string(), ways(*port, *redirector)]
    });
    let heading = ["VM", "HOST", "REACHED"];
    Report::new().list(line.has("json"), objects, heading, rows)?;
    Ok(Exit::Done)
}

/// How a monitor can be reached from other hosts.
fn ways(port: u16, redirector: bool) -> String {
    match (port, redirector) {
        (0, false) => "not at all".into(),
        (0, true) => "through the redirector".into(),
        (port, false) => format!("at port {port}"),
        (port, true) => format!("at port {port}, or through the redirector"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_listed() {
        assert_eq!(targets(&["vm1", "vm2"]), Ok(None));
        assert_eq!(targets(&[]), Ok(None));
        let found = targets(&["vm1@h", "vm2@i"]).unwrap().unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(vm, host)| (vm.as_str(), host.as_str()))
            .collect();
        assert_eq!(found, [("vm1", "h"), ("vm2", "i")]);
        for bad in [&["vm1@h", "vm1"][..], &["@h", "vm1@h"], &["vm1@localhost"]] {
            let failure = targets(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad:?}");
            assert!(failure.message.contains("VM@HOST"), "{failure}");
        }
    }

    #[test]
    fn ways_are_told() {
        assert_eq!(ways(0, false), "not at all");
        assert_eq!(ways(9, true), "at port 9, or through the redirector");
    }
}
