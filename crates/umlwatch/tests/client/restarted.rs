//! Sessions that outlive the monitor: the connection breaks, and the monitor is there again.

use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;

use crate::host::{Host, Manners};
use crate::installation::{configuration, umlwatch};
use crate::monitor::Monitor;
use crate::terminal::Terminal;

const BACK: &str = "[the monitor of vm1 was restarted; connected again]";

/// Breaks all connections to the monitor.
fn restart(monitor: &Monitor) {
    // The answer may come before the end, or not.
    let restarted = monitor.run(&["vm1", "-site", "restart"]);
    assert!([Some(0), Some(3)].contains(&restarted.status.code()));
}

#[test]
fn a_session_goes_on_where_it_was() {
    let monitor = Monitor::start("login: ");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    terminal.expect("login: ");
    terminal.type_keys("anna");
    terminal.expect("anna");
    for _ in 0..3 {
        restart(&monitor);
        let shown = terminal.expect(BACK);
        assert!(
            !shown.contains("login") && !shown.contains("anna"),
            "{shown}"
        );
        assert!(terminal.is_raw());
        terminal.type_keys("bert");
        let shown = terminal.expect("bert");
        assert!(!shown.contains("may not have arrived"), "{shown}");
    }
    // The window of the session counts again, and the right to write is the session's.
    monitor.expect("open con0 Write");
    monitor.expect("size 30 100");
    let refused = monitor.run(&["vm1", "-connect", "con0"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    terminal.type_keys("\x1d");
    terminal.expect("[left con0 of vm1]");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn no_byte_is_shown_twice_and_none_is_missing() {
    const LINES: u32 = 1000;
    let monitor = Monitor::with_front("", |service| {
        spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            service.flood(LINES).await;
        });
    });
    let mut watching = monitor
        .umlwatch(&["vm1", "-watch", "con0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let expected: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
    let mut shown = Vec::new();
    let mut out = watching.stdout.take().unwrap();
    let mut part = 1;
    while shown.len() < expected.len() {
        let mut piece = [0; 4096];
        let count = out.read(&mut piece).unwrap();
        assert!(count > 0, "it has ended");
        shown.extend_from_slice(&piece[..count]);
        if shown.len() > expected.len() / 20 * part {
            part += 1;
            restart(&monitor);
        }
    }
    assert!(part > 5, "{part}");
    assert_eq!(String::from_utf8(shown).unwrap(), expected);
    watching.kill().unwrap();
    watching.wait().unwrap();
    let said = std::io::read_to_string(watching.stderr.take().unwrap()).unwrap();
    assert!(said.lines().all(|line| line == BACK), "{said}");
    assert!(said.lines().count() > 4, "{said}");
}

#[test]
fn another_run_of_the_vm_is_told_from_the_same() {
    let monitor = Monitor::start("login: ");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    terminal.expect("login: ");
    // What it says is longer than what the former one has said.
    monitor.expect("info");
    monitor.run(&["vm1", "-site", "restart anew"]);
    terminal.expect("was restarted, and the VM has ended with it; connected again]");
    terminal.expect("new boot");
    terminal.type_keys("\x1d");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn what_was_not_taken_yet_is_told() {
    let monitor = Monitor::start("login: ");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    terminal.expect("login: ");
    monitor.expect("size");
    terminal.type_keys("stand");
    terminal.expect("takes no input");
    terminal.type_keys("kept");
    restart(&monitor);
    terminal.expect("[the last 5 bytes that were typed may not have arrived]");
    terminal.resize(50, 132);
    terminal.expect("kept");
    terminal.type_keys("\x1d.");
    assert_eq!(terminal.ended(), 0);
    monitor.calls.try_iter().for_each(drop);
    // A file of which a part may be missing is no success.
    let mut child = monitor
        .umlwatch(&["vm1", "-force-connect", "con0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"stand").unwrap();
    while monitor.expect("type") != "type \"stand\"" {}
    restart(&monitor);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.ends_with(
            "the monitor has ended; the last 5 bytes that were typed may not have arrived\n"
        ),
        "{said}"
    );
}

#[test]
fn a_session_on_another_host_needs_no_password_again() {
    for args in [&[][..], &["-via", "redirector"]] {
        let host = Host::start(Manners {
            tls: true,
            ..Manners::default()
        });
        let args = [args, &["vm1@127.0.0.1", "-connect", "con0"]].concat();
        let mut terminal = Terminal::run(host.on_terminal(&args));
        terminal.expect("Password for vm1@127.0.0.1: ");
        terminal.type_keys("secret\r");
        terminal.expect("connected with con0");
        terminal.type_keys("one");
        terminal.expect("one");
        restart(&host.monitor);
        let shown =
            terminal.expect("[the connection to the monitor of vm1 was lost; connected again]");
        assert!(!shown.contains("Password"), "{shown}");
        terminal.type_keys("two");
        terminal.expect("two");
        terminal.type_keys("\x1d");
        assert_eq!(terminal.ended(), 0);
    }
}

#[test]
fn a_monitor_that_died_is_waited_for_and_can_be_left() {
    let mut monitor = Monitor::start("login: ");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    terminal.expect("login: ");
    monitor.die();
    terminal.expect("[the monitor of vm1 is gone; waiting until it is back]");
    terminal.type_keys("\x1d");
    terminal.expect("[left con0 of vm1]");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn who_waits_waits_on() {
    let monitor = Monitor::start("boot");
    let mut children = [
        &["vm1", "-wait", "60"][..],
        &["vm1", "-wait-ready", "60,con0:login"],
    ]
    .map(|args| {
        let mut command = monitor.umlwatch(args);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    for _ in 0..2 {
        monitor.expect_all(&["open con0 Watch", "wait"]);
        restart(&monitor);
    }
    monitor.expect_all(&["open con0 Watch", "wait"]);
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    terminal.type_keys("login");
    terminal.expect("login");
    let [waiting, ready] = &mut children;
    assert_eq!(ready.wait().unwrap().code(), Some(0));
    assert_eq!(monitor.run(&["vm1", "-halt"]).status.code(), Some(0));
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    for child in children {
        let said = child.wait_with_output().unwrap().stderr;
        let said = String::from_utf8(said).unwrap();
        let line = "umlwatch: the monitor of vm1 was restarted; connected again\n";
        assert_eq!(said, line.repeat(2));
    }
    terminal.type_keys("\x1d");
    terminal.ended();
}

#[test]
fn a_recording_and_events_go_on() {
    let monitor = Monitor::start("before");
    let path = monitor.home().join("cast");
    let arg = format!("con0:{}", path.display());
    let mut children = [&["vm1", "-record", &arg][..], &["vm1", "-events"]].map(|args| {
        let mut command = monitor.umlwatch(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        command.spawn().unwrap()
    });
    monitor.expect_all(&["open con0 Watch", "events 5"]);
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    for word in ["one", "two"] {
        terminal.type_keys(word);
        terminal.expect(word);
        let until = Instant::now() + Duration::from_secs(20);
        let recorded = || std::fs::read_to_string(&path).unwrap_or_default();
        while !recorded().contains(word) {
            assert!(Instant::now() < until, "{word} is not recorded");
            std::thread::sleep(Duration::from_millis(5));
        }
        restart(&monitor);
        terminal.expect("connected again");
        monitor.expect_all(&["open con0 Watch", "events 5"]);
    }
    for child in &children {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    }
    for child in &mut children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let said = text.lines().skip(1).filter_map(|line| {
        let (_, code, data): (f64, String, String) = serde_json::from_str(line).unwrap();
        (code == "o").then_some(data)
    });
    assert_eq!(said.collect::<String>(), "onetwo");
    let [_, events] = children;
    let told = String::from_utf8(events.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(told.matches("the guest says").count(), 1, "{told}");
    assert_eq!(
        told.matches("the monitor of vm1 was restarted; connected again")
            .count(),
        2,
        "{told}"
    );
    terminal.type_keys("\x1d");
    terminal.ended();
}

/// A monitor that accepts calls and closes the connection is no reason to try forever, nor is one that has ended.
#[test]
fn it_is_given_up_in_time() {
    let dir = configuration();
    let socket = dir.path().join("var/vm1/ctrl");
    let listener = UnixListener::bind(&socket).unwrap();
    let closing = std::thread::spawn(move || {
        let (first, _) = listener.accept().unwrap();
        drop(first);
        std::fs::remove_file(socket).unwrap();
    });
    let output = umlwatch(&dir, &["vm1", "-wait", "60"]).output().unwrap();
    closing.join().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    let why = "umlwatch: vm1: cannot wait: the monitor has ended";
    assert!(said.starts_with(why) && said.lines().count() == 1, "{said}");
}
