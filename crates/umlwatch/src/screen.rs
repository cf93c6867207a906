//! The screen of a channel as text.

use cli::{Failure, printable};
use client::json;
use rpc_xdr::umlmonctrl::{ConCell, ConScreen, ConScreenArgs};
use serde_json::json;

use crate::run::Runner;

/// Bit of a style: the character is two cells wide.
const WIDE: u32 = 1 << 24;

impl Runner {
    /// Shows what is on the screen of a channel.
    pub(crate) fn screen(&mut self, channel: &str) -> Result<(), Failure> {
        let args = ConScreenArgs {
            channel: channel.to_owned(),
            cells: true,
        };
        let screen = self.call(|client| Ok(client.con_screen(&args)?.into_result()))?;
        let lines = lines(&screen);
        let text = match self.style().json {
            true => json::ascii(&json!({
                "vm": self.vm().as_str(),
                "channel": channel,
                "rows": screen.rows,
                "columns": screen.columns,
                "cursor_row": screen.cursor_row,
                "cursor_column": screen.cursor_column,
                "cursor_visible": screen.cursor_visible,
                "lines": lines,
            })),
            false => {
                let shown = lines.iter().map(|line| printable(line.as_bytes()) + "\n");
                shown.collect()
            }
        };
        self.print(&text)
    }
}

/// The lines without the blanks at their ends.
fn lines(screen: &ConScreen) -> Vec<String> {
    let columns = usize::try_from(screen.columns).unwrap_or(0).max(1);
    screen.cells.chunks(columns).map(line).collect()
}

fn line(cells: &[ConCell]) -> String {
    let mut line = String::new();
    let mut second_half = false;
    for cell in cells {
        let skipped = std::mem::replace(&mut second_half, cell.style & WIDE != 0);
        if !skipped {
            line.push(char::from_u32(cell.character).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
    line.trim_end_matches(' ').to_owned()
}
