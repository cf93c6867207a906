//! `umladmin list @HOST`: the VMs of another host whose monitors run, from its public directory service (umladmin).

use std::time::Instant;

use cli::{Exit, Failure, Line};
use client::json::ascii;
use client::{Directory, Host, LIMIT};
use config::{Config, Service};
use serde_json::{Value, json};

use crate::report::{Report, table};

/// The host, if the names of `list` are `@HOST`.
pub(crate) fn host(names: &[&str]) -> Result<Option<Host>, Failure> {
    match names {
        [name] => match name.strip_prefix('@') {
            Some(host) => Host::parse(host),
            None => Ok(None),
        },
        names if names.iter().any(|name| name.starts_with('@')) => Err(Failure::usage(
            "list takes one host, and no names of VMs with it: list @HOST",
        )),
        _ => Ok(None),
    }
}

pub(crate) fn run(config: &Config, host: &Host, line: &Line) -> Result<Exit, Failure> {
    if let Some(word) = line.words.iter().find(|word| word.name != "json") {
        return Err(Failure::usage(format_args!(
            "-{} cannot be used with @HOST",
            word.name
        )));
    }
    let port = config.global.port_of(Service::Umldir);
    let port = port.map_err(|e| Failure::new(Exit::Failed, e))?;
    let mut directory = Directory::connect(host, port, Instant::now() + LIMIT)?;
    let redirector = directory.redirector()?.is_some();
    let vms = directory.vms()?;
    let report = Report::new();
    if line.has("json") {
        let object = |vm: &rpc_xdr::umldir::DirVm| json!({"vm": vm.vm, "port": vm.port, "redirector": redirector});
        let objects: Vec<Value> = vms.iter().map(object).collect();
        report.print(&ascii(&Value::Array(objects)))?;
    } else if !vms.is_empty() {
        let heading = ["VM", "REACHED"].map(String::from);
        let rows = vms
            .iter()
            .map(|vm| [vm.vm.clone(), ways(vm.port, redirector)]);
        report.print(&table([heading].into_iter().chain(rows)))?;
    }
    Ok(Exit::Done)
}

/// How a monitor can be reached from other hosts.
fn ways(port: u32, redirector: bool) -> String {
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
    fn one_host_is_listed_at_a_time() {
        assert_eq!(host(&["vm1", "vm2"]), Ok(None));
        assert_eq!(host(&[]), Ok(None));
        assert_eq!(host(&["@h"]).unwrap().unwrap().as_str(), "h");
        for bad in [&["@h", "vm1"][..], &["@h", "@i"], &["@"]] {
            assert_eq!(host(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
    }

    #[test]
    fn ways_are_told() {
        assert_eq!(ways(0, false), "not at all");
        assert_eq!(ways(9, true), "at port 9, or through the redirector");
    }
}
