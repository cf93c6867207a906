//! Each command of the table with its argument, and the call that the monitor gets.

use std::collections::BTreeSet;
use std::fmt::Debug;

use rpc_xdr::umlmonctrl::*;
use umlwatch::command::COMMANDS;

use crate::monitor::Monitor;

/// A command, its argument, and its last call, as the recorder shows it.
type Row = (&'static str, &'static str, String);

fn row(command: &'static str, argument: &'static str, procedure: &str, args: impl Debug) -> Row {
    (command, argument, format!("{procedure} {args:?}"))
}

fn open(mode: ConMode, channel: &str) -> ConOpenArgs {
    ConOpenArgs {
        channel: channel.into(),
        mode,
        // There is no terminal.
        who: String::new(),
    }
}

fn size(disk: &str, megabytes: u64, sparse: bool) -> DiskSize {
    DiskSize {
        disk: disk.into(),
        megabytes,
        sparse,
    }
}

fn backing(disk: &str, backing: &str) -> DiskBacking {
    DiskBacking {
        disk: disk.into(),
        backing: backing.into(),
    }
}

fn pair(source: &str, destination: &str) -> DiskPair {
    DiskPair {
        source: source.into(),
        destination: destination.into(),
    }
}

fn attach(number: u32, disk: &str, read_only: bool) -> DiskAttachArgs {
    DiskAttachArgs {
        number,
        disk: disk.into(),
        read_only,
    }
}

fn start(extra: &[&str]) -> VmStartArgs {
    let extra = extra.iter().map(|arg| arg.as_bytes().to_vec()).collect();
    VmStartArgs { extra }
}

fn vm() -> Vec<Row> {
    let letter = "s".to_owned();
    vec![
        row("info", "", "VM_INFO", ()),
        row("start", "", "VM_START", start(&[])),
        row("start-with", "-s=1 x", "VM_START", start(&["-s=1 x"])),
        row("suspend", "", "VM_SUSPEND", ()),
        row("continue", "", "VM_CONTINUE", ()),
        row("halt", "", "VM_HALT", ()),
        row(
            "ctrlaltdel",
            "",
            "VM_CTRLALTDEL",
            VmCtrlaltdelArgs { stop: false },
        ),
        row("kill", "", "VM_KILL", ()),
        row("sysrq", "s", "VM_SYSRQ", VmSysrqArgs { letter }),
        row("mem", "2G", "VM_MEMORY", VmMemoryArgs { megabytes: 2048 }),
        row("reclaim", "", "VM_RECLAIM", ()),
        row("wait", "7", "VM_WAIT", VmWaitArgs { seconds: 7 }),
        row("wait-ready", "8", "VM_READY", VmWaitArgs { seconds: 8 }),
        row(
            "wait-ready",
            "8,con4:login:",
            "CON_OPEN",
            open(ConMode::Watch, "con4"),
        ),
        row("port", "", "PORT_GET", ()),
        row(
            "site",
            "an arg",
            "SITE_RUN",
            SiteRunArgs {
                arg: b"an arg".to_vec(),
            },
        ),
    ]
}

fn channels_and_logs() -> Vec<Row> {
    let tail = |file: &str, lines| LogTailArgs {
        file: file.into(),
        lines,
    };
    let screen = ConScreenArgs {
        channel: "con3".into(),
        cells: true,
    };
    let events = EventReadArgs {
        after: u64::MAX,
        wait_ms: 0,
    };
    vec![
        row("tail", "monitor", "LOG_TAIL", tail("monitor", 20)),
        row("tail", "ssl1,5", "LOG_TAIL", tail("ssl1", 5)),
        row("connect", "con1", "CON_OPEN", open(ConMode::Write, "con1")),
        row(
            "force-connect",
            "con2",
            "CON_OPEN",
            open(ConMode::Force, "con2"),
        ),
        row("watch", "ssl63", "CON_OPEN", open(ConMode::Watch, "ssl63")),
        row(
            "record",
            "con1:/dev/null",
            "CON_OPEN",
            open(ConMode::Watch, "con1"),
        ),
        row("screen", "con3", "CON_SCREEN", screen),
        row("rotate", "", "LOG_ROTATE", ()),
        row("events", "", "EVENT_READ", events),
    ]
}

fn configuration() -> Vec<Row> {
    let set = ConfigSetArgs {
        param: "kernelarg".into(),
        value: b"a=b c".to_vec(),
    };
    let del = ConfigDelArgs {
        param: "con0".into(),
    };
    vec![
        row("set", "kernelarg=a=b c", "CONFIG_SET", set),
        row("del", "con0", "CONFIG_DEL", del),
    ]
}

fn disks() -> Vec<Row> {
    use DiskTask::*;
    let begin = |command, argument, task: DiskTask| row(command, argument, "DISK_BEGIN", task);
    vec![
        row(
            "disk-list",
            "",
            "DISK_LIST",
            DiskListArgs { after: Vec::new() },
        ),
        begin(
            "disk-create",
            "/disks/a.dsk:64",
            Create(size("/disks/a.dsk", 64, false)),
        ),
        begin(
            "disk-create",
            "a.dsk:9:sparse",
            Create(size("a.dsk", 9, true)),
        ),
        begin(
            "disk-create-cow",
            "a.cow:b.dsk",
            CreateCow(backing("a.cow", "b.dsk")),
        ),
        begin("disk-delete", "a.dsk", Delete(b"a.dsk".to_vec())),
        begin("disk-copy", "a.dsk:b.dsk", Copy(pair("a.dsk", "b.dsk"))),
        begin("disk-resize", "a.dsk:32", Resize(size("a.dsk", 32, false))),
        begin(
            "disk-resize",
            "a.dsk:8:sparse",
            Resize(size("a.dsk", 8, true)),
        ),
        begin(
            "disk-import",
            "a.cow:b.dsk",
            Import(backing("a.cow", "b.dsk")),
        ),
        begin("disk-commit", "a.cow:b.dsk", Commit(pair("a.cow", "b.dsk"))),
        row(
            "disk-attach",
            "ubd3:a.dsk",
            "DISK_ATTACH",
            attach(3, "a.dsk", false),
        ),
        row(
            "disk-attach",
            "ubd15:a.dsk:ro",
            "DISK_ATTACH",
            attach(15, "a.dsk", true),
        ),
        row(
            "disk-detach",
            "ubd3",
            "DISK_DETACH",
            DiskDetachArgs { number: 3 },
        ),
    ]
}

#[test]
fn every_argument_arrives_as_it_was_given() {
    let rows = [vm(), channels_and_logs(), configuration(), disks()].concat();
    let monitor = Monitor::recording();
    for (command, argument, expected) in &rows {
        let word = format!("-{command}");
        let args = match *argument {
            "" => vec!["vm1", &word],
            argument => vec!["vm1", &word, argument],
        };
        let output = monitor.run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        if *command != "info" {
            assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
            assert!(said.contains("it is only recorded"), "{args:?}: {said}");
        }
        let calls: Vec<String> = monitor.calls.try_iter().collect();
        assert_eq!(calls.last(), Some(expected), "{args:?}");
    }
    let mut tried: BTreeSet<&str> = rows.iter().map(|row| row.0).collect();
    // Its arguments are typed, and secret.
    tried.insert("change-password");
    // They need a guest.
    tried.extend(["exec", "push", "pull"]);
    // It asks for the state, and becomes another program.
    tried.insert("ssh");
    let all: BTreeSet<&str> = COMMANDS.iter().map(|command| command.word.name).collect();
    assert_eq!(tried, all);
}
