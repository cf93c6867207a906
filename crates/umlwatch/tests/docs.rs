//! The manual page and the table of commands agree.

use umlwatch::command::{COMMANDS, PROGRAM};

const MAN: &str = include_str!("../../../man/umlwatch.1");

#[test]
fn the_manual_page_names_every_word_with_its_argument() {
    for word in PROGRAM.words() {
        let item = MAN.lines().find(|line| {
            let mut parts = line.split_whitespace();
            parts.next() == Some(".It")
                && parts.next() == Some("Fl")
                && parts.next() == Some(word.name)
        });
        let item = item.unwrap_or_else(|| panic!("-{} is not in man/umlwatch.1", word.name));
        assert_eq!(item.contains(" Ar "), word.arg.is_some(), "{item}");
    }
}

#[test]
fn the_manual_page_has_no_other_words() {
    let items = MAN.lines().filter_map(|line| line.strip_prefix(".It Fl "));
    for item in items {
        let name = item.split_whitespace().next().unwrap_or_default();
        assert!(
            PROGRAM.words().any(|word| word.name == name),
            "-{name} is not a word of umlwatch"
        );
    }
    assert!(COMMANDS.len() > 10);
}

#[test]
fn every_word_is_explained() {
    for word in PROGRAM.words() {
        let text = PROGRAM.help_about(word.name).unwrap_or_default();
        assert!(text.lines().count() > 2, "-{}: {text}", word.name);
        assert!(
            !text.contains('\\') || word.name == "tail",
            "-{}: {text}",
            word.name
        );
    }
}
