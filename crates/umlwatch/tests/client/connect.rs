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
    terminal.type_keys("\x1d\x1d");
    terminal.expect("\x1d");
    terminal.type_keys("\x1d?");
    terminal.expect(
        "[CTRL-] leaves; so does CTRL-] . at once; CTRL-] CTRL-] types it; CTRL-] ? shows this]",
    );
    terminal.type_keys("bye\x1d never typed");
    terminal.expect("[left con0 of vm1]");
    assert_eq!(monitor.expect("type \"bye"), "type \"bye\"");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_painted_screen_is_drawn_and_not_replayed() {
    let monitor = Monitor::start("painted long ago");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    let shown = terminal.expect("drawn");
    assert!(!shown.contains("long ago"), "{shown}");
    terminal.type_keys("live");
    terminal.expect("live");
    terminal.type_keys("\x1d.");
    terminal.expect("\x1b[?25h");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn the_escape_key_can_be_another_one() {
    let monitor = Monitor::start("login: ");
    let args = ["vm1", "-escape", "^A", "-connect", "con0"];
    let mut terminal = Terminal::run(monitor.umlwatch(&args));
    terminal.expect("CTRL-A leaves]");
    terminal.type_keys("\x1d");
    terminal.expect("\x1d");
    terminal.type_keys("\x01.");
    assert_eq!(terminal.ended(), 0);
    let refused = monitor.run(&["vm1", "-escape", "x", "-info"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn watching_types_nothing_and_needs_no_stdin() {
    let monitor = Monitor::start("login: ");
    let mut writer = connected(&monitor);
    let mut watcher = Terminal::run(monitor.umlwatch(&["vm1", "-watch", "con0"]));
    watcher.expect("[watching con0 of vm1; CTRL-] leaves]");
    watcher.type_keys("x");
    watcher.expect("\x07");
    let mut piped = monitor
        .umlwatch(&["vm1", "-watch", "con0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writer.type_keys("anna");
    watcher.expect("anna");
    let mut seen = [0; 11];
    std::io::Read::read_exact(piped.stdout.as_mut().unwrap(), &mut seen).unwrap();
    assert_eq!(&seen, b"login: anna");
    piped.kill().unwrap();
    piped.wait().unwrap();
    watcher.type_keys("\x1d.");
    assert_eq!(watcher.ended(), 0);
    writer.type_keys("\x1d.");
    assert_eq!(writer.ended(), 0);
}

#[test]
fn a_recording_can_be_played() {
    let monitor = Monitor::start("before");
    let path = monitor.home().join("cast");
    let arg = format!("con0:{}", path.display());
    let mut record = monitor.umlwatch(&["vm1", "-record", &arg]).spawn().unwrap();
    monitor.expect("open con0 Watch");
    let mut terminal = Terminal::run(monitor.umlwatch(&["vm1", "-connect", "con0"]));
    terminal.expect("connected");
    terminal.type_keys("gr\u{fc}n\x1b[1m");
    terminal.expect("n\x1b[1m");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(record.id()).unwrap());
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    while !lines().contains("[1m") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(record.wait().unwrap().code(), Some(0));
    terminal.type_keys("\x1d.");
    let text = lines();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let header = lines.next().unwrap();
    assert_eq!(
        (&header["version"], &header["width"], &header["height"]),
        (&2.into(), &80.into(), &24.into())
    );
    let events: Vec<_> = lines.collect();
    assert!(events.iter().all(|event| event[0].is_f64()));
    assert_eq!(
        (&events[0][1], &events[0][2]),
        (&"r".into(), &"100x30".into())
    );
    assert!(events[1..].iter().all(|event| event[1] == "o"));
    let said = events[1..].iter().map(|event| event[2].as_str().unwrap());
    assert_eq!(said.collect::<String>(), "gr\u{fc}n\x1b[1m");
    // What is there is never overwritten.
    let refused = monitor.run(&["vm1", "-record", &arg]);
    assert_eq!(refused.status.code(), Some(1));
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
    terminal.expect("umlwatch: vm1: cannot connect to con0: the monitor has ended");
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
        message.starts_with(
            "umlwatch: vm1: cannot connect to con0: it is in use by uid 7 (eva), for "
        ),
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
    // What the terminal says by itself is no news to its user.
    terminal.type_keys("\x1b[24;80R");
    // The guest paints over the remark.
    let mut thief = Terminal::run(monitor.umlwatch(&["vm1", "-force-connect", "con0"]));
    thief.type_keys("\x1b[Hcovered");
    thief.expect("covered");
    thief.type_keys("\x1d.");
    assert_eq!(thief.ended(), 0);
    terminal.expect("covered");
    let shown = terminal.expect("[con0 was taken over by uid 7 (eva); you can go on watching]");
    assert!(!shown.contains('\x07'), "{shown:?}");
    terminal.type_keys("\x1d");
    assert_eq!(terminal.ended(), 0);
    let typed: Vec<_> = monitor
        .calls
        .try_iter()
        .filter(|call| call.starts_with("type"))
        .collect();
    assert_eq!(typed, ["type \"steal\"", "type \"\\u{1b}[Hcovered\""]);
}

#[test]
fn the_session_outlasts_the_kernel() {
    let monitor = Monitor::start("login: ");
    let mut terminal = connected(&monitor);
    terminal.type_keys("down");
    terminal.expect("[vm1 is down: panicked: no\\x1b]0;x init]");
    assert_eq!(monitor.run(&["vm1", "-start"]).status.code(), Some(0));
    terminal.expect("[vm1 is running again]");
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

#[test]
fn input_that_is_not_taken_is_told_once_and_when_it_is_over() {
    let monitor = Monitor::start("login: ");
    let mut terminal = connected(&monitor);
    monitor.expect("size");
    terminal.type_keys("stand");
    terminal.expect("[con0 takes no input for 5 s, 900 bytes wait: no program reads it]");
    terminal.type_keys("and on");
    terminal.resize(50, 132);
    let shown = terminal.expect("[con0 takes input again]");
    assert!(!shown.contains("takes no input"), "{shown}");
    terminal.expect("and on");
    terminal.type_keys("stand");
    terminal.expect("takes no input");
    terminal.type_keys("\x1d.");
    terminal.expect("[left con0 of vm1; it has not taken all that was typed]");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_file_that_is_not_taken_is_given_up() {
    let monitor = Monitor::start("login: ");
    let mut client = monitor
        .umlwatch(&["vm1", "-connect", "con0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"stand long").unwrap();
    let ended = client.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    let standstill = "con0 takes no input for 60 s, 900 bytes wait: no program reads it";
    let told = format!("[{standstill}]\numlwatch: vm1: cannot connect to con0: {standstill}\n");
    assert_eq!(said, told);
    assert_eq!(ended.status.code(), Some(5));
}
