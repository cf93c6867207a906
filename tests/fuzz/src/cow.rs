//! Headers of copy-on-write images, which lie in a directory of the VM's user.

use disks::cow::{Header, Layout};

/// Reads `data` as a header. What is accepted has parts in their order, and can be written again.
pub fn target(data: &[u8]) {
    let Ok(header) = Header::parse(data) else {
        return;
    };
    let geometry = header
        .geometry()
        .expect("an accepted header has a geometry");
    assert!(geometry.bitmap + geometry.bitmap_bytes <= geometry.data);
    assert!(geometry.data + header.size == geometry.length);
    assert!(geometry.bitmap_bytes >= header.size / u64::from(header.sector) / 8);
    assert!(geometry.check_length(geometry.length - 1).is_err());
    let shown = header.shown_backing();
    assert!(shown.len() < 1024 && !shown.contains(|c: char| !c.is_ascii() || c.is_ascii_control()));
    if let Some(disk) = header.backing_disk() {
        assert!(header.is_backed_by(&disk));
    }
    if header.layout == Layout::Three {
        let written = header.encode().expect("the name had room before");
        assert_eq!(Header::parse(&written).as_ref(), Ok(&header));
    }
}

/// A header of each layout. A short one is near to all of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let size = 24_u64 << 20;
    let name = b"/disks/root.dsk\0";
    let disk = "/disks/root.dsk".parse().expect("the name of a disk");
    let three = Header::new(&disk, 7, size).encode().expect("a short name");
    let padded = [&three[..8], &three[8..12], &[0; 4], &three[12..]].concat();
    let fields =
        |mtime: [u8; 4], size: [u8; 8], sector: [u8; 4]| [&mtime[..], &size, &sector].concat();
    let path = |room: usize| [&name[..], &vec![0; room - name.len()]].concat();
    let little = fields(
        7_u32.to_le_bytes(),
        size.to_le_bytes(),
        512_u32.to_le_bytes(),
    );
    let big = fields(
        7_u32.to_be_bytes(),
        size.to_be_bytes(),
        512_u32.to_be_bytes(),
    );
    let one = [&b"MOOO\x01\0\0\0"[..], &path(256), &little].concat();
    let two = [&b"OOOM\0\0\0\x02"[..], &path(4096), &big].concat();
    let seeds = vec![three, padded, one, two];
    assert!(seeds.iter().all(|seed| Header::parse(seed).is_ok()));
    seeds
}
