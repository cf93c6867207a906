//! Headers of copy-on-write images, which arch/um/drivers/cow_user.c of the kernel defines: pure functions over bytes
//! (umlmon, in the process that works on disks).
//!
//! An image is a header, then a bitmap with a bit for each sector, then the sectors, all of them, as a sparse file. A
//! set bit says that the sector is in the image; the others are those of the backing file, which the header names. The
//! kernel opens any file that is named there, so this program only uses the name as text.
//!
//! ```text
//! version 1            version 2             version 3             version 3 of old 64-bit programs
//! 0 magic "MOOO"       0 magic "OOOM"        0 magic "OOOM"        0 magic "OOOM"
//! 4 version            4 version             4 version             4 version
//! 8 backing [256]      8 backing [4096]      8 modified            8 modified, then 4 bytes of padding
//! 264 modified         4104 modified         12 size (8 bytes)     16 size (8 bytes)
//! 268 size (8 bytes)   4108 size (8 bytes)   20 sector             24 sector
//! 276 sector           4116 sector           24 alignment          28 alignment
//!                                            28 format             32 format
//!                                            32 backing [4096]     36 backing [4096]
//! ```
//!
//! Numbers have 4 bytes, and are big-endian; those of version 1 have the order of the host.

use config::DiskName;

/// Bytes of a header that is written, and of the smallest one of version 3.
pub const HEADER_BYTES: usize = 4128;
/// Bytes of the longest header of any version: no more is read.
pub const READ_BYTES: usize = 4136;
/// Sector size of new images, in bytes; that of the ubd driver.
pub const SECTOR_BYTES: u32 = 512;
/// Alignment of bitmap and data in new images, in bytes; that of uml_mkcow.
pub const ALIGNMENT: u32 = 4096;
/// The smallest backing file, in bytes: the driver reads bits of the bitmap by words, and fails for smaller ones.
pub const MIN_BACKING: u64 = 65536;

const NAME_BYTES: usize = 4096;
/// Bytes of a name that are shown at most.
const SHOWN: usize = 255;
/// The limit of the `int` in which the driver keeps its offset of the data.
const MAX_DATA_OFFSET: u64 = i32::MAX as u64;

/// Why a file cannot be used as a copy-on-write image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Less than a header.
    #[error("it is too short for the header of a copy-on-write image")]
    Short,
    /// Another kind of file.
    #[error("it does not begin with the header of a copy-on-write image")]
    Magic,
    /// Version 1 has the byte order of the host.
    #[error("it was made on a host with another byte order")]
    ByteOrder,
    /// Not 1, 2 or 3.
    #[error("the version in its header is {0}, but only 1, 2 and 3 are known")]
    Version(u32),
    /// The name does not end, or there is none.
    #[error("its header names no backing file")]
    NoName,
    /// For a header that is to be written.
    #[error("the name of the backing file is longer than the header has room for")]
    LongName,
    /// Zero, not a power of two, or enormous.
    #[error("the sector size in its header is {0}, but must be a power of two from 512 to 65536")]
    Sector(u32),
    /// Zero, not a power of two, or enormous.
    #[error("the alignment in its header is {0}, but must be a power of two from 1 to 1048576")]
    Alignment(u32),
    /// Zero, or more than the driver can address.
    #[error("the size in its header is {0} bytes, which the ubd driver cannot use")]
    Size(u64),
    /// Versions 1 and 2 omit up to seven sectors when they compute the bitmap's length.
    #[error("it is of version {0}, whose bitmap has no room for the last sectors of this size")]
    LastSectors(u32),
    /// It was cut off.
    #[error("it has {found} bytes, but according to its header {promised}")]
    Truncated {
        /// Bytes of the file.
        found: u64,
        /// Bytes that the header, the bitmap and the data need.
        promised: u64,
    },
}

/// The layout of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Version 1.
    One,
    /// Version 2.
    Two,
    /// Version 3: the one that is written.
    Three,
    /// Version 3 as 64-bit programs wrote it before 2006.
    Padded,
}

impl Layout {
    /// The number in the header.
    pub fn version(self) -> u32 {
        match self {
            Layout::One => 1,
            Layout::Two => 2,
            Layout::Three | Layout::Padded => 3,
        }
    }

