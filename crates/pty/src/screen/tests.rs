//! Tests of the screen that need no kernel.

use super::*;

fn screen(rows: u16, columns: u16, stream: &str) -> Screen {
    let mut screen = Screen::new(rows, columns);
    screen.feed(stream.as_bytes());
    screen
}

#[test]
fn text() {
    let screen = screen(3, 10, "hello\r\nworld, again\x1b[H\x1b[1;31mJ");
    assert_eq!(screen.text(), ["Jello", "world, aga", "in"]);
    assert_eq!(screen.cell(0, 0).unwrap().attribute, 0x0c);
    assert_eq!((screen.cursor().row, screen.cursor().column), (0, 1));
}

/// What is seen, and what would happen next.
fn assert_redraws(screen: &Screen, what: &str) {
    let (rows, columns) = screen.size();
    let mut again = Screen::new(rows, columns);
    again.feed(&screen.redraw());
    let cells = |screen: &Screen, y: u32| -> Vec<_> {
        let row = screen.grid.row(y).iter();
        row.map(|c| (c.character(), c.attribute())).collect()
    };
    for y in 0..screen.rows {
        assert_eq!(cells(screen, y), cells(&again, y), "row {y}: {what}");
    }
    assert_eq!(screen.cursor(), again.cursor(), "{what}");
    let kept = |s: &Screen| {
        let states = (s.state, s.utf8, s.map, s.meta, s.modes);
        let inks = (s.ink.attribute(), s.blank.attribute());
        let saved = (s.saved.x, s.saved.y, s.saved.sets, s.saved.shifted);
        let now = (s.now.x, s.now.y, s.now.sets, s.now.shifted);
        (
            states, inks, saved, now, s.top, s.bottom, s.palette, s.colours,
        )
    };
    assert_eq!(kept(screen), kept(&again), "{what}");
    assert_eq!(again.answers(), b"", "{what}");
}

#[test]
fn redrawn() {
    for stream in [
        "hello",
        "\x1b[1;31mred\x1b[44m blue \x1b[0;7mreverse\x1b[5;10Habc\x1b[4;38;5;196munder",
        "0123456789",
        "012345678漢",
        "\x1b[5;10H漢",
        "\x1b[4;10H漢\x1b[4;10H漢",
        "\x0elqqk\x1b[2;4r\x1b[?6h\x1b[?7l\x1b[?25l\x1b[?1;2004h",
        "\x1b[?5h\x1b[1mx\x1b[4my\x1b[1;5]\x1b[4mz",
        "\x1b]P1aabbcc\x1b[31;44m\x1b[8]x\x1b[0my\x1b[91mz\x1b[39mw",
        "\x1b[3;12",
        "\x1b",
        "\x1b[[",
        "\x1b]0;ti",
        "\x1bPabc",
        "\x1b]P12",
        "\x1b%@\x1b(K",
    ] {
        assert_redraws(&screen(5, 10, stream), &format!("{stream:?}"));
    }
}
