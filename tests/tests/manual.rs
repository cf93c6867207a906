//! Tier process: the manual pages have no mistakes, what readers look for in each, and every option of every program.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{program, run, skip};

/// The programs, and the sections of their pages.
const PROGRAMS: [(&str, &str); 5] = [
    ("umlwatch", "1"),
    ("umladmin", "8"),
    ("umldir", "8"),
    ("umlweb", "8"),
    ("umlmon", "8"),
];

/// The pages that are of no program that users of the host execute.
const OTHERS: [(&str, &str); 4] = [
    ("containerd-shim-uml-v2", "8"),
    ("umlguest", "8"),
    ("umlmon", "5"),
    ("umlmon", "7"),
];

/// What the page of a program has, in this order.
const SECTIONS: [&str; 7] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "FILES",
    "EXIT STATUS",
    "EXAMPLES",
    "SEE ALSO",
];

fn manual() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../man")
}

fn path(name: &str, section: &str) -> PathBuf {
    manual().join(format!("{name}.{section}"))
}

fn page(name: &str, section: &str) -> String {
    fs::read_to_string(path(name, section)).unwrap()
}

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROGRAMS.into_iter().chain(OTHERS)
}

/// What stands in a section, up to the next one.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, text) = page.split_once(&format!("\n.Sh {heading}\n")).unwrap();
    text.split("\n.Sh ").next().unwrap()
}

#[test]
fn the_pages_are_clean() {
    if Command::new("mandoc").arg("-h").output().is_err() {
        return skip("needs mandoc");
    }
    let pages = all().map(|(name, section)| path(name, section));
    let lint = Command::new("mandoc")
        .args(["-Tlint", "-W", "warning"])
        .args(pages)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&lint.stdout);
    assert!(lint.status.success() && said.is_empty(), "{said}");
    assert_eq!(
        fs::read_dir(manual()).unwrap().count(),
        all().count(),
        "a page that is not looked at"
    );
}

#[test]
fn every_page_has_what_readers_look_for() {
    for (name, number) in PROGRAMS {
        let page = page(name, number);
        let headings = page.lines().filter_map(|line| line.strip_prefix(".Sh "));
        let known: Vec<_> = headings
            .filter(|heading| SECTIONS.contains(heading))
            .collect();
        assert_eq!(known, SECTIONS, "{name}({number})");
        let statuses = section(&page, "EXIT STATUS");
        for status in ["0", "1", "2"] {
            let item = format!("\n.It {status}\n");
            assert!(
                statuses.contains(&item),
                "{name}({number}): status {status}"
            );
        }
    }
    for (name, number) in all() {
        let page = page(name, number);
        let others = section(&page, "SEE ALSO");
        for (other, of) in all().filter(|other| *other != (name, number)) {
            let reference = format!(".Xr {other} {of}");
            assert!(
                others.contains(&reference),
                "{name}({number}): no {reference}"
            );
        }
    }
}

#[test]
fn every_option_is_in_the_synopsis_or_the_lists_of_its_page() {
    for (name, number) in PROGRAMS {
        let help = run(Command::new(program(name)).arg("-help")).ok();
        let page = page(name, number);
        let options = help.lines().filter_map(|line| line.strip_prefix("  -"));
        let words: Vec<&str> = options.filter_map(|text| text.split(' ').next()).collect();
        assert!(words.len() > 3, "{name}: {words:?}");
        for word in words {
            let described = page.lines().any(|line| {
                line == format!(".It Fl {word}") || line.starts_with(&format!(".It Fl {word} "))
            });
            assert!(described, "{name}({number}): -{word} is not described");
        }
    }
}

#[test]
fn the_signals_of_the_daemons_are_told() {
    for name in ["umlmon", "umldir"] {
        let page = page(name, "8");
        let signals = section(&page, "SIGNALS");
        for signal in ["SIGTERM", "SIGINT", "SIGHUP"] {
            let item = format!("\n.It Dv {signal}\n");
            assert!(signals.contains(&item), "{name}(8): {signal} is not told");
        }
    }
}