    /// Bytes of the header.
    fn bytes(self) -> u64 {
        match self {
            Layout::One => 280,
            Layout::Two => 4120,
            Layout::Three => HEADER_BYTES as u64,
            Layout::Padded => READ_BYTES as u64,
        }
    }
}

/// The contents of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the following was found.
    pub layout: Layout,
    /// The backing file as the VM sees it, without the NUL at the end. Hostile: see [`Header::shown_backing`].
    pub backing: Vec<u8>,
    /// When the backing file was last modified: the low 32 bits of the seconds since 1970.
    pub modified: u32,
    /// Bytes of the backing file, and of the disk.
    pub size: u64,
    /// Bytes of a sector.
    pub sector: u32,
    /// Bytes to multiples of which bitmap and data are aligned.
    pub alignment: u32,
    /// The kind of bitmap: only 0 is defined. The kernel ignores it, and so do we.
    pub format: u32,
}

/// Where the parts of an image are, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Offset of the bitmap: bit `n % 8`, from the lowest, of byte `n / 8` belongs to sector `n`.
    pub bitmap: u64,
    /// Bytes of the bitmap.
    pub bitmap_bytes: u64,
    /// Offset of the first sector.
    pub data: u64,
    /// Bytes of the whole image.
    pub length: u64,
}

impl Header {
    /// The header of a new image.
    pub fn new(backing: &DiskName, modified: u32, size: u64) -> Header {
        Header {
            layout: Layout::Three,
            backing: backing.as_str().into(),
            modified,
            size,
            sector: SECTOR_BYTES,
            alignment: ALIGNMENT,
            format: 0,
        }
    }

    /// Reads a header from the first bytes of an image, [`READ_BYTES`] if it has so many.
    ///
    /// # Errors
    /// [`Unusable`]; a header that is returned describes an image that can exist.
    pub fn parse(bytes: &[u8]) -> Result<Header, Unusable> {
        let header = match bytes.get(..4) {
            Some(b"OOOM") => parse_big_endian(bytes)?,
            Some(b"MOOO") => parse_little_endian(bytes)?,
            Some(_) => return Err(Unusable::Magic),
            None => return Err(Unusable::Short),
        };
        header.geometry()?;
        Ok(header)
    }

    /// Where the parts of the image are.
    ///
    /// # Errors
    /// [`Unusable`], if the numbers in the header do not describe an image.
    pub fn geometry(&self) -> Result<Geometry, Unusable> {
        if !self.sector.is_power_of_two() || !(512..=65536).contains(&self.sector) {
            return Err(Unusable::Sector(self.sector));
        }
        if !self.alignment.is_power_of_two() || self.alignment > 1 << 20 {
            return Err(Unusable::Alignment(self.alignment));
        }
        let too_large = || Unusable::Size(self.size);
        let sectors = self.size.div_ceil(self.sector.into());
        let align = |offset: u64| offset.checked_next_multiple_of(self.alignment.into());
        let bitmap = match self.layout {
            Layout::One | Layout::Two if sectors % 8 != 0 => {
                return Err(Unusable::LastSectors(self.layout.version()));
            }
            Layout::One | Layout::Two => Some(self.layout.bytes()),
            Layout::Three | Layout::Padded => align(self.layout.bytes()),
        }
        .ok_or_else(too_large)?;
        let bitmap_bytes = sectors.div_ceil(8);
        let data = bitmap.checked_add(bitmap_bytes).and_then(align);
        let data = data.filter(|&offset| self.size > 0 && offset <= MAX_DATA_OFFSET);
        let data = data.ok_or_else(too_large)?;
        Ok(Geometry {
            bitmap,
            bitmap_bytes,
            data,
            length: data.checked_add(self.size).ok_or_else(too_large)?,
        })
    }

