//! Streams that are generated: plausible sequences, text of many scripts, and nonsense.

use super::{Kernel, assert_same};

/// How many streams are tried unless told otherwise.
const STREAMS: u64 = 6000;
/// Small screens have more edges; the first is the usual one.
const SIZES: [(u16, u16); 6] = [(25, 80), (6, 20), (4, 7), (2, 3), (10, 300), (1, 8)];

#[test]
fn generated_streams() {
    let streams = std::env::var("UMLMON_TEST_STREAMS");
    let streams: u64 = streams.map_or(STREAMS, |number| number.parse().unwrap());
    let Some(mut kernel) = Kernel::new(25, 80) else {
        return;
    };
    // Runs of one size, as to change it takes longer than a stream.
    let run = streams.div_ceil(12).max(1);
    for seed in 0..streams {
        if seed % run == 0 {
            let size = usize::try_from(seed / run).unwrap() % SIZES.len();
            let (rows, columns) = SIZES[size];
            kernel.resize(rows, columns);
        }
        let stream = stream(seed);
        assert_same(&mut kernel, &stream, &format!("stream {seed}"));
    }
    println!("{streams} streams, no difference");
}

/// The stream of a number.
pub fn stream(seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut stream = Vec::new();
    for _ in 0..=dice.below(60) {
        dice.piece(&mut stream);
    }
    stream
}

