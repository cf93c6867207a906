//! The screen of a channel, as cells or as escape sequences that draw them (umlmon, the monitor process).

use pty::{Cell, Colour, Intensity, Screen};
use rpc_xdr::umlmonctrl::*;

use crate::failure::Failure;
use crate::service::Service;

/// The colour that stands for the default one.
const DEFAULT_COLOUR: u32 = 256;

impl Service {
    pub(super) fn screen(&self, args: &ConScreenArgs) -> Result<ConScreen, Failure> {
        let channel = self.channel(&args.channel)?;
        let offset = channel.range().end;
        let plain = channel.is_plain();
        let screen = channel.with_screen(|screen| compose(screen, offset, plain, args.cells));
        if screen.drawing.len() > CTL_DRAWING_MAX as usize {
            return Err(Failure::Failed(format!(
                "the drawing of the screen of {} is too long for one reply",
                args.channel
            )));
        }
        Ok(screen)
    }
}

fn compose(screen: &Screen, offset: u64, plain: bool, cells: bool) -> ConScreen {
    let (rows, columns) = screen.size();
    let cursor = screen.cursor();
    let colour = |[r, g, b]: [u8; 3]| u32::from_be_bytes([0, r, g, b]);
    let all = || {
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places.filter_map(|(row, column)| screen.cell(row, column))
    };
    ConScreen {
        offset,
        rows: rows.into(),
        columns: columns.into(),
        cursor_row: cursor.row.into(),
        cursor_column: cursor.column.into(),
        cursor_visible: cursor.visible,
        plain,
        palette: screen.palette().map(colour),
        cells: match cells {
            true => all().map(|shown| cell(&shown)).collect(),
            false => Vec::new(),
        },
        drawing: match cells {
            true => Vec::new(),
            false => screen.redraw(),
        },
    }
}

fn cell(cell: &Cell) -> ConCell {
    let colour = |colour| match colour {
        Colour::Default => DEFAULT_COLOUR,
        Colour::Indexed(n) => u32::from(n),
    };
    let style = &cell.style;
    let flags = [
        (18, style.intensity == Intensity::Bold),
        (19, style.intensity == Intensity::Half),
        (20, style.italic),
        (21, style.underline),
        (22, style.blink),
        (23, style.reverse),
        (24, cell.wide),
    ];
    let flags = flags
        .iter()
        .filter(|(_, set)| *set)
        .map(|(bit, _)| 1 << bit);
    ConCell {
        character: cell.character.into(),
        style: colour(style.foreground) | colour(style.background) << 9 | flags.sum::<u32>(),
    }
}