    /// The bytes of a header of version 3.
    ///
    /// # Errors
    /// [`Unusable::LongName`].
    pub fn encode(&self) -> Result<Vec<u8>, Unusable> {
        if self.backing.len() >= NAME_BYTES {
            return Err(Unusable::LongName);
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(b"OOOM");
        bytes.extend(3_u32.to_be_bytes());
        bytes.extend(self.modified.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(self.sector.to_be_bytes());
        bytes.extend(self.alignment.to_be_bytes());
        bytes.extend(self.format.to_be_bytes());
        bytes.extend(&self.backing);
        bytes.resize(HEADER_BYTES, 0);
        Ok(bytes)
    }

    /// The name of the backing file for messages: printable ASCII, of limited length.
    pub fn shown_backing(&self) -> String {
        let shown = self.backing.get(..SHOWN).unwrap_or(&self.backing);
        let end = if shown.len() < self.backing.len() {
            "..."
        } else {
            ""
        };
        format!("{}{end}", shown.escape_ascii())
    }

    /// The backing file, if its name is a valid name of a disk.
    pub fn backing_disk(&self) -> Option<DiskName> {
        std::str::from_utf8(&self.backing).ok()?.parse().ok()
    }

    /// Whether the backing file is this one, however it is written: the kernel runs in `/`, and would find it by
    /// `disks/a.dsk` or `/disks/../disks/./a.dsk`.
    pub fn is_backed_by(&self, disk: &DiskName) -> bool {
        let mut path: Vec<&[u8]> = Vec::new();
        for part in self.backing.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(path.pop()),
                name => path.push(name),
            }
        }
        let wanted = disk.as_str().split('/').skip(1).map(str::as_bytes);
        wanted.eq(path.iter().copied())
    }
}

impl Geometry {
    /// Compares with the length of the file, in bytes. A longer file is accepted.
    ///
    /// # Errors
    /// [`Unusable::Truncated`].
    pub fn check_length(&self, found: u64) -> Result<(), Unusable> {
        let promised = self.length;
        if found < promised {
            return Err(Unusable::Truncated { found, promised });
        }
        Ok(())
    }
}

fn parse_big_endian(bytes: &[u8]) -> Result<Header, Unusable> {
    let number = |at| Ok(u32::from_be_bytes(array(bytes, at)?));
    let long = |at| Ok(u64::from_be_bytes(array(bytes, at)?));
    match number(4)? {
        1 => Err(Unusable::ByteOrder),
        2 => Ok(Header {
            layout: Layout::Two,
            modified: number(4104)?,
            size: long(4108)?,
            sector: number(4116)?,
            alignment: number(4116)?,
            format: 0,
            backing: name(bytes, 8, NAME_BYTES)?,
        }),
        3 => {
            // The name of the one begins where the other has its format, which is 0.
            let padded = number(32)? == 0;
            let (layout, shift) = if padded {
                (Layout::Padded, 4)
            } else {
                (Layout::Three, 0)
            };
            Ok(Header {
                layout,
                modified: number(8)?,
                size: long(12 + shift)?,
                sector: number(20 + shift)?,
                alignment: number(24 + shift)?,
                format: number(28 + shift)?,
                backing: name(bytes, 32 + shift, NAME_BYTES)?,
            })
        }
        other => Err(Unusable::Version(other)),
    }
}

fn parse_little_endian(bytes: &[u8]) -> Result<Header, Unusable> {
    let number = |at| Ok(u32::from_le_bytes(array(bytes, at)?));
    match number(4)? {
        1 => Ok(Header {
            layout: Layout::One,
            modified: number(264)?,
            size: u64::from_le_bytes(array(bytes, 268)?),
            sector: number(276)?,
            alignment: number(276)?,
            format: 0,
            backing: name(bytes, 8, 256)?,
        }),
        other => Err(Unusable::Version(other)),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Unusable> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or(Unusable::Short)
}

/// The bytes that the kernel has written behind the NUL are ignored.
fn name(bytes: &[u8], at: usize, room: usize) -> Result<Vec<u8>, Unusable> {
    let field = at.checked_add(room).and_then(|end| bytes.get(at..end));
    let field = field.ok_or(Unusable::Short)?;
    match field.iter().position(|&byte| byte == 0) {
        Some(length) if length > 0 => Ok(field.iter().copied().take(length).collect()),
        _ => Err(Unusable::NoName),
    }
}

#[cfg(test)]
#[path = "cow/tests.rs"]
mod tests;