/// Numbers without order (xorshift64*).
pub struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn piece(&mut self, to: &mut Vec<u8>) {
        match self.below(32) {
            0..=7 => self.words(to),
            8..=10 => self.characters(to),
            11..=12 => to.extend(
                self.one(&["\r\n", "\n", "\r", "\t", "\x08", "\x0b", "\x0c"])
                    .bytes(),
            ),
            13..=18 => self.control_sequence(to),
            19..=21 => self.sgr(to),
            22..=23 => self.mode(to),
            24..=25 => self.escape(to),
            26 => self.string(to),
            27 => self.cursor(to),
            28 => self.wide(to),
            29 => self.garbage(to, 6),
            30 => self.setterm(to),
            _ => to.push(self.one(&[0x0e, 0x0f, 0x0f, 0x18, 0x1a, 0x7f, 0x9b, 0, 7, 5])),
        }
    }

    fn words(&mut self, to: &mut Vec<u8>) {
        for _ in 0..=self.below(30) {
            let printable = 0x20 + u8::try_from(self.below(0x5f)).unwrap();
            to.push(printable);
        }
    }

    /// Characters of all scripts.
    fn characters(&mut self, to: &mut Vec<u8>) {
        for _ in 0..=self.below(8) {
            let (first, size) = self.one(&[
                (0x80, 0x80),
                (0xa0, 0x60),
                (0x100, 0x200),
                (0x300, 0x70),
                (0x370, 0x200),
                (0x590, 0x800),
                (0x1100, 0x100),
                (0x2000, 0x700),
                (0x2500, 0x100),
                (0x3000, 0x200),
                (0x4e00, 0x5000),
                (0xf000, 0x200),
                (0xfe00, 0x200),
                (0x1f300, 0x800),
                (0, 0x11_0000),
            ]);
            let code = u32::try_from(first + self.below(size)).unwrap();
            let character = char::from_u32(code).unwrap_or('\u{fffd}');
            to.extend(character.to_string().bytes());
        }
    }

    /// Characters that are wide, or change the one before.
    fn wide(&mut self, to: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            let character = self.one(&[
                '漢', '字', '😀', 'e', 'o', 'A', '\u{301}', '\u{308}', '\u{200d}', '\u{fe0f}', '❤',
                '\u{200b}', 'ｱ', '한', '\u{327}', 'c', '\u{ad}', '\u{30a}',
            ]);
            to.extend(character.to_string().bytes());
        }
    }

    fn number(&mut self, to: &mut Vec<u8>) {
        let number = match self.below(24) {
            0..=2 => return,
            3..=14 => self.below(8),
            15..=19 => self.below(30),
            20 => self.below(300),
            21 => 0,
            22 => self.one(&[
                255,
                256,
                32_767,
                65_535,
                2_147_483_647,
                2_147_483_648,
                4_294_967_295,
            ]),
            _ => self.one(&[4_294_967_296, 9_999_999_999, 10_000_000_000_000_000, 1000]),
        };
        to.extend(number.to_string().bytes());
    }

    fn numbers(&mut self, to: &mut Vec<u8>) {
        let count = self.one(&[0, 1, 1, 1, 1, 2, 2, 2, 3, 18]);
        for index in 0..count {
            if index > 0 {
                to.push(b';');
            }
            self.number(to);
        }
    }

    fn control_sequence(&mut self, to: &mut Vec<u8>) {
        self.introducer(to);
        if self.below(12) == 0 {
            to.push(self.one(b"?<=>! :'["));
        }
        self.numbers(to);
        if self.below(30) == 0 {
            to.push(self.one(b" !:?\x08\n"));
        }
        to.push(self.one(b"@@@ABCDEFGHHHJJKKLLMMPPPXXabcdefgghlnrrrrsuSTZ`bItx~m"));
    }

    fn introducer(&mut self, to: &mut Vec<u8>) {
        if self.below(20) == 0 {
            to.push(0x9b);
        } else {
            to.extend(b"\x1b[");
        }
    }

    fn cursor(&mut self, to: &mut Vec<u8>) {
        let (row, column) = (self.below(8), self.below(24));
        to.extend(format!("\x1b[{row};{column}H").bytes());
    }

    fn sgr(&mut self, to: &mut Vec<u8>) {
        self.introducer(to);
        for index in 0..self.one(&[0, 1, 1, 2, 3, 4]) {
            if index > 0 {
                to.push(b';');
            }
            let part = match self.below(12) {
                0..=3 => self.below(28).to_string(),
                4..=6 => (30 + self.below(20)).to_string(),
                7 => (90 + self.below(20)).to_string(),
                8..=9 => format!("{};5;{}", self.one(&[38, 48]), self.below(260)),
                10 => {
                    let (r, g, b) = (self.below(260), self.below(256), self.below(256));
                    format!("{};2;{r};{g};{b}", self.one(&[38, 48]))
                }
                _ => self
                    .one(&["38", "48;5", "38;2;1", "38;7;1", "999"])
                    .to_owned(),
            };
            to.extend(part.bytes());
        }
        to.push(b'm');
    }

    fn mode(&mut self, to: &mut Vec<u8>) {
        let mode = self.one(&[
            "?1", "?5", "?6", "?6", "?7", "?7", "?25", "?1000", "?2004", "?9", "?8", "4", "4",
            "20", "3", "?7;5", "?3",
        ]);
        let last = self.one(&['h', 'h', 'l']);
        to.extend(format!("\x1b[{mode}{last}").bytes());
        if self.below(6) == 0 {
            // In UTF-8, as the kernel tells what it remembers only then.
            let last = self.one(&['h', 'l']);
            to.extend(format!("\x1b%G\x1b[?1049{last}").bytes());
        }
        if mode == "3" || mode == "4" {
            self.words(to);
            if self.below(3) > 0 {
                to.extend(format!("\x1b[{mode}l").bytes());
            }
        }
    }

    fn escape(&mut self, to: &mut Vec<u8>) {
        let escapes = [
            "D", "E", "M", "M", "M", "H", "7", "8", "8", "c", "Z", "=", ">", "(0", "(B", "(U",
            "(K", ")0", ")B", ")U", ")K", "#8", "#3", "%G", "%8", "%@", "[[A", "[[", "]R", "(A",
            "*0", "\\", "N", "Q", "[s", "[u", "[r",
        ];
        to.push(0x1b);
        to.extend(self.one(&escapes).bytes());
    }

    fn string(&mut self, to: &mut Vec<u8>) {
        let begin = self.one(&[
            "]0;", "]2;", "P", "^", "_", "]P", "]P1aabbc", "X", "]", "]L",
        ]);
        to.push(0x1b);
        to.extend(begin.bytes());
        if self.below(2) == 0 {
            self.words(to);
        } else {
            self.garbage(to, 4);
        }
        to.extend(self.one(&["\x07", "\x1b\\", "\x18", ""]).bytes());
    }

    fn garbage(&mut self, to: &mut Vec<u8>, most: usize) {
        for _ in 0..=self.below(most) {
            let byte = u8::try_from(self.below(256)).unwrap();
            to.push(byte);
        }
    }

    /// Colours of underlined, half-bright and default text. Other functions change consoles of the host.
    fn setterm(&mut self, to: &mut Vec<u8>) {
        let color = self.below(18);
        let function = self.one(&[
            format!("1;{color}").leak(),
            format!("2;{color}").leak(),
            "8",
        ]);
        to.extend(format!("\x1b[{function}]").bytes());
    }
}
