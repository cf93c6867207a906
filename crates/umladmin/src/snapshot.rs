//! `umladmin snapshot`, `snapshots` and `rollback`: the disks of a VM as they were at a time. The monitor does the
//! work, as the user of the VM (umladmin).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use cli::{Exit, Failure, Line};
use client::Client;
use client::bar::Bar;
use client::when::{size, utc};
use config::{Config, DiskKind, DiskName, SnapshotLabel, Vm, VmName};
use disks::work::snapshot_parts;
use monitors::disk_work;
use rpc_xdr::umlmonctrl::{DiskSnapshot, DiskTask};

use crate::ask;
use crate::report::{Report, table};
use crate::selection::bad_config;

/// A snapshot, as its files are found.
struct Snapshot {
    label: SnapshotLabel,
    /// When it was made, in seconds since 1970.
    time: u64,
    disks: Vec<DiskName>,
    /// Bytes that the copies occupy, some of them perhaps together with other files.
    allocated: u64,
}

/// `umladmin snapshot VM [LABEL]`
pub(crate) fn make(config: &Config, names: &[&str], line: &Line) -> Result<Exit, Failure> {
    let (vm, label) = operands(config, names, "snapshot")?;
    if line.has("delete") {
        let label = label.ok_or_else(|| Failure::usage("-delete needs the label of a snapshot"))?;
        perform(config, &vm.name, &DiskTask::Forget(label.to_string()))?;
        Report::new().line(
            vm.name.as_str(),
            &format!("the snapshot {label} is deleted"),
        );
        return Ok(Exit::Done);
    }
    let label = label.map_or_else(|| now().parse().map_err(Failure::usage), Ok)?;
    let (own, others): (Vec<_>, Vec<_>) = vm.ubd.values().partition(|disk| is_own(disk));
    if own.is_empty() {
        let why = format_args!("{} has no disk in /disks", vm.name);
        return Err(Failure::new(Exit::Failed, why));
    }
    let task = DiskTask::Snapshot(with_disks(&label, own.iter().copied()));
    perform(config, &vm.name, &task)?;
    let report = Report::new();
    for disk in others {
        report.error(
            vm.name.as_str(),
            &format!("{disk} is not part of the snapshot"),
        );
    }
    let disks: Vec<&str> = own.iter().map(|disk| disk.as_str()).collect();
    let what = format!("snapshot {label} of {}", disks.join(", "));
    report.line(vm.name.as_str(), &what);
    Ok(Exit::Done)
}

/// `umladmin snapshots VM`
pub(crate) fn list(config: &Config, names: &[&str]) -> Result<Exit, Failure> {
    let &[name] = names else {
        return Err(Failure::usage("snapshots needs the name of one VM"));
    };
    let vm = config
        .vm(&name.parse().map_err(Failure::usage)?)
        .map_err(bad_config)?;
    let found = find(&vm)?;
    let heading = ["LABEL", "TIME", "SIZE", "DISKS"].map(str::to_owned);
    let rows = found.iter().map(|snapshot| {
        let disks: Vec<&str> = snapshot.disks.iter().map(DiskName::as_str).collect();
        [
            snapshot.label.to_string(),
            utc(snapshot.time),
            size(snapshot.allocated),
            disks.join(" "),
        ]
    });
    let text = match found.is_empty() {
        true => format!("{name} has no snapshots\n"),
        false => table([heading].into_iter().chain(rows)),
    };
    Report::new().print(&text)?;
    Ok(Exit::Done)
}

/// `umladmin rollback VM [LABEL]`
pub(crate) fn roll_back(config: &Config, names: &[&str], line: &Line) -> Result<Exit, Failure> {
    let (vm, label) = operands(config, names, "rollback")?;
    let found = find(&vm)?;
    let wanted = match &label {
        Some(label) => found.iter().find(|snapshot| snapshot.label == *label),
        None => found.last(),
    };
    let snapshot = wanted.ok_or_else(|| {
        let which = label.map_or_else(
            || "no snapshot".to_owned(),
            |it| format!("no snapshot {it}"),
        );
        let why = format!(
            "{0} has {which}; umladmin snapshots {0} lists them",
            vm.name
        );
        Failure::new(Exit::Failed, why)
    })?;
    let disks: Vec<&str> = snapshot.disks.iter().map(DiskName::as_str).collect();
    let what = format!(
        "{}: what was written to {} since {} (snapshot {}) is lost",
        vm.name,
        disks.join(", "),
        utc(snapshot.time),
        snapshot.label
    );
    if !line.has("yes") && !ask::agreed(&format!("{what}\nGo on?"))? {
        let why = format_args!("{} is left as it is", vm.name);
        return Err(Failure::new(Exit::Failed, why));
    }
    let disks = with_disks(&snapshot.label, snapshot.disks.iter());
    perform(config, &vm.name, &DiskTask::Rollback(disks))?;
    let what = format!(
        "as it was at {} (snapshot {})",
        utc(snapshot.time),
        snapshot.label
    );
    Report::new().line(vm.name.as_str(), &what);
    Ok(Exit::Done)
}

