//! `-connect` and `-force-connect`.

use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::monitor::Monitor;
use crate::terminal::Terminal;

fn connected(monitor: &Monitor) -> Terminal {
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    terminal.expect("[connected with con0 of vm1; CTRL-] leaves]");
    terminal.expect("login: ");
    terminal
}

#[test]
fn keys_go_to_the_guest_and_its_output_to_the_terminal() {
    let monitor = Monitor::start("login: ");
    let mut terminal = connected(&monitor);
    assert_eq!(monitor.expect("size"), "size 30 100");
    assert!(terminal.is_raw());
    terminal.type_keys("anna\r\x03");
    terminal.expect("anna\r\x03");
    terminal.resize(50, 132);
    assert_eq!(monitor.expect("size"), "size 50 132");
    terminal.type_keys("\x16\x1d");
    terminal.expect("\x16\x1d");
    terminal.type_keys("bye\x1d never typed");
    terminal.expect("[left con0 of vm1]");
    assert_eq!(monitor.expect("type \"bye"), "type \"bye\"");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_signal_ends_it_as_always_but_the_terminal_is_restored() {
    let monitor = Monitor::start("login: ");
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut command = monitor.umlwatch(&["vm1", "-force-connect", "con0"]);
        command.env_remove("TERM");
        let mut terminal = Terminal::run(command);
        terminal.expect("login: ");
        terminal.signal(signal);
        assert_eq!(terminal.ended(), -(signal as i32));
    }
}

#[test]
fn a_killed_session_leaves_the_terminal_as_it_was() {
    let monitor = Monitor::start("login: ");
    for signal in [Signal::SIGKILL, Signal::SIGQUIT] {
        let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-force-connect", "con0"]));
        terminal.expect("login: ");
        assert!(terminal.is_raw());
        terminal.signal(signal);
        terminal.is_put_back();
        assert_eq!(terminal.ended(), -(signal as i32));
    }
}

#[test]
fn the_end_of_the_monitor_ends_it() {
    let monitor = Monitor::start("login: ");
    let mut terminal = connected(&monitor);
    drop(monitor);
    terminal.expect("umlwatch: vm1: cannot connect to con0: the monitor has gone");
    assert_eq!(terminal.ended(), 3);
}

#[test]
fn the_replay_begins_with_a_whole_line() {
    let monitor = Monitor::start(&format!("{}\nsecond line\nlogin: ", "x".repeat(5000)));
    let mut terminal = connected(&monitor);
    terminal.type_keys("\x1d");
    assert_eq!(terminal.ended(), 0);
    let long: String = (0..1000).map(|n| format!("line {n}\r\n")).collect();
    let monitor = Monitor::start(&format!("{long}\x1b[6nlogin: "));
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    let shown = terminal.expect("login: ");
    let first = shown.split_once("leaves]\r\n").unwrap().1;
    assert!(first.starts_with("line "), "{first:.20}");
    assert!(!first.contains("line 500\r"));
    assert!(!first.contains('\x1b'), "the terminal is not asked again");
    terminal.type_keys("\x1d");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn one_at_a_time_unless_by_force() {
    let monitor = Monitor::start("login: ");
    let mut first = connected(&monitor);
    let refused = monitor.run(&["vm1", "-connect", "con0", "-start"]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        message
            .starts_with("umlwatch: vm1: cannot connect to con0: it is held by uid 7 (eva), for "),
        "{message}"
    );
    assert!(
        message.ends_with("; use -force-connect to take it over\n"),
        "{message}"
    );
    let mut second = Terminal::run(monitor.umlwatch(&["vm1", "-force-connect", "con0"]));
    second.expect("[con0 was taken over from uid 7 (eva)]");
    first.type_keys("\x1d");
    second.type_keys("\x1d");
    assert_eq!((first.ended(), second.ended()), (0, 0));
}

#[test]
fn a_robbed_session_goes_on_watching() {
    let monitor = Monitor::start("login: ");
    let mut terminal = connected(&monitor);
    terminal.type_keys("steal");
    terminal.expect("[con0 was taken over by uid 7 (eva); you can go on watching]");
    terminal.type_keys("lost");
    terminal.expect("\x07");
    terminal.type_keys("\x1d");
    assert_eq!(terminal.ended(), 0);
    let typed: Vec<_> = monitor
        .calls
        .try_iter()
        .filter(|call| call.starts_with("type"))
        .collect();
    assert_eq!(typed, ["type \"steal\""]);
}

#[test]
fn the_session_outlasts_the_kernel() {
    let monitor = Monitor::start("login: ");
    let mut terminal = connected(&monitor);
    terminal.type_keys("down");
    terminal.expect("[vm1 is down: panicked: no\\x1b]0;x init]");
    assert_eq!(monitor.run(&["vm1", "-start"]).status.code(), Some(0));
    terminal.expect("[vm1 is up again]");
    terminal.type_keys("suspend");
    terminal.expect("[vm1 is suspended]");
    terminal.type_keys("skip");
    terminal.expect("[1000 bytes skipped]");
    terminal.expect("after the gap");
    terminal.type_keys("\x1d");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_pipe_is_typed_and_left_when_the_guest_is_quiet() {
    let monitor = Monitor::start("login: ");
    let mut command = monitor.umlwatch(&["vm1", "-connect", "con0"]);
    let piped = || Stdio::piped();
    let mut child = command
        .stdin(piped())
        .stdout(piped())
        .stderr(piped())
        .spawn()
        .unwrap();
    let typed: String = (0..4000).map(|n| format!("{n}\x1d\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(typed.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("login: {typed}")
    );
}
