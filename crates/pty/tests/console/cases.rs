//! Cases made by hand, for every sequence of console_codes(4) and for what the kernel does beyond.

use super::{Kernel, assert_same, difference, model};

/// Text on a screen of 6 x 20 that shows where something moves.
const FIELD: &str = "\x1b[Habcdefghijklmnopqrst\x1b[2;1HABCDEFGHIJKLMNOPQRST\x1b[3;1H01234567890123456789\
    \x1b[4;1Hαβγδεζηθικλμνξοπρστυ\x1b[5;1H漢字漢字漢字漢字漢字\x1b[6;1Hlast line of these..\x1b[3;8H";

/// What is done to the field, and to an empty screen.
#[rustfmt::skip]
const SEQUENCES: &[&str] = &[
    // Control characters.
    "\0x", "\x07x", "\x08x", "\tx\tx\tx\tx", "\nx", "\x0bx", "\x0cx", "\rx", "\x0ex\x0fx", "\x18x", "\x1ax", "\x7fx", "\u{9b}1mx",
    "\x01\x02\x03\x04\x05\x06\x10\x11\x12\x13\x14\x15\x16\x17\x19\x1c\x1d\x1e\x1fx",
    // Escape sequences.
    "\x1b", "\x1bc", "\x1bD\x1bD", "\x1bE\x1bE", "\x1bHx\r\t\tx", "\x1bM", "\x1bM\x1bM\x1bM\x1bM", "\x1bZ",
    "\x1b[31m\x1b7\x1b[H\x1b[32mx\x1b8x", "\x1b[s\x1b[Hx\x1b[ux", "\x1b8x", "\x1b=x", "\x1b>x", "\x1b#8x", "\x1b#3x", "\x1b\\x", "\x1bqx",
    "\x1b[1;44m\x1b#8x", "\x1bN\x1bO", "\x1b*0x", "\x1b X",
    // Character sets.
    "\x1b(0lqqk\x1b(Bx", "\x1b(0\x0flqqk", "\x0elqqk\x0fx", "\x1b)0\x0elqqk`abcdefghijklmnopqrstuvwxyz{|}~_+,-.0\x0f",
    "\x1b)U\x0e\x01\x02\x03\x10\x7f\x0f", "\x1b)K\x0eabc\x01\x02\x0f", "\x1b)B\x0eabc\x0f", "\x1b)Ax", "\x1b%@\u{e4}\x1b%Gä", "\x1b%@\x1b(0lqqk\x1b(B\x1b%8ä",
    "\x1b%@\x1b(U\u{e4}", "\x1b[10mx\x1b[11mx\x01\x02\x1b[12mABC\x1b[10mx", "\x1b[11m\x1b(0q\x1b[10mq", "\x1b[12m\x1b(Bq\x0fq\x0eq",
    "\x1b[3hx\x01\x02\t\x1b[3l", "\x0e\x1b[3lq", "\x1b%x",
    // Movement.
    "\x1b[Ax", "\x1b[2Ax", "\x1b[99Ax", "\x1b[Bx", "\x1b[2Bx", "\x1b[99Bx", "\x1b[2ex", "\x1b[Cx", "\x1b[99Cx", "\x1b[3ax", "\x1b[Dx", "\x1b[99Dx",
    "\x1b[Ex", "\x1b[2Ex", "\x1b[Fx", "\x1b[2Fx", "\x1b[Gx", "\x1b[5Gx", "\x1b[99`x", "\x1b[Hx", "\x1b[2;4Hx", "\x1b[99;99Hx", "\x1b[;5fx", "\x1b[2dx",
    "\x1b[99dx", "\x1b[4294967295Ax", "\x1b[2147483648Bx", "\x1b[4294967295Cx", "\x1b[2147483647;2147483647Hx", "\x1b[4294967297Gx",
    // Erasing, inserting, deleting.
    "\x1b[J", "\x1b[1J", "\x1b[2J", "\x1b[3J", "\x1b[4J", "\x1b[44m\x1b[J", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[3K", "\x1b[7;42m\x1b[2K", "\x1b[X", "\x1b[5X", "\x1b[99X",
    "\x1b[@", "\x1b[3@", "\x1b[99@", "\x1b[P", "\x1b[3P", "\x1b[99P", "\x1b[L", "\x1b[2L", "\x1b[99L", "\x1b[M", "\x1b[2M", "\x1b[99M", "\x1b[S", "\x1b[2T", "\x1b[5bx",
    "\x1b[4:5mx", "\x1b[6;1H\x1b[L\x1b[M", "\x1b[41m\x1b[6;1H\n\n",
    // The last column.
    "\x1b[20Gx\x1b[Ky", "\x1b[20Gxy", "\x1b[20Gx\x08y", "\x1b[20Gx\ty", "\x1b[20Gx\x1b[31my", "\x1b[20Gx\x1b7y\x1b8z", "\x1b[20Gx\x1b[?7ly", "\x1b[?7l\x1b[19Gxyz",
    "\x1b[20Gx\x1b[Cy", "\x1b[20Gx\x1b[@y", "\x1b[20Gx\x1b[4hy\x1b[4l", "\x1b[20G漢x", "\x1b[6;20G漢x", "\x1b[6;20H漢", "\x1b[20Ge\u{301}x", "\x1b[?7l\x1b[20G漢",
    // Modes.
    "\x1b[4habc\x1b[4lx", "\x1b[4h漢\x1b[4l", "\x1b[20h\nx\x1b[20l", "\x1b[?1hx", "\x1b[?3hx", "\x1b[?5hx", "\x1b[?5h\x1b[31mx\x1b[7my\x1b[?5lz", "\x1b[?5h\x1b[2J", "\x1b[?8lx",
    "\x1b[?9hx", "\x1b[?25lx", "\x1b[?1000hx", "\x1b[?2004hx", "\x1b[?1049hx", "\x1b[?1049hx\x1b[?1049h\x1b[31my\x1b[?1049lz", "\x1b[?1049lx", "\x1b[?1049h\x1b[2;3Hx\x1bcy\x1b[?1049lz", "\x1b[?1049hab漢\x1b[?1049le\u{301}",
    "\x1b[5;5H\x1b[32m\x1b[?1049h\x1b[Hxy\x1b7\x1b[2;2H\x1b[?1049lz", "\x1b[?47hx\x1b[?47l", "\x1b[?1047hx\x1b[?1047l", "\x1b[?1048hx\x1b[?1048l", "\x1b[?5h\x1b[?1049hx\x1b[?5ly\x1b[?1049l", "\x1b[2;4r\x1b[?6hx\x1b[99;1Hy\x1b[Az\x1b[9Aw", "\x1b[?6h\x1b[2;4rx\x1b[2dy\x1b[?6lz",
    // The scroll region.
    "\x1b[2;4rx", "\x1b[2;4r\x1b[4;1H\nx\nx", "\x1b[2;4r\x1b[2;1H\x1bM\x1bMx", "\x1b[2;4r\x1b[6;1H\n\nx", "\x1b[2;4r\x1b[1;1H\x1bM\x1b[L", "\x1b[2;4r\x1b[3;1H\x1b[L", "\x1b[2;4r\x1b[3;1H\x1b[9M",
    "\x1b[2;4r\x1b[5;1H\x1b[Lx", "\x1b[4;2rx", "\x1b[3;3rx", "\x1b[0;99rx", "\x1b[2;rx", "\x1b[;4rx", "\x1b[2;4r\x1b[rx",
    // Tab stops.
    "\x1b[3g\r\tx", "\x1b[3g\x1b[5G\x1bH\r\tx\ty", "\x1b[9G\x1b[g\r\tx", "\x1b[5G\x1b[0g\r\tx", "\x1b[2g\r\tx",
    // Colours and attributes.
    "\x1b[1mx\x1b[2mx\x1b[3mx\x1b[4mx\x1b[5mx\x1b[7mx\x1b[0mx", "\x1b[21mx\x1b[24mx", "\x1b[1;22mx", "\x1b[3;23mx", "\x1b[5;25mx", "\x1b[7;27mx", "\x1b[1;4;7;31;42mx",
    "\x1b[30mx\x1b[31mx\x1b[32mx\x1b[33mx\x1b[34mx\x1b[35mx\x1b[36mx\x1b[37mx\x1b[39mx", "\x1b[40mx\x1b[41mx\x1b[42mx\x1b[43mx\x1b[44mx\x1b[45mx\x1b[46mx\x1b[47mx\x1b[49mx",
    "\x1b[90mx\x1b[91mx\x1b[97mx\x1b[39mx", "\x1b[100mx\x1b[101mx\x1b[107mx\x1b[49mx", "\x1b[38mx", "\x1b[38;5mx", "\x1b[38;5;9mx", "\x1b[38;5;255mx\x1b[48;5;232mx", "\x1b[48;5;300mx",
    "\x1b[38;2;255;0;0mx", "\x1b[38;2;10;20;30;1mx", "\x1b[38;2;1;2mx", "\x1b[48;2;200;100;0mx", "\x1b[38;3;1mx", "\x1b[38;5;1;4mx", "\x1b[38;2;300;256;511mx",
    "\x1b[;;31mx", "\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;31mx", "\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;31mx", "\x1b[28mx\x1b[8mx", "\x1b[5;41m\x1b[K",
    // The console's own.
    "\x1b[1;4]\x1b[4mx", "\x1b[4m\x1b[1;4]x", "\x1b[1;16]\x1b[4mx", "\x1b[2;5]\x1b[2mx", "\x1b[31;44m\x1b[8]x\x1b[0my\x1b[39my\x1b[Kz", "\x1b[1;31m\x1b[8]\x1b[0mx\x1b[1my", "\x1b[9;1]x", "\x1b[10;440]\x1b[11;50]x",
    "\x1b]P1aabbccx", "\x1b]Px", "\x1b]P1aax", "\x1b]P1aab\nbccx", "\x1b]Rx", "\x1b[[Ax", "\x1b[[[x", "\x1b]xy", "\x1b]0;title\x07x", "\x1b]0;title\x1b\\x", "\x1b]0;ti\ntle\x18x", "\x1b]52;c;?\x1b[1mx",
    "\x1bPabc\x1b\\x", "\x1bPabc\x07x", "\x1b_abc\x1b\\x", "\x1b^abc\x1b\\x", "\x1bXabc\x1b\\x", "\x1b]0;\u{9b}1mx", "\x1bP\x7f\0\x0ex\x07l\x0f",
    // Sequences in sequences, and such that there are not.
    "\x1b[\x08x", "\x1b[2\n;3Hx", "\x1b[3\x1b[1mx", "\x1b[3\x18x", "\x1b[?1;2cx", "\x1b[>cx", "\x1b[=1;2cx", "\x1b[<ux", "\x1b[2 qx", "\x1b[!px", "\x1b[1$}x", "\x1b[?25;7lx", "\x1b[?6nx", "\x1b[1:2mx", "\x1b[\x7f1mx",
    "\x1b[1qx\x1b[0q", "\x1b[?17;0;64cx", "\x1b[?mx", "\x1b[?1mx", "\x1b[2tx", "\x1b(\x1b[1mx", "\x1b\x1b[1mx", "\x1b[1\x7fmx", "\x1b[?Hx",
    // Characters.
    "äöü€→漢字한글😀x", "e\u{301}o\u{308}c\u{327}x", "z\u{301}x", "漢\u{301}x", "漢\u{301}\u{302}x", "❤\u{fe0f}x", "\u{fe0f}x", "\r\u{301}x", "👩\u{200d}💻x", "\u{ad}\u{200b}\u{200f}\u{feff}\u{2028}x",
    "漢\x1b[2D1", "漢\x1b[1D1", "漢\x08\x08漢", "\u{f020}\u{f0c4}\u{f100}x", "\u{80}\u{85}\u{90}\u{9f}x", "\u{a0}\u{ff}x", "♀♂⚧x", "\u{10ffff}\u{fffe}\u{ffff}x", "\x1b[7m漢\x1b[0;31m\u{301}x",
];

/// Bytes that are not text.
#[rustfmt::skip]
const BYTES: &[&[u8]] = &[
    b"\x80x", b"\xbfx", b"\xc3x", b"\xc3\x1b[31mx", b"\xc3\xc3\xa4x", b"\xe2\x82x", b"\xe2\x82\xe2\x82\xacx", b"\xf0\x9f\x98x", b"\xf0\x9f\x98\nx", b"\xc0\x80x", b"\xc1\xbfx",
    b"\xe0\x80\x80x", b"\xed\xa0\x80x", b"\xf4\x90\x80\x80x", b"\xf8\x88\x80\x80\x80x", b"\xfe\xffx", b"\x9b31mx", b"\xc2\x9b31mx", b"\x1b[\x9b31mx", b"\xc2\x9bx", b"\x1b%@\x9b31mx\xe4\x80\x9f",
    b"\x1b%@\xc4\xb3\xb9\xde\xad\xaf\xbe", b"\x1b%@\x1b(U\x01\x80\xc4\xff\x1b(K\x01\x80\xc4\xff", b"\x0e\x80\xc4\xff\x9b31m\x0f", b"\x1b[12m\x01\x41\x7f\xc1\x1b[10m",
];

#[test]
fn every_sequence() {
    let Some(mut kernel) = Kernel::new(6, 20) else {
        return;
    };
    let sequences = SEQUENCES.iter().map(|sequence| sequence.as_bytes());
    for sequence in sequences.chain(BYTES.iter().copied()) {
        let what = sequence.escape_ascii().to_string();
        assert_same(&mut kernel, sequence, &what);
        let on_field = [FIELD.as_bytes(), sequence].concat();
        assert_same(&mut kernel, &on_field, &what);
        // What comes after it shows more of the state than the screen does.
        let twice = [
            sequence,
            b"\x1b[35mA\r\n\tB\x0eq\x0f",
            sequence,
            "ä漢\n".as_bytes(),
        ]
        .concat();
        assert_same(&mut kernel, &twice, &what);
    }
    // A screen that shows the cases on others is a large one, too.
    kernel.resize(25, 132);
    for sequence in SEQUENCES {
        let repeated = sequence.repeat(40);
        assert_same(&mut kernel, repeated.as_bytes(), sequence);
    }
}

#[test]
fn answers() {
    let Some(mut kernel) = Kernel::new(6, 20) else {
        return;
    };
    for stream in [
        "\x1b[5n",
        "\x1b[6n",
        "\x1b[3;4H\x1b[6n",
        "\x1b[2;4r\x1b[?6h\x1b[2;3H\x1b[6n",
        "\x1b[c",
        "\x1b[0c",
        "\x1bZ",
        "\x1b[?6n",
        "\x1b[?5n\x1b[6n",
        "\x1b[20Gx\x1b[6n",
        "\x1b[c\x1b[5n\x1b[6n",
    ] {
        kernel.reset();
        let ours = model(6, 20, stream.as_bytes()).answers();
        kernel.write(stream.as_bytes());
        let theirs = kernel.answers(ours.len());
        assert_eq!(
            theirs.escape_ascii().to_string(),
            ours.escape_ascii().to_string(),
            "{stream:?}"
        );
    }
    // None to these; the last one shows that nothing is on its way.
    for stream in [
        "\x1b[>c",
        "\x1b[=c",
        "\x1b[1c",
        "\x1b[?c",
        "\x1b[7n",
        "\x1b[18t",
        "\x1b]10;?\x07",
        "\x1bP$qm\x1b\\",
        "\x05",
        "\x1b[x",
        "\x1b[?2026$p",
    ] {
        kernel.reset();
        kernel.write(stream.as_bytes());
        kernel.write(b"\x1b[5n");
        assert_eq!(kernel.answers(4), b"\x1b[0n", "{stream:?}");
        assert_eq!(model(6, 20, stream.as_bytes()).answers(), b"", "{stream:?}");
    }
}

/// From each size to each other, with the cursor in each row.
#[test]
fn sizes() {
    let Some(mut kernel) = Kernel::new(6, 20) else {
        return;
    };
    const SIZES: [(u16, u16); 7] = [
        (6, 20),
        (3, 20),
        (12, 20),
        (6, 10),
        (6, 33),
        (2, 5),
        (25, 80),
    ];
    for (rows, columns) in SIZES {
        for (new_rows, new_columns) in SIZES {
            for row in 1..=rows {
                let stream = format!("{FIELD}\x1b[2;3r\x1b[44m\x1b[?6l\x1b[{row};{columns}Hx\x1b7");
                kernel.resize(rows, columns);
                assert_eq!(difference(&mut kernel, stream.as_bytes()), None);
                let mut screen = model(rows, columns, stream.as_bytes());
                kernel.resize(new_rows, new_columns);
                screen.resize(new_rows, new_columns);
                let after = b"y\x1b[H\x1bM\x1b8z\x1b[99;1H\n";
                let what = format!("{rows} x {columns}, row {row}, to {new_rows} x {new_columns}");
                assert_eq!(compare(&mut kernel, &screen), None, "{what}");
                if row <= new_rows + 1 {
                    // The text has not moved up.
                    assert_eq!(kernel.compare(&screen), None, "{what}");
                }
                kernel.write(after);
                screen.feed(after);
                assert_eq!(compare(&mut kernel, &screen), None, "{what}");
            }
        }
    }
}

/// The alternate screen in another size than the main one.
#[test]
fn sizes_of_the_alternate_screen() {
    let Some(mut kernel) = Kernel::new(6, 20) else {
        return;
    };
    for (rows, columns) in [
        (6, 20),
        (3, 20),
        (12, 20),
        (6, 10),
        (6, 33),
        (2, 5),
        (25, 80),
    ] {
        let stream = format!("{FIELD}\x1b[44m\x1b[?1049hother\r\nscreen");
        kernel.resize(6, 20);
        assert_eq!(difference(&mut kernel, stream.as_bytes()), None);
        let mut screen = model(6, 20, stream.as_bytes());
        kernel.resize(rows, columns);
        screen.resize(rows, columns);
        let after = "x\x1b[?1049ly\x1b[?1049hz\x1b[?1049l";
        kernel.write(after.as_bytes());
        screen.feed(after.as_bytes());
        assert_eq!(compare(&mut kernel, &screen), None, "{rows} x {columns}");
    }
}

/// Without the characters: when the kernel moves text up, it forgets which characters some of the glyphs were.
fn compare(kernel: &mut Kernel, screen: &pty::Screen) -> Option<String> {
    let (theirs, ours) = (kernel.vcsa(), screen.vcsa());
    let at = theirs.iter().zip(&ours).position(|(a, b)| a != b)?;
    Some(format!(
        "byte {at}: kernel {}, model {}",
        theirs[at], ours[at]
    ))
}
