//! `umladmin metrics`: figures about the VMs in the text format of Prometheus, also for the textfile collector of its
//! node exporter (umladmin).

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cli::{Exit, Failure};
use config::Config;
use rpc_xdr::umlmonctrl::NicLink;
use tempfile::NamedTempFile;

use crate::report::Report;
use crate::seen::{self, STATES, Seen};
use crate::{parallel, selection};

/// A metric: one line, `# HELP`, `# TYPE`, and a sample for each VM.
pub struct Metric {
    /// Its name, as Prometheus wants them: with the unit, a counter with `_total`.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    kind: Kind,
    samples: Samples,
}

enum Kind {
    Gauge,
    Counter,
}

/// The samples of one VM; none if it is not known.
enum Samples {
    One(fn(&Seen) -> Option<f64>),
    /// One for each state.
    States,
    /// One for each network interface.
    Nics(fn(&NicLink) -> u64),
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Seen) -> Option<f64>) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Gauge,
        samples: Samples::One(value),
    }
}

const fn counter(name: &'static str, help: &'static str, samples: Samples) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Counter,
        samples,
    }
}

/// All metrics, in the order of the output. Once published, a name keeps its meaning.
pub const METRICS: &[Metric] = &[
    gauge(
        "umlmon_up",
        "Whether the monitor of the VM runs and answers.",
        |seen| Some(f64::from(u8::from(seen.answers()))),
    ),
    Metric {
        name: "umlmon_vm_state",
        help: "Whether the VM is in this state.",
        kind: Kind::Gauge,
        samples: Samples::States,
    },
    gauge(
        "umlmon_vm_uptime_seconds",
        "How long the kernel has been running.",
        |seen| seen.uptime.map(f64::from),
    ),
    gauge(
        "umlmon_vm_memory_bytes",
        "The memory of the guest.",
        |seen| seen.mem_mb.map(|mb| f64::from(mb) * 1_048_576.0),
    ),
    gauge(
        "umlmon_vm_memory_used_bytes",
        "How much of the memory of the guest uses memory of the host.",
        |seen| seen.mem_used.map(float),
    ),
    gauge(
        "umlmon_vm_memory_current_bytes",
        "What the guest has of its memory now.",
        |seen| seen.mem_now_mb.map(|mb| f64::from(mb) * 1_048_576.0),
    ),
    gauge(
        "umlmon_vm_memory_available_bytes",
        "How much memory programs of the guest can still get.",
        |seen| seen.mem_available.map(float),
    ),
    counter(
        "umlmon_vm_cpu_seconds_total",
        "Processor time of the host that the VM has taken since its kernel was started.",
        Samples::One(|seen| Some(float(seen.cpu_ns?) / 1e9)),
    ),
    counter(
        "umlmon_vm_disk_read_bytes_total",
        "Bytes that the VM has read from devices of the host since its kernel was started.",
        Samples::One(|seen| seen.disk_read.map(float)),
    ),
    counter(
        "umlmon_vm_disk_written_bytes_total",
        "Bytes that the VM has written to devices of the host since its kernel was started.",
        Samples::One(|seen| seen.disk_written.map(float)),
    ),
    counter(
        "umlmon_vm_network_received_bytes_total",
        "Bytes that the guest has received.",
        Samples::Nics(|link| link.received_bytes),
    ),
    counter(
        "umlmon_vm_network_received_packets_total",
        "Packets that the guest has received.",
        Samples::Nics(|link| link.received_packets),
    ),
    counter(
        "umlmon_vm_network_received_dropped_total",
        "Packets to the guest that were dropped.",
        Samples::Nics(|link| link.received_dropped),
    ),
    counter(
        "umlmon_vm_network_sent_bytes_total",
        "Bytes that the guest has sent.",
        Samples::Nics(|link| link.sent_bytes),
    ),
    counter(
        "umlmon_vm_network_sent_packets_total",
        "Packets that the guest has sent.",
        Samples::Nics(|link| link.sent_packets),
    ),
    counter(
        "umlmon_vm_network_sent_dropped_total",
        "Packets from the guest that were dropped.",
        Samples::Nics(|link| link.sent_dropped),
    ),
];

/// The value of a sample; above 2^53 it is not exact, which Prometheus cannot store either.
fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) fn run(config: &Config, names: &[&str], to: Option<&Path>) -> Result<Exit, Failure> {
    let vms = selection::named_or_all(config, names)?;
    let all = parallel::each(&vms, parallel::CALLS, |vm| seen::look(config, vm));
    let text = text(&all);
    let report = Report::new();
    match to {
        None => report.print(&text)?,
        Some(file) => replace(file, &text).map_err(|error| {
            Failure::from(error).about(format_args!("cannot write {}", file.display()))
        })?,
    }
    Ok(selection::tell_nameless(config, names, &report, Exit::Done))
}

fn text(all: &[Seen]) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let (name, help) = (metric.name, metric.help);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for seen in all {
            for (label, value) in metric.samples.of(seen) {
                // No name of a VM, state or interface has characters that must be escaped.
                let _ = writeln!(text, "{name}{{vm=\"{}\"{label}}} {value}", seen.vm);
            }
        }
    }
    text
}

impl Samples {
    /// A further label, and the value.
    fn of(&self, seen: &Seen) -> Vec<(String, f64)> {
        match self {
            Samples::One(value) => {
                let value = value(seen).into_iter();
                value.map(|value| (String::new(), value)).collect()
            }
            Samples::States => {
                let state = |state: &&str| {
                    let is_in = u8::from(*state == seen.state);
                    (format!(",state=\"{state}\""), f64::from(is_in))
                };
                STATES.iter().map(state).collect()
            }
            Samples::Nics(value) => {
                let nic = |(eth, link): &(String, NicLink)| {
                    (format!(",eth=\"{eth}\""), float(value(link)))
                };
                seen.nics.iter().map(nic).collect()
            }
        }
    }
}

/// Makes a file have this content: whoever reads it sees the whole old or the whole new content.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let mut new = NamedTempFile::new_in(directory)?;
    new.write_all(text.as_bytes())?;
    // The collector is another user.
    new.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("umlmon.prom");
        for content in ["a\n", "b\n"] {
            replace(&file, content).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("x/y"), "").is_err());
    }
}
