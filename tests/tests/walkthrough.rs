//! Tier real: the walk-through of umlmon(7), GETTING STARTED, typed as it stands there, with the real paths.
//!
//! The commands are taken from the manual page. `/etc`, `/var`, `/run` and `/usr/local` are covered by overlays in a
//! mount namespace of the test's thread, and so of what it starts; the host's own stay as they are.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in functions beside the tests, too

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::host::{cover, install};
use e2e::{Outcome, Terminal, program, run, skip, wait_for};

const PAGE: &str = include_str!("../../man/umlmon.7");

/// The blocks of GETTING STARTED that are meant to be typed.
fn blocks() -> Vec<String> {
    let section = PAGE.split_once(".Sh GETTING STARTED").unwrap().1;
    let blocks = section.split(".Bd -literal -offset indent\n").skip(1);
    let text = |block: &str| block.split_once("\n.Ed").unwrap().0.replace("\\e", "\\");
    blocks.map(text).collect()
}

/// Ends what a failed walk-through leaves running.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("/etc/init.d/umlmon").arg("stop").output();
    }
}

/// Types a block into root's shell.
#[track_caller]
fn type_in(home: &Path, block: &str) -> String {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    run(Command::new("sh")
        .args(["-euc", block])
        .current_dir(home)
        .env("PATH", path))
    .ok()
}

/// Calls the init script.
fn script(word: &str) -> Outcome {
    run(Command::new("/etc/init.d/umlmon").arg(word))
}

/// How many processes of the VM `ps -ef` shows as umlmon: the monitor and its children.
fn monitors(home: &Path) -> usize {
    let Ok(monitor) = fs::read_to_string("/var/run/umlmon/vm1.pid") else {
        return 0;
    };
    let monitor = monitor.trim();
    let listing = type_in(home, "ps -eo pid,ppid,comm");
    let ours = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words[..], [pid, ppid, "umlmon"] if pid == monitor || ppid == monitor)
    };
    listing.lines().filter(ours).count()
}

#[test]
fn the_walk_through_works_word_for_word() {
    if !rustix::process::geteuid().is_root() {
        return skip("needs root");
    }
    let scratch = cover();
    install();
    let _stopped = Stopped;
    let home = scratch.path().join("home");
    fs::create_dir(&home).unwrap();
    let [
        _packages,
        disk,
        configuration,
        start,
        files,
        info,
        boot,
        connect,
        shutdown,
    ] = <[String; 9]>::try_from(blocks()).expect("the page has another number of blocks now");

    type_in(&home, &disk);
    fs::write("/etc/umlmon", configuration).unwrap();
    let said = type_in(&home, &start);
    assert!(
        said.contains("service: umldir") && said.contains("vm1: monitor started"),
        "{said}"
    );
    assert_eq!(monitors(&home), 1, "one process for an inactive VM");
    type_in(&home, &files);
    let shared = Path::new("/var/lib/umlmon/shared/kernels/linux");
    assert!(
        shared.exists(),
        "the shared directory is the same in the jail"
    );

    let page = type_in(&home, &info);
    assert!(page.starts_with("vm1 is inactive"), "{page}");
    type_in(&home, &boot);
    assert_eq!(monitors(&home), 2, "two processes for a running VM");
    wait_for("a boot in /var/lib/umlmon/vm1/log/con0", || {
        let log = fs::read_to_string("/var/lib/umlmon/vm1/log/con0").ok()?;
        log.contains("Run /sbin/init as init process").then_some(())
    });
    log_in(&connect);
    type_in(&home, &shutdown);
    assert!(type_in(&home, &info).starts_with("vm1 is inactive"));
    assert_eq!(monitors(&home), 1);

    assert_eq!(script("status").status, Some(0));
    let said = type_in(&home, "/etc/init.d/umlmon stop");
    assert!(said.contains("vm1: down"), "{said}");
    assert_eq!(monitors(&home), 0);
    assert_eq!(script("status").status, Some(3));
    stop_with_a_fault(&home);
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains("/var/lib/umlmon"), "{mounts}");
}

/// A fault in the configuration must not get the guests killed when the host goes down.
fn stop_with_a_fault(home: &Path) {
    assert_eq!(script("restart").status, Some(0));
    let good = fs::read_to_string("/etc/umlmon").unwrap();
    fs::write("/etc/umlmon", format!("{good}\nnonsense\n")).unwrap();
    assert_eq!(script("status").status, Some(0), "what runs is known");
    let said = script("stop");
    assert_eq!(said.status, Some(0));
    assert!(said.stdout.contains("vm1: down"), "{said:#?}");
    assert!(
        said.stderr.contains("\"nonsense\" does not begin"),
        "{said:#?}"
    );
    assert_eq!(monitors(home), 0);
    fs::write("/etc/umlmon", good).unwrap();
}

/// Connects with the console on a terminal, runs a command, and leaves.
fn log_in(connect: &str) {
    let mut words = connect.split_whitespace();
    let mut command = Command::new(program(words.next().unwrap()));
    command.args(words);
    let mut terminal = Terminal::run(&command, 24, 80);
    // The page says: press Return if nothing is to be seen.
    terminal.send("\r");
    terminal.expect("# ");
    terminal.send("echo $((6 * 7)) $(tty)\r");
    terminal.expect("42 /dev/tty1");
    terminal.send("\x1d");
    assert_eq!(terminal.wait(), Some(0));
}
