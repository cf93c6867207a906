//! How large a disk can be (umlmon, the monitor and the process that works on disks).

use crate::cow::SECTOR_BYTES;

/// The smallest disk, in bytes: 1 MiB. The kernel has trouble with copy-on-write images of tiny ones.
pub const MIN_BYTES: u64 = 1 << 20;
/// The largest disk, in bytes: 16 TiB, the limit of ext4 with blocks of 4096 bytes.
pub const MAX_BYTES: u64 = 16 << 40;

/// Whether a disk can have so many bytes.
pub(super) fn is_possible(bytes: u64) -> bool {
    (MIN_BYTES..=MAX_BYTES).contains(&bytes) && bytes.is_multiple_of(u64::from(SECTOR_BYTES))
}
