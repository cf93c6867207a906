//! By which of its drivers a User Mode Linux kernel is connected to a network, and which drivers it has, as found in
//! its file. Nothing is executed for that: the file may belong to any user. Used by confined
//! processes of the monitor and of `umladmin`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// How the help of a kernel begins for each driver; the text is in the file as it is.
const VEC: &[u8] = b"vec[0-9]+:<option>=";
const ETH: &[u8] = b"eth[0-9]+=<transport>,";
/// The same for an option that every kernel has.
const HELP: &[u8] = b"uml_dir=<directory>";

/// How much is read at a time.
const PIECE: usize = 256 << 10;

/// By which of its drivers a kernel is connected with a tap. The configured one is `config::Transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The vector driver, which attaches to the tap.
    Vec,
    /// The driver of former kernels, which attaches to the tap.
    Tuntap,
    /// The vector driver with an open tap that it inherits.
    Fd,
}

impl Driver {
    /// What the guest calls the interface of this number.
    #[must_use]
    pub fn guest_if(self, number: u8) -> String {
        match self {
            Driver::Tuntap => format!("eth{number}"),
            Driver::Vec | Driver::Fd => format!("vec{number}"),
        }
    }

    /// Whether the kernel opens the tap itself, for which it needs `/dev/net/tun` and the network of the host.
    #[must_use]
    pub fn attaches(self) -> bool {
        match self {
            Driver::Vec | Driver::Tuntap => true,
            Driver::Fd => false,
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Vec => "vec",
            Driver::Tuntap => "tuntap",
            Driver::Fd => "fd",
        })
    }
}

/// The network drivers of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drivers {
    /// `vecN:`, the vector driver.
    pub vec: bool,
    /// `ethN=`, the driver of former kernels.
    pub eth: bool,
}

impl Drivers {
    /// Searches for them in a kernel's file.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn of(file: &File) -> io::Result<Drivers> {
        let [vec, eth] = search(file, [VEC, ETH])?;
        Ok(Drivers { vec, eth })
    }
}

/// Whether this is the file of a User Mode Linux kernel, with or without networks: whether it has the kernel's help.
///
/// # Errors
/// Those of read(2).
pub fn is_uml(file: &File) -> io::Result<bool> {
    let [found] = search(file, [HELP])?;
    Ok(found)
}

/// Which of these texts are in a file.
fn search<const N: usize>(mut file: &File, texts: [&[u8]; N]) -> io::Result<[bool; N]> {
    let mut found = [false; N];
    let overlap = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    let mut buffer = vec![0; overlap + PIECE];
    // The end of each piece is kept at the beginning, for a text that continues in the next piece.
    let mut kept = 0;
    loop {
        let read = file.read(buffer.get_mut(kept..).unwrap_or_default())?;
        let filled = kept + read;
        let piece = buffer.get(..filled).unwrap_or_default();
        for (found, text) in found.iter_mut().zip(texts) {
            *found |= contains(piece, text);
        }
        if read == 0 || found.iter().all(|found| *found) {
            return Ok(found);
        }
        kept = filled.min(overlap);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// Most bytes are excluded by the bracket, which is rare in programs.
fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let bracket = |byte: &u8| matches!(byte, b'[' | b'<');
    let before = text.iter().position(bracket).unwrap_or(0);
    let brackets = (0..).zip(bytes).filter(|(_, byte)| bracket(byte));
    brackets
        .filter_map(|(at, _): (usize, _)| bytes.get(at.checked_sub(before)?..))
        .any(|rest| rest.starts_with(text))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    fn of(content: &[u8]) -> Drivers {
        Drivers::of(&file(content)).unwrap()
    }

    #[test]
    fn a_kernel_is_known_by_its_help() {
        assert!(is_uml(&file(b"\0uml_dir=<directory>\n    The location")).unwrap());
        assert!(!is_uml(&file(b"uml_dir=/tmp [vec[0-9]+:<option>=")).unwrap());
    }

    #[test]
    fn drivers_are_found_wherever_their_help_is() {
        assert_eq!(of(b""), Drivers::default());
        for at in [0, 1, PIECE - 5, PIECE, PIECE + 10, PIECE + 17, 3 * PIECE] {
            let mut content = vec![b'['; at];
            content.extend_from_slice(VEC);
            content.extend_from_slice(b"<value>");
            let found = of(&content);
            assert!(found.vec && !found.eth, "{at}");
            content.extend_from_slice(ETH);
            assert!(of(&content).eth, "{at}");
        }
    }
}
