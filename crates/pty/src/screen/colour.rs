//! The colours of the console: of its hardware, of SGR, of 256 and of true ones. Part of the screen model in the umlmon
//! daemon.

/// The colours of SGR in the order of the hardware, which counts blue, green, red.
pub(super) const HARDWARE: [u8; 16] = [0, 4, 2, 6, 1, 5, 3, 7, 8, 12, 10, 14, 9, 13, 11, 15];

/// The colour of the hardware for one of SGR; black for what is none.
pub(super) fn hardware(colour: u32) -> u8 {
    HARDWARE.get(colour as usize).copied().unwrap_or(0)
}

/// The low byte, which is all the kernel takes of a colour.
pub(super) fn low(number: u32) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}

/// What the kernel takes a colour of 256 for; it does the same with what is none.
pub(super) fn from_256(index: u32) -> [u8; 3] {
    match index {
        0..16 => {
            let (on, off) = if index < 8 { (0xaa, 0) } else { (0xff, 0x55) };
            [1, 2, 4].map(|bit| if index & bit == 0 { off } else { on })
        }
        16..232 => {
            let cube = index - 16;
            [cube / 36, cube / 6 % 6, cube % 6].map(|part| low(part * 255 / 6))
        }
        _ => [low(index.wrapping_mul(10).wrapping_sub(2312)); 3],
    }
}

/// The colour of 256 that comes nearest, of the cube or of the greys.
pub(super) fn nearest(rgb: [u8; 3]) -> u8 {
    let step = |part: u8| match part {
        0..48 => 0,
        48..115 => 1,
        _ => (part - 35) / 40,
    };
    let [r, g, b] = rgb.map(step);
    let cube = 16 + 36 * r + 6 * g + b;
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    let average = rgb.map(u32::from).iter().sum::<u32>() / 3;
    let grey = low(average.saturating_sub(3) / 10).min(23);
    let distance = |other: [u8; 3]| -> u32 {
        let pairs = rgb.into_iter().zip(other);
        pairs.map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    if distance([8 + 10 * grey; 3]) < distance([r, g, b].map(level)) {
        232 + grey
    } else {
        cube
    }
}

/// The parameters of SGR for an attribute, by colours alone.
pub(super) fn sgr_of_attribute(attribute: u8) -> String {
    let mut sgr = format!("0;{}", sgr_of_colours(attribute));
    if attribute & 0x08 != 0 {
        sgr += ";1";
    }
    if attribute & 0x80 != 0 {
        sgr += ";5";
    }
    sgr
}

/// The parameters of SGR for the lower three bits of foreground and background.
pub(super) fn sgr_of_colours(attribute: u8) -> String {
    let number = |colour: u8| HARDWARE.iter().position(|c| *c == colour & 7).unwrap_or(0);
    format!("{};{}", 30 + number(attribute), 40 + number(attribute >> 4))
}
