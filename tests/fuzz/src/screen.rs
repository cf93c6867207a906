//! What a guest writes to a console, as its screen understands it.

use pty::{MAX_ANSWERS, Screen};

/// The first bytes choose size and pieces, the rest is written. However it is divided, the screen is the same, and what
/// redraws it is understood and makes no terminal answer.
pub fn target(data: &[u8]) {
    let [rows, columns, piece, new_rows, data @ ..] = data else {
        return;
    };
    let (rows, columns) = (u16::from(rows % 40), u16::from(*columns));
    let mut screen = Screen::new(rows, columns);
    let mut again = screen.clone();
    screen.feed(data);
    for piece in data.chunks(usize::from(*piece).max(1)) {
        again.feed(piece);
    }
    assert_same(&screen, &again);
    let answers = screen.answers();
    assert!(answers.len() <= MAX_ANSWERS);
    assert_eq!(answers, again.answers());
    assert!(
        screen
            .text()
            .iter()
            .all(|line| !line.contains(char::is_control))
    );
    let (rows, columns) = screen.size();
    let mut drawn = Screen::new(rows, columns);
    drawn.feed(&screen.redraw());
    assert_eq!(screen.cursor(), drawn.cursor());
    assert_eq!(screen.palette(), drawn.palette());
    assert!(drawn.answers().is_empty());
    screen.resize(u16::from(*new_rows), columns);
    screen.feed(data);
}

fn assert_same(first: &Screen, second: &Screen) {
    assert_eq!(first.vcsa(), second.vcsa());
    assert_eq!(first.vcsu(), second.vcsu());
    assert_eq!(first.cursor(), second.cursor());
    assert_eq!(first.redraw(), second.redraw());
}

/// Sequences of all kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    let streams = [
        "hello\r\n\x1b[1;31mred\x1b[0m\x1b[38;5;196mx\x1b[48;2;1;2;3my\x1b[2;4r\x1b[?6h\n\n\x1bM\x1b[3L\x1b[M",
        "\x1b(0lqqk\x1b(B\x0e\x0f\x1b%@\x1b%G\x1b[11mx\x1b[12my\x1b[10m\x1b[4habc\x1b[4l\x1b[3@\x1b[2P\x1b[5X\x1b7\x1b8",
        "\x1b]P1aabbcc\x1b]R\x1b[[A\x1b]0;title\x07\x1bPdcs\x1b\\\x1b[6n\x1b[c\x1bZ\x1b[?5h\x1b#8\x1b[1;4]\x1b[8]",
        "漢字e\u{301}❤\u{fe0f}👩\u{200d}💻\x1b[?1049h漢\x1b[H\x1b[?7l\x1b[?1049l\x1b[99999999999999999999C\x1b[4294967295A",
    ];
    let sizes: [&[u8]; 3] = [&[24, 80, 3, 10], &[2, 3, 1, 5], &[39, 255, 200, 1]];
    let all = |stream: &str| sizes.map(|size| [size, stream.as_bytes()].concat());
    streams.into_iter().flat_map(all).collect()
}
