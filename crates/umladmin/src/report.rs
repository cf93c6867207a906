//! The output of umladmin: lines as things happen, and a table of results at the end (umladmin).

use std::io::IsTerminal as _;
use std::sync::Mutex;

use cli::{Exit, Failure, Output, printable};
use client::json::ascii;
use serde_json::Value;

/// Standard output and standard error, shared by the threads.
#[derive(Debug)]
pub(crate) struct Report {
    out: Mutex<Output>,
    is_quiet: bool,
}

/// The result for one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) vm: String,
    /// In a word: "down", "booting", "failed".
    pub(crate) result: &'static str,
    /// A remark; may be empty.
    pub(crate) detail: String,
    /// Whether it is what was asked for.
    pub(crate) good: bool,
}

impl Report {
    pub(crate) fn new() -> Report {
        Report {
            out: Mutex::new(Output::stdout()),
            is_quiet: false,
        }
    }

    /// One that tells nothing but errors, of work that nobody has asked for.
    pub(crate) fn quiet() -> Report {
        Report {
            is_quiet: true,
            ..Report::new()
        }
    }

    /// Whether the reader of stdout has gone.
    pub(crate) fn is_unheard(&self) -> bool {
        self.out.lock().is_ok_and(|out| out.is_closed())
    }

    /// Text for stdout, as it is.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let Ok(mut out) = self.out.lock() else {
            return Ok(());
        };
        let written = out.write(text.as_bytes());
        written.map_err(|e| Failure::from(e).about("cannot write to stdout"))
    }

    /// All things of a kind: as JSON, one object for each, or as a table, one row for each.
    pub(crate) fn list<const N: usize>(
        &self,
        as_json: bool,
        objects: impl Iterator<Item = Value>,
        heading: [&str; N],
        rows: impl Iterator<Item = [String; N]>,
    ) -> Result<(), Failure> {
        match as_json {
            true => self.print(&ascii(&Value::Array(objects.collect()))),
            false => self.print(&table([heading.map(String::from)].into_iter().chain(rows))),
        }
    }

    /// A line about a VM while the work goes on. If stdout cannot be written, the work continues nevertheless.
    pub(crate) fn line(&self, vm: &str, text: &str) {
        if self.is_quiet {
            return;
        }
        let _ = self.print(&format!("{vm}: {}\n", printable(text.as_bytes())));
    }

    /// A line about a VM that is not as it should be.
    pub(crate) fn error(&self, vm: &str, text: &str) {
        self.warn(&format!("{vm}: {text}"));
    }

    /// A line for stderr.
    pub(crate) fn warn(&self, text: &str) {
        use std::io::Write;
        // If stderr cannot be written, the error cannot be reported.
        let _ = writeln!(
            std::io::stderr().lock(),
            "umladmin: {}",
            printable(text.as_bytes())
        );
    }

    /// Lines of ours for stderr, as they are.
    pub(crate) fn hint(&self, text: &str) {
        use std::io::Write;
        // As with warnings.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// The results in the order of the configuration, if there is more than one, and the resulting exit status.
    pub(crate) fn results(&self, rows: &[Row]) -> Result<Exit, Failure> {
        if rows.len() > 1 {
            let cells = rows
                .iter()
                .map(|row| [row.vm.clone(), row.result.into(), row.detail.clone()]);
            self.print(&format!("\n{}", table(cells)))?;
        }
        match rows.iter().all(|row| row.good) {
            true => Ok(Exit::Done),
            false => Ok(Exit::Failed),
        }
    }
}

/// Columns as wide as their widest cell, two spaces between them, nothing after the last word of a line.
pub(crate) fn table<R: IntoIterator<Item = String>>(rows: impl IntoIterator<Item = R>) -> String {
    let shown = |row: R| -> Vec<String> {
        let cells = row.into_iter();
        cells.map(|cell| printable(cell.as_bytes())).collect()
    };
    let rows: Vec<Vec<String>> = rows.into_iter().map(shown).collect();
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells.map(|(cell, w)| format!("{cell:w$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How a line stands out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Plain,
    Bold,
    Dim,
    Red,
}

impl Colour {
    /// The line in this colour; see ECMA-48, SGR.
    pub(crate) fn paint(self, line: &str) -> String {
        let code = match self {
            Colour::Plain => return line.to_owned(),
            Colour::Bold => 1,
            Colour::Dim => 2,
            Colour::Red => 31,
        };
        format!("\x1b[{code}m{line}\x1b[m")
    }
}

/// Whether stdout shows colours, and the user wants them (no-color.org).
pub(crate) fn shows_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_escapes_are_visible() {
        let rows = [
            ["VM", "STATE", ""],
            ["vm10", "off", ""],
            ["ü", "failed", "a\x1bb"],
        ];
        assert_eq!(
            table(rows.map(|row| row.map(String::from))),
            "VM    STATE\nvm10  off\nü     failed  a\\x1bb\n"
        );
    }

    #[test]
    fn one_failure_is_a_failure() {
        let row = |good| Row {
            vm: "vm1".into(),
            result: "down",
            detail: String::new(),
            good,
        };
        let report = Report::new();
        assert_eq!(report.results(&[row(true)]), Ok(Exit::Done));
        assert_eq!(report.results(&[row(false)]), Ok(Exit::Failed));
        assert_eq!(report.results(&[]), Ok(Exit::Done));
    }
}
