//! Writes what /dev/vcsaN (`--vcsu`: /dev/vcsuN) would show of a console of the kernel to which standard input was
//! written. A tool for comparing; no process of the suite runs it.
//!
//!     cargo run -p pty --example vcsa -- COLS ROWS [--vcsu] < stream > dump

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut sizes = Vec::new();
    let mut unicode = false;
    for word in std::env::args().skip(1) {
        match (word.as_str(), word.parse::<u16>()) {
            ("--vcsu", _) => unicode = true,
            (_, Ok(size)) => sizes.push(size),
            _ => return usage(),
        }
    }
    let [columns, rows] = sizes[..] else {
        return usage();
    };
    let mut screen = pty::Screen::new(rows, columns);
    if screen.size() != (rows, columns) {
        eprintln!("vcsa: {columns} columns and {rows} rows are not possible");
        return ExitCode::FAILURE;
    }
    let written = copy(&mut screen).and_then(|()| {
        let dump = if unicode {
            screen.vcsu()
        } else {
            screen.vcsa()
        };
        io::stdout().write_all(&dump)
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vcsa: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy(screen: &mut pty::Screen) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match io::stdin().read(&mut buffer)? {
            0 => return Ok(()),
            read => screen.feed(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: vcsa COLS ROWS [--vcsu] < stream");
    ExitCode::from(2)
}
