//! Holds man/umladmin.8 to the tables of umladmin: the same modes, the same options, the same arguments.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail as tests do

use std::collections::BTreeSet;
use std::path::Path;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man/umladmin.8");
    std::fs::read_to_string(path).unwrap()
}

/// What `.It` says in the list of options: `Fl set Ar param Ns = Ns Ar value` as `-set PARAM=VALUE`.
fn option(item: &str) -> String {
    let words: Vec<&str> = item
        .split(' ')
        .filter(|word| !["Fl", "Ar", "Ns"].contains(word))
        .collect();
    let (name, argument) = words.split_first().unwrap();
    match argument.concat().to_uppercase() {
        argument if argument.is_empty() => format!("-{name}"),
        argument => format!("-{name} {argument}"),
    }
}

#[test]
fn the_manual_has_every_option_and_no_other() {
    let table: BTreeSet<String> = umladmin::PROGRAM
        .words()
        // Words that are typed as they are look like the others in the manual.
        .map(|word| format!("-{}", word.form()).replace(":ro", ":RO"))
        .collect();
    let page = page();
    let items = page.lines().filter_map(|line| line.strip_prefix(".It "));
    let manual: BTreeSet<String> = items
        .filter(|item| item.starts_with("Fl "))
        .map(option)
        .collect();
    assert_eq!(manual, table);
}

#[test]
fn the_synopsis_has_every_option_and_every_mode() {
    let page = page();
    let (_, rest) = page.split_once(".Sh SYNOPSIS").unwrap();
    let (synopsis, _) = rest.split_once(".Sh DESCRIPTION").unwrap();
    let words: Vec<&str> = synopsis.split_whitespace().collect();
    for word in umladmin::PROGRAM.words() {
        let shown = words
            .windows(2)
            .any(|pair| pair[1] == word.name && pair[0] != "Cm");
        assert!(shown, "-{} is not in the synopsis", word.name);
    }
    for mode in umladmin::MODES {
        let keyword = mode.word.name;
        assert!(
            synopsis.contains(keyword),
            "{keyword} is not in the synopsis"
        );
        assert!(
            page.contains(&format!("\n.It Cm {keyword}\n")),
            "{keyword} is not described"
        );
    }
}

#[test]
fn every_mode_and_every_option_is_explained() {
    let modes = umladmin::MODES.iter().map(|mode| mode.word.name.to_owned());
    let words = umladmin::PROGRAM.words();
    for word in modes.chain(words.map(|word| format!("-{}", word.name))) {
        let text = umladmin::PROGRAM.help_about(&word).unwrap();
        assert!(text.lines().count() > 2, "{word}: {text}");
    }
}

#[test]
fn the_manual_has_every_metric() {
    let page = page();
    for metric in umladmin::METRICS {
        assert!(
            page.contains(&format!("\n.It {}\n", metric.name)),
            "{}",
            metric.name
        );
    }
    assert_eq!(
        page.matches("\n.It umlmon_").count(),
        umladmin::METRICS.len()
    );
}
