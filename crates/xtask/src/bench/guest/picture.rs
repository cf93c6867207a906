//! The times as a picture for README.md: bars, each as long as its share of what QEMU takes (cargo xtask bench guest).

use std::fmt::Write as _;

use anyhow::Context as _;

use super::machine::{DEBIAN_UNBOUND, NATIVE, OURS, QEMU};
use super::record::Record;
use super::work::{self, Part};

/// What is compared: machine, label, colour.
const BARS: [(&str, &str, &str); 4] = [
    (QEMU, "QEMU without KVM", "#8c959f"),
    (DEBIAN_UNBOUND, "User Mode Linux as in Debian 12", "#bf8700"),
    (OURS, "UMLMON with its own kernel", "#1a7f37"),
    (NATIVE, "without a virtual machine", "#0969da"),
];

/// The parts of it, in this order.
const PARTS: [&str; 6] = ["systemd", "fork", "gcc", "make", "python", "write"];

const WIDTH: u32 = 760;
const LEFT: u32 = 160;
/// As long as QEMU's bar; longer ones are cut.
const FULL: f64 = 460.0;
const LONGEST: f64 = 530.0;
const BAR: u32 = 11;
const GAP: u32 = 12;
const TOP: u32 = 44;

pub(super) fn of(record: &Record) -> anyhow::Result<String> {
    let mut bars = String::new();
    let mut y = TOP;
    for name in PARTS {
        let part = work::parts().find(|part| part.name == name);
        y = group(&mut bars, y, part.context("no such part")?, record)?;
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#24292f\">\n\
         <title>Times of a Debian guest, in seconds</title>\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#ffffff\"/>\n"
    );
    let mut x = 16;
    for (_, label, colour) in BARS {
        writeln!(
            text,
            "<rect x=\"{x}\" y=\"14\" width=\"11\" height=\"11\" fill=\"{colour}\"/>"
        )?;
        writeln!(text, "<text x=\"{}\" y=\"23\">{label}</text>", x + 16)?;
        x += 40 + 6 * u32::try_from(label.len())?;
    }
    Ok(text + &bars + "</svg>\n")
}

/// The bars of one part; returns where the next ones begin.
fn group(text: &mut String, top: u32, part: &Part, record: &Record) -> anyhow::Result<u32> {
    let full = record
        .median(QEMU, part.name)
        .context("QEMU was not measured")?;
    let mut y = top;
    for (machine, _, colour) in BARS {
        let Some(seconds) = record.median(machine, part.name) else {
            continue;
        };
        let width = (seconds / full * FULL).clamp(1.0, LONGEST);
        writeln!(
            text,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.0}\" height=\"{BAR}\" fill=\"{colour}\"/>"
        )?;
        let (x, base) = (f64::from(LEFT) + width + 5.0, y + BAR - 2);
        writeln!(
            text,
            "<text x=\"{x:.0}\" y=\"{base}\" font-size=\"10\">{seconds:.1} s</text>"
        )?;
        y += BAR + 1;
    }
    let (x, middle) = (LEFT - 10, u32::midpoint(top, y) + 3);
    writeln!(
        text,
        "<text x=\"{x}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
        part.title
    )?;
    Ok(y + GAP)
}
