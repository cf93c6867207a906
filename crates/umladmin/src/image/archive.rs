//! `umladmin image from-tar`: an image of the files of an archive (umladmin).

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;

use super::builder::Part;

/// How archives that are compressed begin, and the program that decompresses them.
const COMPRESSIONS: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
];
/// How many bytes are looked at.
const HEAD: u64 = 6;

/// The archive in a file, which may be compressed; a pipe is read to its end.
pub(super) fn part(path: &Path) -> Result<Part<'static>, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    if fs::metadata(path).map_err(cannot)?.is_dir() {
        let path = path.display();
        return Err(format!(
            "{path} is a directory; make an archive of it first (tar -C {path} -cf FILE .)"
        ));
    }
    let file = File::open(path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let what = path.display().to_string();
    compressed(what.clone(), Box::new(file), size, false)
        .map_err(|error| format!("cannot read {what}: {error}"))
}

/// An archive whose first bytes say how it is compressed.
pub(super) fn compressed<'a>(
    what: String,
    mut bytes: Box<dyn Read + Send + 'a>,
    size: u64,
    is_layer: bool,
) -> io::Result<Part<'a>> {
    let mut head = Vec::new();
    bytes.by_ref().take(HEAD).read_to_end(&mut head)?;
    let known = COMPRESSIONS
        .iter()
        .find(|(magic, _)| head.starts_with(magic));
    Ok(Part {
        what,
        size,
        decompressor: known.map(|(_, program)| *program),
        bytes: Box::new(Cursor::new(head).chain(bytes)),
        is_layer,
    })
}
