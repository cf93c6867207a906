//! The times as a table, for the screen and for docs/KERNELS.md (cargo xtask bench guest).

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::machine::MACHINES;
use super::record::Record;
use super::work;

/// The lines around the table in a document.
const BEGIN: &str = "<!-- made by `cargo xtask bench guest` -->\n";
const END: &str = "<!-- end of what it made -->\n";

/// A row for each machine that was measured, a column for each part.
pub(super) fn of(record: &Record) -> String {
    let mut text = String::from("| kernel |");
    for part in work::parts() {
        text += &format!(" {} |", part.title);
    }
    text += "\n|---|";
    text += &"---|".repeat(work::parts().count());
    text.push('\n');
    for machine in MACHINES
        .iter()
        .filter(|machine| record.rounds(machine.name) > 0)
    {
        text += &format!("| {} |", machine.title);
        for part in work::parts() {
            text += &format!(" {} |", cell(record.median(machine.name, part.name)));
        }
        text.push('\n');
    }
    text
}

/// Seconds, with the digits that count.
fn cell(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".into(),
        Some(seconds @ 10.0..) => format!("{seconds:.1}"),
        Some(seconds) => format!("{seconds:.2}"),
    }
}

/// Puts it into a document, in place of the one that is there.
pub(super) fn put(document: &Path, table: &str) -> anyhow::Result<()> {
    let name = document.display();
    let text = fs::read_to_string(document).with_context(|| format!("cannot read {name}"))?;
    let replaced = replaced(&text, table);
    let replaced =
        replaced.with_context(|| format!("{name} has no place for the table: {BEGIN}"))?;
    fs::write(document, replaced).with_context(|| format!("cannot write {name}"))
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_put_in_its_place() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        let once = replaced(&text, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\nnew\n\n{END}b\n"));
        assert_eq!(replaced(&once, "new\n").unwrap(), once);
        assert_eq!(replaced("a\n", "new\n"), None);
    }

    #[test]
    fn the_document_has_a_place_for_it() {
        let text = fs::read_to_string(crate::steps::repository().join("docs/KERNELS.md")).unwrap();
        assert!(replaced(&text, "").is_some());
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::open(&directory.path().join("times")).unwrap();
        record
            .add(0, "native", &vec![("gcc", 1.234), ("make", 12.34)])
            .unwrap();
        let table = of(&record);
        assert_eq!(table.lines().count(), 3);
        assert!(
            table.ends_with("| - | - | - | 1.23 | 12.3 | - | - | - | - |\n"),
            "{table}"
        );
    }
}
