//! Commands of the argument list.

use std::process::{Output, Stdio};

use rpc_xdr::umlmonctrl::{DiskBacking, DiskPair, DiskSize, DiskTask};

use crate::installation::{configuration, umlwatch};
use crate::monitor::Monitor;
use crate::terminal::Terminal;

fn failed(output: &Output, status: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn commands_are_carried_out_in_their_order() {
    let monitor = Monitor::start("");
    let args = [
        "-suspend",
        "-continue",
        "vm1@localhost",
        "-sysrq",
        "h",
        "-ctrlaltdel",
        "-rotate",
        "-halt",
        "-start-with",
        "-s x",
        "-kill",
        "-set",
        "kernelarg=a=b",
        "-del=mem",
        "-port",
        "-site",
        "good",
    ];
    let output = monitor.run(&args);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "4711\nsite says hello\n"
    );
    let calls: Vec<_> = monitor.calls.try_iter().collect();
    let expected = [
        "suspend",
        "continue",
        "sysrq h",
        "ctrlaltdel false",
        "rotate",
        "halt",
        "start -s x",
        "kill",
        "set kernelarg \"a=b\"",
        "del mem",
    ];
    assert_eq!(calls, expected);
}

#[test]
fn the_first_failure_is_the_last_command() {
    let monitor = Monitor::start("");
    failed(
        &monitor.run(&["vm1", "-start", "-halt"]),
        1,
        "umlwatch: vm1: cannot start: it is running\\x1b[2J already\n",
    );
    failed(
        &monitor.run(&["vm1", "-wait", "1"]),
        5,
        "vm1: cannot wait: it is still running after 1 second",
    );
    failed(
        &monitor.run(&["vm1", "-set", "vmuser=root"]),
        1,
        "vm1: cannot set a parameter: the administrator sets it",
    );
    failed(
        &monitor.run(&["vm1", "-site", "bad"]),
        1,
        "it ended with exit status 1",
    );
    failed(
        &monitor.run(&["vm1", "-site", "slow"]),
        5,
        "it did not end in time",
    );
    failed(
        &monitor.run(&["vm1", "-halt", "-suspend", "-kill"]),
        3,
        "vm1: cannot suspend: the kernel is not running",
    );
    assert_eq!(monitor.run(&["vm1", "-wait", "3"]).status.code(), Some(0));
    assert!(!monitor.calls.try_iter().any(|call| call == "kill"));
}

#[test]
fn who_cannot_be_reached_is_said() {
    let dir = configuration();
    let run = |args: &[&str]| umlwatch(&dir, args).stdin(Stdio::null()).output().unwrap();
    failed(
        &run(&["vm1", "-info"]),
        3,
        "no monitor is running for it; 'umladmin start vm1' starts one",
    );
    failed(
        &run(&["vm2", "-info"]),
        1,
        "vm2: cannot show its state: there is no such VM in ",
    );
    failed(
        &run(&["vm1@example.org:4711", "-info"]),
        2,
        "a port cannot be given here; set it in /etc/services, or with umldir_port",
    );
    failed(&run(&["../vm1", "-info"]), 2, "\"../vm1\" is not a VM name");
    failed(&run(&["-info"]), 2, "VM is missing");
    failed(
        &run(&["vm1", "-inof"]),
        2,
        "unknown option '-inof'; a similar option exists: '-info'",
    );
    failed(
        &run(&["vm1", "-config", "/nonexistent", "-info"]),
        1,
        "/nonexistent",
    );
    // A socket without a server, as a killed monitor leaves it.
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("var/vm1/ctrl")).unwrap());
    failed(&run(&["vm1", "-info"]), 3, "no monitor is running for it");
}

