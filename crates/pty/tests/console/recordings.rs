//! What real programs have written, each on a terminal of 25 x 80 with TERM=linux, while a user typed.

use std::fs;
use std::path::Path;

use pty::Screen;

use super::{Kernel, assert_same};

const ROWS: u16 = 25;
const COLUMNS: u16 = 80;

fn recordings() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let files = fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    });
    let files: Vec<_> = files.collect();
    assert!(files.len() >= 10);
    files
}

/// Not only the last screen, which most programs leave empty, is compared, but many on the way.
#[test]
fn real_programs() {
    let Some(mut kernel) = Kernel::new(ROWS, COLUMNS) else {
        return;
    };
    for (name, stream) in recordings() {
        kernel.reset();
        let mut screen = Screen::new(ROWS, COLUMNS);
        for (piece, at) in stream.chunks(97).zip((97..).step_by(97)) {
            kernel.write(piece);
            screen.feed(piece);
            if kernel.compare(&screen).is_some() {
                assert_same(&mut kernel, &stream[..at.min(stream.len())], &name);
                panic!("{name}: differs only when it is written in pieces");
            }
        }
    }
}

/// What a client sees that attaches in the middle, if its terminal is a Linux console.
#[test]
fn real_programs_redrawn_by_the_kernel() {
    let Some(mut kernel) = Kernel::new(ROWS, COLUMNS) else {
        return;
    };
    for (name, stream) in recordings() {
        let mut screen = Screen::new(ROWS, COLUMNS);
        for piece in stream.chunks(499) {
            screen.feed(piece);
            kernel.reset();
            kernel.write(&screen.redraw());
            assert!(kernel.vcsa() == screen.vcsa(), "{name}");
        }
    }
}

/// What a client sees that attaches in the middle, and what then.
#[test]
fn real_programs_redrawn() {
    for (name, stream) in recordings() {
        for middle in (0..stream.len()).step_by(499) {
            let (before, after) = stream.split_at(middle);
            let mut screen = Screen::new(ROWS, COLUMNS);
            screen.feed(before);
            screen.answers();
            let mut late = Screen::new(ROWS, COLUMNS);
            late.feed(&screen.redraw());
            let what = format!("{name}, {middle}");
            super::redraw::assert_same(&screen, &late, &what);
            screen.feed(after);
            late.feed(after);
            super::redraw::assert_same(&screen, &late, &what);
        }
    }
}
