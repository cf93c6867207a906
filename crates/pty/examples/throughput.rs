//! How fast a terminal model is, and how much memory a screen of it takes: ours or a peer's. `cargo xtask bench screen`
//! runs it; no process of the suite does.
//!
//!     throughput time ours|alacritty|vt100      # milliseconds for 20 MB
//!     throughput memory ours|alacritty|vt100    # KB for a screen of 80 x 25

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::num::NonZero;
use std::time::Instant;

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::term::{Config, Term};
use alacritty_terminal::vte::ansi::Processor;

const ROWS: u16 = 25;
const COLUMNS: u16 = 80;
/// As much as one read of a channel brings.
const PIECE: usize = 4096;
const BYTES: usize = 20_000_000;
/// So many screens that what else is allocated does not matter.
const SCREENS: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let stream = stream();
    let figure = match words[..] {
        ["time", "ours"] => time::<pty::Screen>(&stream),
        ["time", "alacritty"] => time::<Alacritty>(&stream),
        ["time", "vt100"] => time::<vt100::Parser>(&stream),
        ["memory", "ours"] => memory::<pty::Screen>(&stream)?,
        ["memory", "alacritty"] => memory::<Alacritty>(&stream)?,
        ["memory", "vt100"] => memory::<vt100::Parser>(&stream)?,
        _ => return Err("usage: throughput time|memory ours|alacritty|vt100".into()),
    };
    println!("{figure:.3}");
    Ok(())
}

/// A terminal without history.
trait Model {
    fn new() -> Self;
    fn feed(&mut self, bytes: &[u8]);
}

impl Model for pty::Screen {
    fn new() -> Self {
        Self::new(ROWS, COLUMNS)
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.feed(bytes);
        // Somebody has to take them.
        black_box(self.answers());
    }
}

impl Model for vt100::Parser {
    fn new() -> Self {
        let size = |n: u16| NonZero::new(n).unwrap_or(NonZero::<u16>::MIN);
        Self::new(size(ROWS), size(COLUMNS), 0)
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.process(bytes);
    }
}

struct Alacritty {
    term: Term<VoidListener>,
    parser: Processor,
}

struct Size;

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        ROWS.into()
    }

    fn screen_lines(&self) -> usize {
        ROWS.into()
    }

    fn columns(&self) -> usize {
        COLUMNS.into()
    }
}

impl Model for Alacritty {
    fn new() -> Self {
        let config = Config {
            scrolling_history: 0,
            ..Config::default()
        };
        Self {
            term: Term::new(config, &Size, VoidListener),
            parser: Processor::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.term, bytes);
    }
}

fn time<M: Model>(stream: &[u8]) -> f64 {
    let mut model = M::new();
    let begun = Instant::now();
    stream.chunks(PIECE).for_each(|piece| model.feed(piece));
    let taken = begun.elapsed();
    black_box(model);
    taken.as_secs_f64() * 1e3
}

fn memory<M: Model>(stream: &[u8]) -> Result<f64, Box<dyn Error>> {
    let before = private()?;
    let mut models: Vec<M> = (0..SCREENS).map(|_| M::new()).collect();
    let pieces = stream.chunks(PIECE);
    models
        .iter_mut()
        .zip(pieces)
        .for_each(|(model, piece)| model.feed(piece));
    let taken = private()? - before;
    black_box(models);
    Ok(taken / f64::from(u16::try_from(SCREENS)?))
}

/// How much memory this process has for itself, in KB.
fn private() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number
        .ok_or("smaps_rollup says nothing of Private_Dirty")?
        .parse()?)
}

/// What consoles see: a log, listings in colours, programs that fill the screen, and other scripts.
fn stream() -> Vec<u8> {
    let words = "the kernel started unit with device eth0 up at state and found journal of size root file system ready";
    let words: Vec<&str> = words.split(' ').collect();
    let others = [
        "Grüße aus Köln ",
        "日本語のテキスト ",
        "привет мир ",
        "│ ─ ┌ ┐ ",
    ];
    let mut dice: u64 = 1;
    let mut roll = |end: usize| -> usize {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(dice >> 33).unwrap_or(0) % end
    };
    let mut text = String::with_capacity(BYTES + 1024);
    while text.len() < BYTES {
        let kind = roll(10);
        let (row, column, colour) = (roll(25) + 1, roll(80) + 1, roll(8) + 30);
        let written = match kind {
            0..5 => write!(text, "[{:5}.{:06}] ", roll(99_999), roll(999_999)),
            5..7 => write!(
                text,
                "\x1b[0m\x1b[01;34m{}\x1b[0m  \x1b[01;{colour}mls\x1b[0m  ",
                roll(999)
            ),
            7 => write!(
                text,
                "\x1b[{row};{column}H\x1b[{colour};{}m\x1b[K",
                colour + 10
            ),
            8 => write!(text, "{}", pick(&others, roll(others.len())).repeat(4)),
            _ => write!(text, "\x1b[38;5;{}m", roll(256)),
        };
        written.unwrap_or_default();
        for _ in 0..roll(12) + 3 {
            text.push_str(pick(&words, roll(words.len())));
            text.push(' ');
        }
        text.push_str(if kind == 9 { "\x1b[39m\r\n" } else { "\r\n" });
    }
    text.into_bytes()
}

fn pick<'a>(of: &[&'a str], index: usize) -> &'a str {
    of.get(index).copied().unwrap_or_default()
}