#[test]
fn a_terminal_sees_no_control_characters_of_others() {
    let monitor = Monitor::start("a\x1b[31mä\r\nb\tc\r\n");
    let output = monitor.run(&["vm1", "-tail", "con0,7"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "a\x1b[31mä\r\nb\tc\r\n"
    );
    assert_eq!(monitor.expect("tail"), "tail con0 7");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-tail", "con0"]));
    // The terminal itself makes \r\n of \n, and blanks of a tabulator.
    terminal.expect("a\\x1b[31mä\r\nb");
    terminal.expect("c\r\n");
    assert_eq!(terminal.ended(), 0);
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-raw", "-tail", "con0"]));
    terminal.expect("a\x1b[31mä\r\r\nb");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn the_page_says_state_first() {
    let monitor = Monitor::start("");
    let page = String::from_utf8(monitor.run(&["vm1", "-info"]).stdout).unwrap();
    let begin = "vm1 is running since 2026-11-24 03:32:32 UTC";
    assert!(page.starts_with(begin), "{page}");
    for line in [
        "  Uptime     1 min 1 s, rebooted once\n",
        "  Last end   panicked: no\\x1b]0;x init (2026-11-24 03:32:32 UTC)\n",
        "  Kernel     Linux 6.1 \\u{9b}, process 102, child of 101\n",
        "  Memory     64 MB, 20 MB of it in use, 30 MB available in the guest\n",
        "\nConsoles\n  con0   pty:con0       80x24, 2 KB so far\n",
        "\nDisks\n  ubd0   /disks/r\\xffoot.dsk    1 GB, 1 MB allocated, synchronous\n",
        "\nNetworks\n  eth0   bridged(bridge_if=br0,proxy_if=p0)\n",
        "         guest: vec0 0A:12:BC:AF:32:00 (up, vec); host: p0 FE:00:00:00:00:01, port of br0\n",
        "         received 3 MB (2100 packets, 7 dropped), sent 90 bytes (1 packets)\n",
        "\nShared directories\n  share0 /srv/job               at /src, as user 1000, not as its owner\n",
        "         its file system cannot map owners: the guest reads and changes only what user 1000 may, and what it \
         makes belongs to that user\n",
        "\nConfiguration in effect\n  mem = 64\n  start = manual  (default)\n",
        "\nPending changes, in effect from the next start on\n  mem = 128  (user change)\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    assert!(!page.contains('\x1b'));
}

#[test]
fn json_is_ascii_and_has_the_documented_members() {
    let monitor = Monitor::start("");
    let output = monitor.run(&["vm1", "-info", "-json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.chars()
            .all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic())
    );
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["state"], "running");
    assert_eq!(document["kernel_version"], "Linux 6.1 \u{9b}");
    assert_eq!(document["disks"][0]["file"], "/disks/r\u{fffd}oot.dsk");
    assert_eq!(document["shares"][0]["owner"], "unmapped");
    assert_eq!(document["channels"][0]["writer"], serde_json::Value::Null);
    assert_eq!(document["nics"][0]["link"]["received_packets"], 2100);
    let man = include_str!("../../../../man/umlwatch.1");
    for member in document.as_object().unwrap().keys() {
        let documented = man.lines().any(|line| {
            line.starts_with(".It Cm ") && line.split([' ', ',']).any(|word| word == member)
        });
        assert!(documented, "{member} is not in man/umlwatch.1");
    }
}

#[test]
fn a_reader_that_goes_is_no_failure() {
    let monitor = Monitor::start(&"line\n".repeat(2000));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = monitor.umlwatch(&["vm1", "-tail", "con0", "-halt"]);
    let output = command
        .stdin(Stdio::null())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(monitor.calls.try_iter().last().unwrap(), "halt");
}

#[test]
fn a_log_is_followed_until_ctrl_c() {
    let monitor = Monitor::start("");
    let child = monitor
        .umlwatch(&["vm1", "-follow", "-tail", "con0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    monitor.expect("read con0");
    monitor.expect("read con0");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn a_screen_is_shown_as_text() {
    let monitor = Monitor::start("");
    let text = String::from_utf8(monitor.run(&["vm1", "-screen", "con0"]).stdout).unwrap();
    assert_eq!(
        text, "a\\u{9b} \u{6f22}\n b\n",
        "two cells are one wide character"
    );
    let json = monitor.run(&["vm1", "-json", "-screen", "con0"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["rows"], &json["lines"][1]),
        (&2.into(), &" b".into())
    );
}

#[test]
fn work_on_disks_is_begun_and_waited_for() {
    let monitor = Monitor::start("");
    let (dsk, cow) = (|| b"/disks/a.dsk".to_vec(), || b"/disks/a.cow".to_vec());
    let size = |megabytes, sparse| DiskSize {
        disk: dsk(),
        megabytes,
        sparse,
    };
    let backing = |backing| DiskBacking {
        disk: cow(),
        backing,
    };
    let pair = |source, destination: &str| DiskPair {
        source,
        destination: destination.into(),
    };
    let commands = [
        (
            ["-disk-create", "/disks/a.dsk:64:sparse"],
            DiskTask::Create(size(64, true)),
        ),
        (
            ["-disk-create-cow", "/disks/a.cow:/shared/disks/b.dsk"],
            DiskTask::CreateCow(backing(b"/shared/disks/b.dsk".to_vec())),
        ),
        (
            ["-disk-copy", "/disks/a.dsk:/disks/c.dsk"],
            DiskTask::Copy(pair(dsk(), "/disks/c.dsk")),
        ),
        (
            ["-disk-resize", "/disks/a.dsk:128"],
            DiskTask::Resize(size(128, false)),
        ),
        (
            ["-disk-import", "/disks/a.cow:/disks/a.dsk"],
            DiskTask::Import(backing(dsk())),
        ),
        (
            ["-disk-commit", "/disks/a.cow:/disks/d.dsk"],
            DiskTask::Commit(pair(cow(), "/disks/d.dsk")),
        ),
        (["-disk-delete", "/disks/a.dsk"], DiskTask::Delete(dsk())),
    ];
    let args = commands.iter().flat_map(|(args, _)| *args);
    let args: Vec<&str> = ["vm1"].into_iter().chain(args).collect();
    let output = monitor.run(&args);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
    let calls: Vec<_> = monitor.calls.try_iter().collect();
    let expected = commands.map(|(_, task)| format!("{task:?}"));
    assert_eq!(calls, expected);
}

#[test]
fn a_refused_work_is_told() {
    let monitor = Monitor::start("");
    let output = monitor.run(&["vm1", "-disk-delete", "/disks/bad.dsk"]);
    let message = "umlwatch: vm1: cannot delete a disk: it is open read-write by vm2";
    failed(&output, 1, message);
}

#[test]
fn ctrl_c_cancels_work_on_a_disk() {
    let monitor = Monitor::start("");
    let args = ["vm1", "-disk-delete", "/disks/endless.dsk"];
    let child = monitor
        .umlwatch(&args)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    monitor.expect("Delete");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    failed(&output, 1, "cannot delete a disk: cancelled");
    monitor.expect("cancel 2");
}

#[test]
fn a_bar_is_shown_on_a_terminal_only() {
    let monitor = Monitor::start("");
    let mut terminal =
        Terminal::run(monitor.umlwatch(&["vm1", "-disk-delete", "/disks/endless.dsk"]));
    terminal.expect("1.00 MiB/1.00 GiB");
    terminal.signal(nix::sys::signal::Signal::SIGINT);
    terminal.expect("cancelled, and undone");
    assert_eq!(terminal.ended(), 1);
}

#[test]
fn disks_are_listed_page_by_page() {
    let monitor = Monitor::start("");
    let page = String::from_utf8(monitor.run(&["vm1", "-disk-list"]).stdout).unwrap();
    for line in [
        "/disks/base.dsk                dsk        1 GB       1 MB  vm2 (backing file of /disks/x.cow, reading)",
        "/disks/root.cow                cow        1 GB       1 MB",
        "    on /disks/\\x1bbase.dsk",
        "    it is broken",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
    }
    let json = monitor.run(&["vm1", "-json", "-disk-list"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let keys = json["disks"][0].as_object().unwrap().keys();
    let expected = [
        "allocated",
        "backing",
        "disk",
        "modified",
        "note",
        "size",
        "type",
        "users",
    ];
    assert!(keys.eq(expected), "{json}");
    assert_eq!(json["disks"][1]["type"], "cow");
}
