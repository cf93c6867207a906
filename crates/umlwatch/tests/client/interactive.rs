//! The interactive mode.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::monitor::Monitor;
use crate::terminal::Terminal;

fn piped(monitor: &Monitor, lines: &str) -> Output {
    let mut command = monitor.umlwatch(&["vm1"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn commands_come_from_a_pipe_without_a_prompt() {
    let monitor = Monitor::start("");
    let output = piped(&monitor, "port\n\n  start-with  a b\nkill\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "4711\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        monitor.calls.try_iter().collect::<Vec<_>>(),
        ["start a b"],
        "the first failure is the end"
    );
    let output = piped(&monitor, "info -json\ninfo\n");
    let said = String::from_utf8(output.stdout).unwrap();
    let (json, page) = said.split_once("\n}\n").expect("one object");
    assert!(
        json.starts_with('{') && page.contains("Consoles\n"),
        "{said}"
    );
    let output = piped(&monitor, "connect con0\nwhoami\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "whoami\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_terminal_gets_prompt_completion_and_history() {
    let monitor = Monitor::start("login: ");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1"]));
    terminal.expect("vm1> ");
    terminal.type_keys("nonsense\r");
    terminal.expect("unknown command 'nonsense'");
    terminal.type_keys("set password=secret\r");
    // What is to be kept of it is no secret with which somebody could log in.
    let set = monitor.expect("set");
    assert!(set.starts_with("set password \"$opaque$1$"), "{set}");
    terminal.type_keys("forc\tc\t\r");
    terminal.expect("[connected with con0 of vm1");
    terminal.expect("login: ");
    terminal.type_keys("\x1d");
    terminal.expect("[left con0 of vm1]");
    terminal.expect("vm1> ");
    terminal.type_keys("quit\r");
    assert_eq!(terminal.ended(), 0);
    let file = monitor.home().join(".umlwatch_history");
    let history = std::fs::read_to_string(&file).unwrap();
    assert!(history.contains("force-connect con0\n"), "{history}");
    assert!(!history.contains("secret"));
    assert_eq!(
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
}
