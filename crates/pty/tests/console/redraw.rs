//! A redrawn screen looks like the first, and goes on in the same way. Needs no kernel.

use pty::{Cell, Screen};

use super::generator::stream;
use super::model;

/// What is seen of a cell. Some characters of code page 437 cannot be written in UTF-8 on a Linux console.
fn seen(cell: Option<Cell>) -> Option<(char, u8)> {
    let cell = cell?;
    let character = match cell.character {
        '♀' | '♂' => ' ',
        other => other,
    };
    Some((character, cell.attribute))
}

pub fn assert_same(first: &Screen, second: &Screen, what: &str) {
    let (rows, columns) = first.size();
    for row in 0..rows {
        for column in 0..columns {
            let (ours, theirs) = (first.cell(row, column), second.cell(row, column));
            assert_eq!(
                seen(ours),
                seen(theirs),
                "row {row}, column {column}: {what}"
            );
        }
    }
    assert_eq!(first.cursor(), second.cursor(), "{what}");
    assert_eq!(first.palette(), second.palette(), "{what}");
}

#[test]
fn generated_streams_redrawn() {
    for seed in 0..8000 {
        let (rows, columns) =
            [(6, 20), (25, 80), (4, 7), (2, 3)][usize::try_from(seed).unwrap() % 4];
        let (before, after) = (stream(seed), stream(seed + 1_000_000));
        let mut first = model(rows, columns, &before);
        first.answers();
        let drawing = first.redraw();
        let mut second = model(rows, columns, &drawing);
        let what = format!(
            "stream {seed}, {columns} x {rows}: \"{}\"\ndrawn as \"{}\"",
            before.escape_ascii(),
            drawing.escape_ascii()
        );
        assert_same(&first, &second, &what);
        assert_eq!(second.answers(), b"", "{what}");
        if before.windows(3).any(|bytes| bytes == b"\x1b#8") {
            // These letters combine with nothing, but drawn ones do.
            continue;
        }
        first.feed(&after);
        second.feed(&after);
        let what = format!("{what}\nthen \"{}\"", after.escape_ascii());
        assert_same(&first, &second, &what);
        assert_eq!(first.answers(), second.answers(), "{what}");
    }
}
