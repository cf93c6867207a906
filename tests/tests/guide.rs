//! Tier real: every command of README.md and docs/GUIDE.md, as it stands there, with the real paths.
//!
//! `/etc`, `/var`, `/run` and `/usr/local` are covered by overlays in a mount namespace of the test's thread.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::path::Path;
use std::process::Command;

use e2e::host::{cover, install};
use e2e::{World, run};

const README: &str = include_str!("../../README.md");
const GUIDE: &str = include_str!("../../docs/GUIDE.md");

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

/// Ends what a failed guide leaves running.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        let mut stop = Command::new("/usr/local/sbin/umladmin");
        let _ = stop.args(["-timeout", "5", "stop"]).output();
    }
}

#[test]
fn every_block_is_marked() {
    for (text, at_least) in [(README, 2), (GUIDE, 7)] {
        let tags: Vec<_> = blocks(text).into_iter().map(|(tag, _)| tag).collect();
        let known = ["sh", "sh debian", "text"];
        assert!(tags.iter().all(|tag| known.contains(tag)), "{tags:?}");
        assert!(tags.iter().filter(|tag| **tag == "sh").count() >= at_least);
    }
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
    // A mirror is not to be had everywhere, nor is it ours to burden in every run.
    let debian = std::env::var_os("UMLMON_TEST_DEBIAN").is_some();
    let _scratch = cover();
    install();
    let _stopped = Stopped;
    let path = std::env::var("PATH").unwrap();
    let path = format!("/usr/local/sbin:/usr/local/bin:{path}:/usr/sbin:/sbin");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (tag, block) in blocks(text) {
        if tag == "sh" || (tag == "sh debian" && debian) {
            println!("---- {block}");
            let mut shell = Command::new("sh");
            shell.args(["-euc", block]).current_dir(&sources);
            let outcome = run(shell.env("PATH", &path));
            assert_eq!(outcome.status, Some(0), "{outcome:#?}");
            println!("{}", outcome.stdout);
        }
    }
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains("/var/lib/umlmon"), "{mounts}");
}
