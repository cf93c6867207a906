//! The items of a stream, and how they are written: a length of two bytes, and postcard's encoding. The bytes of files
//! follow their items as they are.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How deep directories may be nested: each is open while what is in it is sent.
pub(crate) const MAX_DEPTH: usize = 200;

/// How many bytes one [`Item::Data`] has at most.
pub(crate) const MAX_DATA: usize = 32 << 10;

/// How many bytes an item has at most: a name, and the target of a link.
const MAX_ITEM: usize = 255 + 4096 + 64;

/// One thing that is said of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Item {
    /// There are about so many bytes in all.
    Expect(u64),
    /// A directory. What follows is in it.
    Directory(Name, Attributes),
    /// The directory is complete.
    Leave,
    /// A file of at most this size. What follows are its data.
    File(Name, Attributes, u64),
    /// So many bytes for this place of the file. What is not sent is a hole.
    Data { offset: u64, length: u32 },
    /// The file is complete, with this size.
    End(u64),
    /// A symbolic link, and where it leads.
    Link(Name, Attributes, Vec<u8>),
    /// Everything was sent.
    Done,
}

/// What is kept of a file beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// The permissions of owner, group and others.
    pub(crate) mode: u32,
    /// When it was changed, since 1970, and nanoseconds after that.
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// The name of an entry of a directory. That of the root of the tree is empty, as the receiver's side chooses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub(crate) struct Name(Vec<u8>);

impl Name {
    pub(crate) fn root() -> Name {
        Name(Vec::new())
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_os(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = &'static str;

    fn try_from(name: Vec<u8>) -> Result<Name, &'static str> {
        let is_path = name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0);
        match is_path || name.len() > 255 {
            true => Err("a name that is none"),
            false => Ok(Name(name)),
        }
    }
}

impl From<Name> for Vec<u8> {
    fn from(name: Name) -> Vec<u8> {
        name.0
    }
}

/// Writes an item.
pub(crate) fn write(out: &mut impl Write, item: &Item) -> Result<(), Error> {
    let bytes = postcard::to_stdvec(item).map_err(|_| Error::Invalid("an item"))?;
    let length = u16::try_from(bytes.len()).map_err(|_| Error::Invalid("an item"))?;
    out.write_all(&length.to_le_bytes())
        .and_then(|()| out.write_all(&bytes))
        .map_err(Error::Stream)
}

/// Reads an item.
pub(crate) fn read(from: &mut impl Read) -> Result<Item, Error> {
    let mut length = [0; 2];
    from.read_exact(&mut length).map_err(Error::Stream)?;
    let length = usize::from(u16::from_le_bytes(length));
    if length > MAX_ITEM {
        return Err(Error::Invalid("an item that is too long"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).map_err(Error::Stream)?;
    match postcard::take_from_bytes(&bytes) {
        Ok((item, [])) => Ok(item),
        _ => Err(Error::Invalid("an item that is none")),
    }
}
