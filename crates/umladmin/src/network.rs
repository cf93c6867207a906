//! `umladmin network`: the networks of `nat(...)` on this host (umladmin).

use std::path::Path;

use cli::{Exit, Failure, Line};
use config::{Config, NetworkName};
use net::Records;
use net::networks::{self, Network};
use serde_json::{Value, json};

use crate::report::Report;

/// Carries out what the operands say.
pub(crate) fn run(config: &Config, line: &Line, operands: &[&str]) -> Result<Exit, Failure> {
    let shared = &config.global.shared;
    match operands {
        ["list"] => list(shared, line.has("json")),
        ["delete", ..] if line.has("json") => {
            Err(Failure::usage("-json can be used with network list only"))
        }
        ["delete", name] => delete(shared, name),
        _ => Err(Failure::usage(
            "it is used as: network list, or network delete NAME",
        )),
    }
}

fn failed(error: net::Error) -> Failure {
    Failure::new(Exit::Failed, error)
}

fn list(shared: &Path, as_json: bool) -> Result<Exit, Failure> {
    let networks = match Records::open_without_vm(shared).map_err(failed)? {
        Some(records) => networks::list(&records).map_err(failed)?,
        None => Vec::new(),
    };
    let report = Report::new();
    if networks.is_empty() && !as_json {
        report.print("there are no networks; the first VM with nat(...) makes one\n")?;
    } else {
        let heading = ["NETWORK", "BRIDGE", "ADDRESSES", "SERVER", "VMS"];
        let (objects, rows) = (networks.iter().map(object), networks.iter().map(row));
        report.list(as_json, objects, heading, rows)?;
    }
    Ok(Exit::Done)
}

fn row(network: &Network) -> [String; 5] {
    let or_dash = |text: Option<String>| text.filter(|it| !it.is_empty()).unwrap_or("-".into());
    let vms = network.vms.iter();
    let vms: Vec<String> = vms.map(|(vm, address)| format!("{vm} {address}")).collect();
    [
        network.name.to_string(),
        or_dash(network.bridge.clone()),
        network.subnet.to_string(),
        or_dash(network.server.map(|pid| pid.to_string())),
        or_dash(Some(vms.join(", "))),
    ]
}

fn object(network: &Network) -> Value {
    let vms = network.vms.iter();
    let vms = vms.map(|(vm, address)| json!({"vm": vm, "address": address}));
    json!({
        "name": network.name,
        "bridge": network.bridge,
        "subnet": network.subnet,
        "server_pid": network.server,
        "vms": vms.collect::<Vec<_>>(),
    })
}

fn delete(shared: &Path, name: &str) -> Result<Exit, Failure> {
    let name: NetworkName = name.parse().map_err(Failure::usage)?;
    if let Some(records) = Records::open_without_vm(shared).map_err(failed)? {
        networks::delete(&records, &name).map_err(failed)?;
    }
    let text = "nothing of the network is left";
    Report::new().line(name.as_str(), text);
    Ok(Exit::Done)
}
