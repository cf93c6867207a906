//! Data and holes, and both ways to copy.

use super::*;
use crate::work::workplace::Facts;
use crate::work::{Entry, Watch};

struct Silent;

impl Watch for Silent {
    fn progress(&mut self, _: u64, _: u64) -> bool {
        true
    }

    fn found(&mut self, _: Entry) {}
}

fn image<'a>(disk: &'a DiskName, file: &File) -> Image<'a> {
    Image {
        disk,
        facts: Facts::of(&rustix::fs::fstat(file).unwrap()),
        file: file.try_clone().unwrap(),
    }
}

#[test]
fn extents_cover_every_part_once() {
    let disk = "/disks/a.dsk".parse().unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(16 << 20).unwrap();
    for n in [1, 2, 5] {
        file.write_all_at(&[1; 100], n << 20).unwrap();
    }
    let image = image(&disk, &file);
    let mut extents = Extents::of(&image);
    for part in [
        0..16 << 20,
        1 << 20..5 << 20,
        777..778,
        3 << 20..(5 << 20) + 50,
        9..9,
    ] {
        let mut offset = part.start;
        extents
            .walk(part.clone(), &mut |extent| {
                assert_eq!(extent.part.start, offset);
                assert!(extent.part.end > offset);
                offset = extent.part.end;
                Ok(())
            })
            .unwrap();
        assert_eq!(offset, part.end);
    }
    // Behind the end of the file there is nothing, at any offset.
    extents
        .walk(20 << 20..21 << 20, &mut |extent| {
            assert!(!extent.is_data);
            Ok(())
        })
        .unwrap();
}

#[test]
fn both_ways_to_copy_do_the_same() {
    let disk = "/disks/a.dsk".parse().unwrap();
    let source = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    source.write_all_at(&bytes, 0).unwrap();
    let image = image(&disk, &source);
    for by_kernel in [true, false] {
        let copy = tempfile::tempfile().unwrap();
        let mut watch = Silent;
        let mut meter = Meter::new(&mut watch, 3_000_000).unwrap();
        let mut transfer = Transfer::new(&image, &disk, &copy);
        transfer.by_kernel = by_kernel;
        transfer.copy(1_000..3_000_000, 5_000, &mut meter).unwrap();
        let mut copied = vec![0; 2_999_000];
        copy.read_exact_at(&mut copied, 5_000).unwrap();
        assert!(copied == bytes[1_000..], "by kernel: {by_kernel}");
        let more = transfer.copy(2_999_999..3_000_001, 0, &mut meter);
        assert!(matches!(more, Err(Error::Changed { .. })));
    }
}
