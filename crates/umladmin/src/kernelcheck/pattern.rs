//! The contents of the disks in a trial, known to both `kernelcheck` and its guest (umladmin, and in the guest).

/// The disks in a trial: their size, where the guest changes them, and how much, in bytes.
pub(crate) const SIZE: usize = 1 << 20;
pub(crate) const AT: u64 = 512 << 10;
pub(crate) const CHANGED: usize = 64 << 10;

/// Their contents at first, and what the guest writes.
pub(crate) const FLAT_SEED: u8 = 1;
pub(crate) const NEW_FLAT_SEED: u8 = 2;
pub(crate) const COW_SEED: u8 = 3;
pub(crate) const NEW_COW_SEED: u8 = 4;

/// Bytes from which the offset and the pattern can be seen.
pub(crate) fn pattern(seed: u8, size: usize) -> Vec<u8> {
    let word = |n: usize| {
        n.wrapping_mul(2_654_435_761)
            .to_le_bytes()
            .map(|byte| byte ^ seed)
    };
    (0..size.div_ceil(8)).flat_map(word).take(size).collect()
}
