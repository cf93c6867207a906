//! Tier process: docs/TESTING.md is true: each test that it names exists, and each attack and fault has its row.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many attacks, and how many faults, the table has.
const ROWS: [(&str, u32); 2] = [("A", 70), ("F", 50)];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn table() -> String {
    fs::read_to_string(repository().join("docs/TESTING.md")).unwrap()
}

/// All source files below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The tests of a file, without the modules they are in. A test without the usual harness is named in a string there.
fn tests(text: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        let name = line
            .trim_start_matches("async ")
            .strip_prefix("fn ")
            .and_then(|rest| rest.split(['(', '<']).next());
        if let Some(name) = name {
            if marked {
                tests.insert(name);
            }
            marked = false;
        } else if line.starts_with("#[") {
            marked |= line == "#[test]" || line.starts_with("#[tokio::test");
        }
    }
    let quoted = text.split('"').skip(1).step_by(2);
    tests.extend(quoted.filter(|word| text.contains("const TESTS: ") && is_name(word)));
    tests
}

fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Text in backquotes that looks like the name of a test.
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| word.contains("::") && word.split("::").all(is_name))
        .collect()
}

/// Each test of the sources as `crate/src/file/test`.
fn existing() -> Vec<String> {
    let (repository, mut files) = (repository(), Vec::new());
    sources(&repository.join("crates"), &mut files);
    sources(&repository.join("tests"), &mut files);
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&repository).unwrap().with_extension("");
        let path = path.to_string_lossy().replace('-', "_");
        all.extend(tests(&text).iter().map(|test| format!("/{path}/{test}")));
    }
    all
}

#[test]
fn every_test_that_is_named_exists() {
    let (table, existing) = (table(), existing());
    let names = named(&table);
    assert!(names.len() > 100, "only {} tests are named", names.len());
    for name in names {
        let mut parts: Vec<&str> = name.split("::").collect();
        let end = format!("/{}", parts.pop().unwrap());
        let found = existing.iter().any(|test| {
            let mut place = test.strip_suffix(&end).unwrap_or_default().split('/');
            parts
                .iter()
                .all(|part| place.any(|directory| directory == *part))
        });
        assert!(found, "docs/TESTING.md: there is no test {name}");
    }
}

#[test]
fn every_attack_and_fault_has_one_row_that_says_what_holds_it() {
    let table = table();
    let ids = |(kind, last)| (1..=last).map(move |n| format!("{kind}{n}"));
    for id in ROWS.into_iter().flat_map(ids) {
        let begin = format!("| {id} |");
        let rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with(&begin))
            .collect();
        assert_eq!(rows.len(), 1, "rows of {id}: {rows:?}");
        for row in rows {
            assert_eq!(row.matches('|').count(), 4, "{row}");
            assert!(!named(row).is_empty(), "{row}");
        }
    }
}

#[test]
fn every_attack_and_fault_that_is_tried_stands_in_the_table() {
    let table = table();
    let names = named(&table);
    for file in ["attacks", "faults", "logs"] {
        let text = fs::read_to_string(repository().join(format!("tests/tests/{file}.rs"))).unwrap();
        for test in tests(&text) {
            let name = format!("{file}::{test}");
            assert!(
                names.contains(&&*name),
                "docs/TESTING.md does not name {name}"
            );
        }
    }
}
