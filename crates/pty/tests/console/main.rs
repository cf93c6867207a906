//! The screen model against the console of the kernel that runs here: what is written to an unused /dev/ttyN is read
//! back from /dev/vcsaN and /dev/vcsuN, and compared cell by cell. Needs root and a kernel with virtual terminals.
//!
//! docs/CONSOLE.md says what is compared, and what differs. `UMLMON_TEST_STREAMS` sets how many streams are generated.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // helpers of tests fail as tests do

mod cases;
mod generator;
mod kernel;
mod recordings;
mod redraw;

use kernel::Kernel;
use pty::Screen;

/// Feeds the model, in pieces that depend on the stream.
fn model(rows: u16, columns: u16, stream: &[u8]) -> Screen {
    let mut screen = Screen::new(rows, columns);
    let mut rest = stream;
    let mut step = stream.len() % 13 + 1;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(step.min(rest.len()));
        screen.feed(piece);
        rest = after;
        step = step * 7 % 31 + 1;
    }
    screen
}

/// What differs between the kernel and the model; `None` if nothing does.
fn difference(kernel: &mut Kernel, stream: &[u8]) -> Option<String> {
    let (rows, columns) = kernel.size();
    kernel.reset();
    kernel.write(stream);
    kernel.compare(&model(rows, columns, stream))
}

/// A shorter stream that still makes a difference.
fn shorter(kernel: &mut Kernel, stream: &[u8]) -> Vec<u8> {
    let mut shortest = stream.to_vec();
    let mut piece = shortest.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < shortest.len() {
            let mut without = shortest.clone();
            without.drain(at..(at + piece).min(shortest.len()));
            if difference(kernel, &without).is_some() {
                shortest = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    shortest
}

/// Fails if kernel and model differ, with as short a stream as can be found.
fn assert_same(kernel: &mut Kernel, stream: &[u8], what: &str) {
    if difference(kernel, stream).is_none() {
        return;
    }
    let short = shorter(kernel, stream);
    let (rows, columns) = kernel.size();
    let difference = difference(kernel, &short).unwrap_or_default();
    panic!(
        "{what}: {columns} x {rows}, \"{}\": {difference}",
        short.escape_ascii()
    );
}
