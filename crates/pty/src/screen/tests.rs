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
    assert_eq!(
        super::tests::screen(1, 10, "漢字x\x1b[1;3Hy").text(),
        ["漢y x"]
    );
    assert_eq!((screen.cursor().row, screen.cursor().column), (0, 1));
}

/// The visible state, and the state that determines what happens next.
fn assert_redraws(screen: &Screen, what: &str) {
    let (rows, columns) = screen.size();
    let mut again = Screen::new(rows, columns);
    again.feed(&screen.redraw());
    let cells = |screen: &Screen, y: u32| -> Vec<_> {
        let row = screen.grid.row(y);
        row.iter().map(|c| (c.character(), c.attribute())).collect()
    };
    for y in 0..screen.rows {
        assert_eq!(cells(screen, y), cells(&again, y), "row {y}: {what}");
    }
    assert_eq!(screen.cursor(), again.cursor(), "{what}");
    let kept = |s: &Screen| {
        let states = (s.state, s.utf8, s.map, s.meta, s.modes);
        let ink = s.now.pen.attribute(&s.colours, s.modes.inverse);
        let saved = (s.saved.x, s.saved.y, s.saved.sets, s.saved.shifted);
        let now = (s.now.x, s.now.y, s.now.sets, s.now.shifted);
        (
            states, ink, saved, now, s.top, s.bottom, s.palette, s.colours,
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

/// However a stream is divided, the screen is the same.
mod divided {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[ -~]{0,20}".prop_map(String::into_bytes),
            "\\x1b\\[[?<>=]?[0-9;]{0,8}[@A-Za-z`\\]]".prop_map(String::into_bytes),
            "\\x1b[()%#]?[ -~]".prop_map(String::into_bytes),
            "\\PC{1,4}".prop_map(String::into_bytes),
            "[\\x00-\\x1f]{1,3}".prop_map(String::into_bytes),
            vec(any::<u8>(), 1..8),
        ]
    }

    proptest! {
        #[test]
        fn any_way(pieces in vec(piece(), 0..30), cuts in vec(0..400_usize, 0..20)) {
            let stream = pieces.concat();
            let mut whole = Screen::new(5, 12);
            whole.feed(&stream);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut divided = Screen::new(5, 12);
            for pair in cuts.windows(2) {
                divided.feed(&stream[pair[0]..pair[1]]);
            }
            prop_assert_eq!(whole.vcsa(), divided.vcsa());
            prop_assert_eq!(whole.vcsu(), divided.vcsu());
            prop_assert_eq!(whole.redraw(), divided.redraw());
            prop_assert_eq!(whole.answers(), divided.answers());
        }
    }
}

/// Absurd parameters take no time and no memory.
#[test]
fn hostile() {
    let mut screen = Screen::new(u16::MAX, u16::MAX);
    assert_eq!(screen.size(), (MAX_ROWS, MAX_COLUMNS));
    for last in (0x40..0x7f).map(char::from) {
        for number in ["0", "1000000000", "4294967295", "99999999999999999999999"] {
            screen.feed(format!("\x1b[{number};{number}{last}\x1b[?{number}{last}").as_bytes());
        }
    }
    screen.feed(b"\x1bP");
    screen.feed(&[b'x'; 1_000_000]);
    screen.feed(b"\x1b[");
    screen.feed(&[b';'; 1_000_000]);
    screen.feed(b"\x1bc");
    screen.answers();
    for _ in 0..10_000 {
        screen.feed(b"\x1b[6n\x1b[c");
    }
    let answers = screen.answers();
    assert!(answers.len() <= MAX_ANSWERS && answers.starts_with(b"\x1b[1;1R\x1b[?6c"));
    screen.feed(b"\x1b[5n");
    assert_eq!(screen.answers(), b"\x1b[0n");
    assert_eq!(Screen::new(0, 0).size(), (1, 1));
}
