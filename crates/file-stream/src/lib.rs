//! A file or a tree as a stream of bytes: [`send()`] makes it, and [`receive()`] makes the tree again below one
//! directory. Runs in umlwatch, and in the guest in umlguest.
//!
//! The two sides do not trust each other. A tree is told by entering and leaving directories, so every name is a single
//! component, which is checked; the receiver opens it below the directory that it holds open, and follows no link. What
//! it writes has a temporary name until it is whole. There is no archive format that says this: tar has paths, and one
//! has to keep the times of all directories until its end.

mod item;
mod receive;
mod remove;
mod send;
mod target;

use std::io;
use std::path::PathBuf;

pub use receive::receive;
pub use send::send;
pub use target::{Target, name_of};

/// What a caller may show while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// There are about so many bytes in all.
    Expected(u64),
    /// So many bytes of a file more were sent or received; those of a hole, too.
    Bytes(u64),
    /// This is neither a file nor a directory nor a symbolic link, and is not sent.
    LeftOut(&'a std::path::Path),
}

/// Why a tree was not sent or received. Nothing of it has its name then, but what was whole in directories that were
/// there before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream ends too early, or cannot be read or written.
    #[error("the stream ended too early: {0}")]
    Stream(#[source] io::Error),
    /// A call failed for a file of this side.
    #[error("cannot {verb} {}: {why}", .path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// Of this side.
        path: PathBuf,
        /// The reason.
        why: io::Error,
    },
    /// The tree cannot be received here.
    #[error("{}: {why}", .path.display())]
    Unfit {
        /// Of this side.
        path: PathBuf,
        /// In words.
        why: &'static str,
    },
    /// The other side does not keep to the format.
    #[error("what was received is not valid: {0}")]
    Invalid(&'static str),
}

/// A failed call for a file, as an error.
fn cannot(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Error {
    let path = path.into();
    move |why| Error::File {
        verb,
        path,
        why: why.into(),
    }
}

#[cfg(test)]
mod tests;
