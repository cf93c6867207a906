//! Tier real: every command of README.md and docs/GUIDE.md, as it stands there, with the real paths.
//!
//! `/etc`, `/var`, `/run` and `/usr/local` are covered by overlays in a mount namespace of the test's thread, and its
//! network is its own. Packages are not installed, as `/usr` is the host's: apt only says that it could.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::host::{cover, install};
use e2e::network::{enter, snapshot};
use e2e::{Outcome, World, run_within};

const README: &str = include_str!("../../README.md");
const GUIDE: &str = include_str!("../../docs/GUIDE.md");

/// How long one block may take, which boots several guests in turn.
const BLOCK: Duration = Duration::from_mins(5);
/// How long one may take that compiles everything, or makes a Debian.
const LONG_BLOCK: Duration = Duration::from_mins(30);

/// Kinds of blocks that are typed only if this is set in the environment.
const ON_DEMAND: [(&str, &str); 3] = [
    // A mirror is not to be had everywhere, nor is it ours to burden in every run.
    ("sh mirror", "UMLMON_TEST_DEBIAN"),
    // What uses that.
    ("sh debian", "UMLMON_TEST_DEBIAN"),
    // Compiling for a release takes minutes.
    ("sh release", "UMLMON_TEST_RELEASE"),
];

/// Those that need the world outside: a mirror, a registry of packages.
const OUTSIDE: [&str; 2] = ["sh mirror", "sh release"];

/// The blocks that are not typed, by their first lines, and why.
const NOT_TYPED: [(&str, &str); 11] = [
    (
        "# apt install ./umlmon_0.1.0_amd64.deb",
        "it installs below /usr, and needs a kernel that takes long to build",
    ),
    ("cargo xtask test", "it is what runs this test"),
    (
        "cargo xtask bench",
        "it measures, for which nothing else may run",
    ),
    (
        "$ cargo xtask demo",
        "what the demo printed; compared with what it prints when that is typed",
    ),
    (
        "cargo xtask dist",
        "it installs below /usr; cargo xtask dist --try does it in a Debian of its own",
    ),
    (
        "$ umlwatch vm1@uml.example.org -start -connect con1",
        "a conversation between two hosts; the tests remote_client have it",
    ),
    (
        "modprobe zram",
        "it takes the memory of a large host; cargo xtask bench thousand measures as many",
    ),
    ("umldir", "it needs a browser; the tests web have it"),
    ("[GLOBAL]", "a host that others reach, with a certificate"),
    (
        "# umladmin certificate web",
        "it belongs to the block before; the tests web have it",
    ),
    (
        "sysctl vm.max_map_count=1048576",
        "it changes the host, and compiles for minutes",
    ),
];

/// The blocks of a text with their tags, in their order.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begin)) = rest.split_once("\n```") {
        let (tag, body) = begin.split_once('\n').unwrap();
        let (body, after) = body.split_once("\n```").unwrap();
        blocks.push((tag, body));
        rest = after;
    }
    blocks
}

/// Ends what a failed guide leaves running, and removes the one file of it that no overlay covers.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        let mut stop = Command::new("/usr/local/sbin/umladmin");
        let _ = stop.args(["-timeout", "5", "stop"]).output();
        let mut stop = Command::new("sh");
        let _ = stop
            .args(["-c", "kill $(cat /run/umlmon/directory.pid)"])
            .output();
        let _ = fs::remove_file("/root/umlmon-guide-password");
    }
}

