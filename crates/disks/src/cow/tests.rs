//! Headers that are right, that are false, and that are random bytes.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn header() -> Header {
    Header::new(&"/disks/root.dsk".parse().unwrap(), 0x6b06_06e6, 24 * MIB)
}

/// An image of version 3 with one number replaced.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = header().encode().unwrap();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

/// The example of the layout that is documented beside the format.
#[test]
fn layout_of_what_is_written() {
    let bytes = header().encode().unwrap();
    assert_eq!(bytes.len(), HEADER_BYTES);
    assert_eq!(bytes[..8], *b"OOOM\0\0\0\x03");
    assert_eq!(bytes[8..12], [0x6b, 0x06, 0x06, 0xe6]);
    assert_eq!(bytes[12..20], [0, 0, 0, 0, 0x01, 0x80, 0, 0]);
    assert_eq!(bytes[20..32], [0, 0, 2, 0, 0, 0, 0x10, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[32..48], *b"/disks/root.dsk\0");
    let geometry = header().geometry().unwrap();
    let expected = Geometry {
        bitmap: 8192,
        bitmap_bytes: 6144,
        data: 16384,
        length: 25_182_208,
    };
    assert_eq!(geometry, expected);
    assert_eq!(geometry.check_length(25_182_208), Ok(()));
    assert_eq!(geometry.check_length(25_182_209), Ok(()));
    assert!(matches!(
        geometry.check_length(25_182_207),
        Err(Unusable::Truncated { .. })
    ));
}

/// Bytes of an older version: `size` and `sector` are where the table above says.
fn old(magic: &[u8; 4], fields: &[(usize, &[u8])], length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[..4].copy_from_slice(magic);
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    bytes
}

#[test]
fn all_versions_are_read() {
    let size = 24 * MIB;
    let name = b"/disks/root.dsk\0rubbish";
    let one = [
        (4, &1_u32.to_le_bytes()[..]),
        (8, name),
        (264, &7_u32.to_le_bytes()),
        (268, &size.to_le_bytes()),
        (276, &512_u32.to_le_bytes()),
    ];
    let two = [
        (4, &2_u32.to_be_bytes()[..]),
        (8, name),
        (4104, &7_u32.to_be_bytes()),
        (4108, &size.to_be_bytes()),
        (4116, &512_u32.to_be_bytes()),
    ];
    let padded = [
        (4, &3_u32.to_be_bytes()[..]),
        (8, &7_u32.to_be_bytes()),
        (16, &size.to_be_bytes()),
        (24, &512_u32.to_be_bytes()),
        (28, &4096_u32.to_be_bytes()),
        (36, name),
    ];
    let cases = [
        (Layout::One, old(b"MOOO", &one, 280), 280, 280 + 6144),
        (Layout::Two, old(b"OOOM", &two, 4120), 4120, 4120 + 6144),
        (
            Layout::Padded,
            old(b"OOOM", &padded, 4136),
            8192,
            8192 + 6144,
        ),
    ];
    for (layout, bytes, bitmap, end) in cases {
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.layout, layout);
        assert_eq!(header.backing, b"/disks/root.dsk");
        assert_eq!(
            (header.modified, header.size, header.sector),
            (7, size, 512)
        );
        let geometry = header.geometry().unwrap();
        let alignment = u64::from(header.alignment);
        assert_eq!((geometry.bitmap, geometry.bitmap_bytes), (bitmap, 6144));
        assert_eq!(geometry.data, u64::next_multiple_of(end, alignment));
        for length in [0, 3, 4, 7, 8, 279] {
            assert!(Header::parse(&bytes[..length]).is_err(), "{length}");
        }
    }
    let odd = (size + 512).to_be_bytes();
    let mut bytes = old(b"OOOM", &two, 4120);
    bytes[4108..4116].copy_from_slice(&odd);
    assert_eq!(Header::parse(&bytes), Err(Unusable::LastSectors(2)));
}

