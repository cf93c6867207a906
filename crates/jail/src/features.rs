//! What a User Mode Linux kernel can do, as found in its file: the texts of its `--help` are in there as they are.
//! Nothing is executed for that: the file may belong to any user. A confined process of the monitor, and umladmin.

use std::fs::File;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::elf_file::loaded_length;

/// What a kernel's file says of itself. It can lie: nothing but the VM itself may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Features {
    /// It is a User Mode Linux kernel: it has an option that all of them have.
    pub uml: bool,
    /// `vecN:`, the vector driver for networks.
    pub vec: bool,
    /// `ethN=`, the network drivers of former kernels.
    pub eth: bool,
    /// `seccomp=`, a faster way to run the programs of the guest.
    pub seccomp: bool,
    /// `ncpus=`, several processors.
    pub ncpus: bool,
    /// What a guest has flushed outlasts a power failure, also on copy-on-write images, of which nothing else is lost,
    /// either. Only kernels with our patches (`etc/kernel`) say so.
    pub flush: bool,
}

/// A text of the help, and what it is for.
type Text = (&'static [u8], fn(&mut Features) -> &mut bool);

const TEXTS: [Text; 6] = [
    (b"uml_dir=<directory>", |found| &mut found.uml),
    (b"vec[0-9]+:<option>=", |found| &mut found.vec),
    (b"eth[0-9]+=<transport>,", |found| &mut found.eth),
    (b"seccomp=<on/auto/off>", |found| &mut found.seccomp),
    (b"ncpus=<# of", |found| &mut found.ncpus),
    (b"ubd<n> carries out a flush", |found| &mut found.flush),
];

/// A text is looked for where one of these is: they are rare in programs, and each text has one.
const RARE: [u8; 2] = *b"[<";
/// How far the first of them may be from the beginning of a text.
const MAX_BEFORE: usize = 32;

/// How much is read at a time, and the longest text.
const PIECE: usize = 256 << 10;
const OVERLAP: usize = 64;

impl Features {
    /// Searches for them in a kernel's file, in the part that is loaded.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn of(file: &File) -> io::Result<Features> {
        let mut file = file.take(loaded_length(file).unwrap_or(u64::MAX));
        let mut found = Features::default();
        let mut buffer = vec![0; OVERLAP + PIECE];
        // The end of each piece is kept at the beginning, for a text that continues in the next piece.
        let mut kept = 0;
        loop {
            let read = file.read(buffer.get_mut(kept..).unwrap_or_default())?;
            if read == 0 {
                return Ok(found);
            }
            let filled = kept + read;
            found.search(buffer.get(..filled).unwrap_or_default());
            kept = filled.min(OVERLAP);
            buffer.copy_within(filled - kept..filled, 0);
        }
    }

    fn search(&mut self, piece: &[u8]) {
        let places = piece
            .iter()
            .enumerate()
            .filter(|(_, byte)| RARE.contains(byte));
        for (place, _) in places {
            for (text, feature) in TEXTS {
                let before = text
                    .iter()
                    .take(MAX_BEFORE)
                    .position(|byte| RARE.contains(byte));
                let begin = before.and_then(|before| place.checked_sub(before));
                let rest = begin
                    .and_then(|begin| piece.get(begin..))
                    .unwrap_or_default();
                *feature(self) |= rest.starts_with(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn of(content: &[u8]) -> Features {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        Features::of(&file).unwrap()
    }

    #[test]
    fn features_are_found_wherever_their_help_is() {
        assert_eq!(of(b""), Features::default());
        for (text, feature) in TEXTS {
            assert!(text.len() <= OVERLAP);
            let mut only = Features::default();
            *feature(&mut only) = true;
            for at in [0, 1, PIECE - 5, PIECE, PIECE + 10, PIECE + 17, 3 * PIECE] {
                let content = [&vec![b'['; at], text, b"<value>"].concat();
                assert_eq!(of(&content), only, "{at}");
            }
        }
    }
}