#[test]
fn every_block_is_typed_or_has_a_reason_not_to_be() {
    let mut untyped = Vec::new();
    for (text, at_least) in [(README, 3), (GUIDE, 11)] {
        let blocks = blocks(text);
        let of = |tag: &str| blocks.iter().filter(|(found, _)| *found == tag).count();
        let on_demand: usize = ON_DEMAND.iter().map(|(tag, _)| of(tag)).sum();
        assert!(of("sh") >= at_least, "{} blocks sh", of("sh"));
        assert_eq!(of("sh") + on_demand + of("text"), blocks.len());
        let read = blocks.iter().filter(|(tag, _)| *tag == "text");
        untyped.extend(read.map(|(_, block)| block.lines().next().unwrap()));
        // Blocks that are only indented would have no tag.
        let fenced = text.split("\n```").skip(1).step_by(2);
        let outside = fenced.fold(text.to_owned(), |text, block| text.replace(block, ""));
        let indented = outside.lines().find(|line| line.starts_with("    "));
        assert_eq!(indented, None);
    }
    assert_eq!(untyped, NOT_TYPED.map(|(line, _)| line));
}

#[test]
fn the_readme_works_word_for_word() {
    type_all(README);
}

#[test]
fn the_guide_works_word_for_word() {
    type_all(GUIDE);
}

/// Types the blocks into root's shell, on a host of their own.
fn type_all(text: &str) {
    // Whatever it needs, that is looked for in one place.
    if World::with_real_kernel().is_none() {
        return;
    }
    let outside = File::open("/proc/thread-self/ns/net").unwrap();
    let _scratch = cover();
    enter();
    let network = snapshot();
    install();
    // Nothing to be installed: the same host without what would be changed in /usr.
    fs::write("/etc/apt-simulated", "APT::Get::Simulate \"true\";\n").unwrap();
    let stopped = Stopped;
    for (tag, block) in blocks(text) {
        let demanded = ON_DEMAND.iter().find(|(on_demand, _)| *on_demand == tag);
        if demanded.map_or(tag == "sh", |(_, set)| std::env::var_os(set).is_some()) {
            println!("---- {block}");
            let outcome = type_in(tag, block, &outside);
            println!("{}", outcome.stdout);
            assert_eq!(outcome.status, Some(0), "{outcome:#?}");
            if block == "cargo xtask demo" {
                is_the_transcript(&outcome.stdout);
            }
        }
    }
    assert_eq!(snapshot(), network);
    let left = fs::read_dir("/run/umlmon").unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(stopped);
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains("/var/lib/umlmon"), "{mounts}");
}

/// Types a block. What needs the world outside has the network that the test was begun with.
fn type_in(tag: &str, block: &str, outside: &File) -> Outcome {
    let path = std::env::var("PATH").unwrap();
    let path = format!("/usr/local/sbin:/usr/local/bin:{path}:/usr/sbin:/sbin");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut shell = if !OUTSIDE.contains(&tag) {
        Command::new("sh")
    } else {
        let namespace = format!(
            "--net=/proc/{}/fd/{}",
            std::process::id(),
            outside.as_raw_fd()
        );
        let mut shell = Command::new("nsenter");
        shell.args([&*namespace, "sh"]);
        shell
    };
    shell.args(["-euc", block]).current_dir(&sources);
    shell
        .env("PATH", &path)
        .env("APT_CONFIG", "/etc/apt-simulated");
    let patience = if tag == "sh" { BLOCK } else { LONG_BLOCK };
    run_within(&mut shell, patience)
}

/// README.md has the commands that the demo shows, in their order.
fn is_the_transcript(said: &str) {
    let commands = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("$ "));
        // Each run has a directory of its own.
        let words = |line: &str| {
            let known = |word: &str| match word.split_once("/tmp/umlmon-demo-") {
                Some((_, rest)) => format!("DIR{}", rest.get(6..).unwrap_or_default()),
                None => word.to_owned(),
            };
            line.split(' ').map(known).collect::<Vec<_>>().join(" ")
        };
        lines.map(words).collect()
    };
    let shown = blocks(README)
        .into_iter()
        .find(|(_, block)| block.starts_with("$ cargo xtask demo"));
    let shown = commands(shown.unwrap().1);
    let mut said = commands(said).into_iter();
    // The first one is the demo itself.
    for command in shown.into_iter().skip(1) {
        let found = said.any(|other| other == command);
        assert!(found, "the demo does not run, or not here: {command}");
    }
}
