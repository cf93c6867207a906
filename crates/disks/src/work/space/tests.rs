//! Free space on the host.

use super::*;
use crate::work::{Entry, Watch};

struct Silent;

impl Watch for Silent {
    fn progress(&mut self, _: u64, _: u64) -> bool {
        true
    }

    fn found(&mut self, _: Entry) {}
}

fn disk() -> DiskName {
    "/disks/a.dsk".parse().unwrap()
}

#[test]
fn the_reserve_is_kept() {
    let file = tempfile::tempfile().unwrap();
    check(&disk(), &file, 0).unwrap();
    let found = rustix::fs::fstatvfs(&file).unwrap();
    let free = found.f_bavail * found.f_frsize;
    let Error::Space {
        needed, reserve, ..
    } = check(&disk(), &file, free).unwrap_err()
    else {
        panic!("another error");
    };
    assert_eq!(needed, free);
    assert!(reserve > 0 && reserve <= RESERVE_BYTES);
    assert!(check(&disk(), &file, u64::MAX).is_err());
}

/// Where blocks cannot be allocated otherwise, the file has as many in the end, and the same content.
#[test]
fn zeros_instead_of_blocks() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(b"head", 0).unwrap();
    let end = 3 * ZEROS as u64 + 777;
    let mut watch = Silent;
    let mut meter = Meter::new(&mut watch, end).unwrap();
    fill_with_zeros(&disk(), &file, 4..end, &mut meter).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    assert_eq!(stat.st_size as u64, end);
    assert!(stat.st_blocks as u64 * 512 >= end);
    let mut head = [1; 8];
    file.read_exact_at(&mut head, 0).unwrap();
    assert_eq!(&head, b"head\0\0\0\0");
}

#[test]
fn allocated_behind_the_end() {
    let file = tempfile::tempfile().unwrap();
    let mut watch = Silent;
    let mut meter = Meter::new(&mut watch, 1 << 20).unwrap();
    allocate(&disk(), &file, 0..1 << 20, &mut meter).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    assert_eq!(stat.st_size, 0);
    assert!(stat.st_blocks >= 2048);
}