fn operands(
    config: &Config,
    names: &[&str],
    mode: &str,
) -> Result<(Vm, Option<SnapshotLabel>), Failure> {
    let (name, label) = match names {
        [name] => (name, None),
        [name, label] => (name, Some(label.parse().map_err(Failure::usage)?)),
        _ => {
            let why =
                format_args!("{mode} needs the name of one VM, and takes the label of a snapshot");
            return Err(Failure::usage(why));
        }
    };
    let name: VmName = name.parse().map_err(Failure::usage)?;
    Ok((config.vm(&name).map_err(bad_config)?, label))
}

/// Disks elsewhere belong to the administrator, and to other VMs.
fn is_own(disk: &DiskName) -> bool {
    !disk.is_shared() && disk.kind() != DiskKind::Dev
}

fn with_disks<'a>(
    label: &SnapshotLabel,
    disks: impl Iterator<Item = &'a DiskName>,
) -> DiskSnapshot {
    DiskSnapshot {
        label: label.to_string(),
        disks: disks.map(|disk| disk.as_str().into()).collect(),
    }
}

/// A label with the time: `20261129-233000`.
fn now() -> String {
    let time = utc(client::when::now());
    let digits = |text: &str| text.replace(['-', ':'], "");
    let mut parts = time.split(' ');
    let mut part = || digits(parts.next().unwrap_or_default());
    format!("{}-{}", part(), part())
}

/// Those in the directory of the disks, the oldest first. Its owner is the user of the VM, so names are checked.
fn find(vm: &Vm) -> Result<Vec<Snapshot>, Failure> {
    let directory = vm.jaildir.join("disks");
    let cannot = |error: io::Error| {
        Failure::from(error).about(format_args!("cannot read {}", directory.display()))
    };
    let mut found: Vec<Snapshot> = Vec::new();
    let mut copies: Vec<(String, DiskName, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name();
        let Some((label, disk)) = name.to_str().and_then(snapshot_parts) else {
            continue;
        };
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        match (label.parse(), disk) {
            (Ok(label), "") => found.push(Snapshot {
                label,
                time: u64::try_from(metadata.mtime()).unwrap_or(0),
                disks: Vec::new(),
                allocated: 0,
            }),
            (_, disk) => {
                let disk = format!("/disks/{disk}").parse();
                copies.extend(disk.ok().map(|disk| (label.to_owned(), disk, entry.path())));
            }
        }
    }
    copies.sort();
    for snapshot in &mut found {
        let own = copies
            .iter()
            .filter(|(label, _, _)| label == snapshot.label.as_str());
        for (_, disk, path) in own {
            snapshot.disks.push(disk.clone());
            snapshot.allocated += fs::symlink_metadata(path).map_or(0, |it| it.blocks() * 512);
        }
    }
    found.sort_by_key(|snapshot| snapshot.time);
    Ok(found)
}

/// Has the monitor do it, and shows the progress on a terminal. CTRL-C ends the connection, and that cancels it.
fn perform(config: &Config, vm: &VmName, task: &DiskTask) -> Result<(), Failure> {
    let mut client = Client::at(vm, config.global.ctrl(vm));
    let bar = Bar::default();
    let result = disk_work::perform(&mut client, task, &mut |progress| {
        bar.show(progress.done, progress.total);
        Ok(())
    });
    drop(bar);
    result.map_err(|failure| explained(failure, vm))
}

/// The disks are in use as long as the VM runs.
fn explained(failure: Failure, vm: &VmName) -> Failure {
    match failure.message.contains("in use by this VM") {
        true => Failure {
            message: format!(
                "{}; shut {vm} down first: umladmin ctrlaltdel {vm}",
                failure.message
            ),
            ..failure
        },
        false => failure,
    }
}
