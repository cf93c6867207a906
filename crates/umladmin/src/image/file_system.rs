//! The file system of an image, made of a tree of files without a mount (umladmin).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use client::signals::Signals;
use monitors::furnish::{MAKE_EXT4, WITHOUT_JOURNAL};

use super::apart::{self, Stopped, Work};
use super::unpack::TREE;

/// The image, in the directory in which it is built.
pub(super) const IMAGE: &str = "image";

/// What the file system is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Its least size in bytes; it is larger if its files need that.
    pub(super) size: u64,
    /// Whether changes outlast a crash of the guest; it takes some room.
    pub(super) journal: bool,
}

/// What files take.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    bytes: u64,
    files: u64,
}

/// Makes the file system of the tree in `directory`.
pub(super) fn make(
    directory: &Path,
    shape: Shape,
    signals: &Signals,
    step: &mut dyn FnMut(),
) -> Result<(), Stopped> {
    let tree = directory.join(TREE);
    let sum = measure(&tree).map_err(|error| format!("cannot look at the files: {error}"))?;
    // For directories, the tables of the file system, and a guest that writes something.
    let needed = sum.bytes + sum.bytes / 4 + sum.files * 512 + (32 << 20);
    let size = shape.size.max(needed).next_multiple_of(1 << 20);
    let mut words: Vec<OsString> = MAKE_EXT4.map(OsString::from).into();
    if !shape.journal {
        words.extend(WITHOUT_JOURNAL.map(OsString::from));
    }
    // As many as usual, or as are needed.
    let files = (size / 16384).max(sum.files + sum.files / 4 + 1024);
    words.extend(["-N".into(), files.to_string().into()]);
    words.extend(["-L", "umlroot", "-d", TREE, IMAGE].map(OsString::from));
    words.push(format!("{}M", size >> 20).into());
    let work = Work::Execute {
        words: &words,
        network: false,
    };
    let made = apart::run(directory, &work, &mut io::empty(), signals, &mut |_| step());
    made.map(drop).map_err(|stopped| match stopped {
        Stopped::Failed(why) => Stopped::Failed(format!(
            "cannot make the file system (mke2fs, package e2fsprogs): {why}"
        )),
        stopped => stopped,
    })
}

/// Adds up the files of a tree that nobody changes.
fn measure(tree: &Path) -> io::Result<Sum> {
    let mut sum = Sum::default();
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            sum.files += 1;
            sum.bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(sum)
}