/// Each of these gives an error, and not a huge allocation, a wrong offset or an endless loop.
#[test]
fn lies() {
    let word = |number: u32| number.to_be_bytes();
    let long = |number: u64| number.to_be_bytes();
    let cases: Vec<(Vec<u8>, Unusable)> = vec![
        (vec![], Unusable::Short),
        (with(0, b"QFI\xfb"), Unusable::Magic),
        (with(0, b"MOOO"), Unusable::Version(3 << 24)),
        (with(4, &word(1)), Unusable::ByteOrder),
        (with(4, &word(0)), Unusable::Version(0)),
        (with(4, &word(99)), Unusable::Version(99)),
        (with(12, &long(0)), Unusable::Size(0)),
        (with(12, &long(u64::MAX)), Unusable::Size(u64::MAX)),
        (with(12, &long(1 << 63)), Unusable::Size(1 << 63)),
        (with(12, &long(8 << 40)), Unusable::Size(8 << 40)),
        (with(20, &word(0)), Unusable::Sector(0)),
        (with(20, &word(1)), Unusable::Sector(1)),
        (with(20, &word(513)), Unusable::Sector(513)),
        (with(20, &word(1 << 31)), Unusable::Sector(1 << 31)),
        (with(24, &word(0)), Unusable::Alignment(0)),
        (with(24, &word(4095)), Unusable::Alignment(4095)),
        (with(24, &word(u32::MAX)), Unusable::Alignment(u32::MAX)),
        (with(32, &[b'/'; 4096]), Unusable::NoName),
        (header().encode().unwrap()[..4127].to_vec(), Unusable::Short),
    ];
    for (bytes, why) in cases {
        assert_eq!(Header::parse(&bytes), Err(why));
    }
    let mut unnamed = with(32, &[0; 4096]);
    unnamed.resize(READ_BYTES, 0);
    assert!(Header::parse(&unnamed).is_err());
    let mut long_name = header();
    long_name.backing = vec![b'x'; 4096];
    assert_eq!(long_name.encode(), Err(Unusable::LongName));
}

#[test]
fn names() {
    let disk: DiskName = "/disks/root.dsk".parse().unwrap();
    let named = |name: &[u8]| Header {
        backing: name.to_vec(),
        ..header()
    };
    for same in [
        "/disks/root.dsk",
        "disks/root.dsk",
        "//disks/./x/../root.dsk/",
        "/../disks/root.dsk",
    ] {
        assert!(named(same.as_bytes()).is_backed_by(&disk), "{same}");
    }
    for other in [
        "/disks/root.dsk2",
        "/shared/disks/root.dsk",
        "root.dsk",
        "/disks",
        "",
        "/disks/root.dsk/..",
    ] {
        assert!(!named(other.as_bytes()).is_backed_by(&disk), "{other}");
    }
    assert_eq!(named(b"/disks/root.dsk").backing_disk(), Some(disk));
    assert_eq!(named(b"disks/root.dsk").backing_disk(), None);
    assert_eq!(named(b"\xff").backing_disk(), None);
    assert_eq!(named(b"a\x1b\"\xe4").shown_backing(), r#"a\x1b\"\xe4"#);
    assert_eq!(named(&[b'x'; 4000]).shown_backing().len(), SHOWN + 3);
}

proptest! {
    #[test]
    fn what_is_written_is_read(name in "/[ -~]{0,4000}", modified: u32, size in 1..=4_u64 << 40) {
        let header = Header { backing: name.into_bytes(), modified, size, ..header() };
        prop_assert_eq!(Header::parse(&header.encode().unwrap()).unwrap(), header);
    }

    /// Nothing that is accepted has parts that overlap, or that are somewhere else than they can be.
    #[test]
    fn noise(
        start in 0..3_usize,
        noise in prop::collection::vec(any::<u8>(), 28..4200),
        at in 0..4200_usize,
        length in 0..4200_usize,
    ) {
        let mut bytes = header().encode().unwrap();
        bytes.resize(READ_BYTES, 0);
        match start {
            0 => bytes = noise,
            1 => {
                let end = at.min(bytes.len());
                bytes.splice(end.saturating_sub(noise.len().min(12))..end, noise.iter().copied().take(12));
            }
            _ => bytes[4..32].copy_from_slice(&noise[..28]),
        }
        bytes.truncate(length);
        if let Ok(header) = Header::parse(&bytes) {
            let geometry = header.geometry().unwrap();
            prop_assert!(geometry.bitmap >= 280);
            prop_assert!(geometry.bitmap + geometry.bitmap_bytes <= geometry.data);
            prop_assert_eq!(geometry.data + header.size, geometry.length);
            prop_assert!(header.shown_backing().is_ascii());
        }
    }
}
