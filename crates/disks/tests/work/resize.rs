//! Changes of the size in place.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::place::{MIB, Place, resize};

#[test]
fn grows_and_shrinks() {
    let place = Place::new();
    place.image("/disks/a.dsk");
    let head = fs::read(place.path("/disks/a.dsk")).unwrap();
    let (_, data) = place.sizes("/disks/a.dsk");

    assert_eq!(
        place.done(&resize("/disks/a.dsk", 4 * MIB, false)).progress,
        []
    );
    assert_eq!(place.sizes("/disks/a.dsk"), (4 * MIB, data));

    place.done(&resize("/disks/a.dsk", 8 * MIB, true));
    assert_eq!(place.sizes("/disks/a.dsk"), (8 * MIB, data));

    let log = place.done(&resize("/disks/a.dsk", 16 * MIB, false));
    let (size, allocated) = place.sizes("/disks/a.dsk");
    assert_eq!(size, 16 * MIB);
    assert!(
        (8 * MIB + data..9 * MIB + data).contains(&allocated),
        "{allocated}"
    );
    assert_eq!(log.progress.last(), Some(&(8 * MIB, 8 * MIB)));
    assert!(
        fs::read(place.path("/disks/a.dsk"))
            .unwrap()
            .starts_with(&head)
    );

    place.done(&resize("/disks/a.dsk", MIB, false));
    let (size, allocated) = place.sizes("/disks/a.dsk");
    assert_eq!(size, MIB);
    assert!(allocated <= MIB);
    assert!(head.starts_with(&fs::read(place.path("/disks/a.dsk")).unwrap()));
}

/// Size and blocks are as before: [`Place::cancelled`] compares both.
#[test]
fn undone_when_cancelled_or_impossible() {
    let place = Place::new();
    place.image("/disks/a.dsk");
    let task = resize("/disks/a.dsk", 700 * MIB, false);
    for call in 1..=4 {
        place.cancelled(&task, call);
    }
    place.refused(
        &resize("/disks/a.dsk", 16 << 40, false),
        "not enough space for /disks/a.dsk",
    );
    for bytes in [0, 512, u64::MAX] {
        place.refused(&resize("/disks/a.dsk", bytes, true), "from 1 MiB to 16 TiB");
    }
    place.refused(
        &resize("/disks/b.dsk", MIB, true),
        "/disks/b.dsk does not exist",
    );
}

/// A header may name the backing file in any way that leads there; one that cannot be read names nothing.
#[test]
fn headers_cannot_hide_a_backing_file() {
    let place = Place::new();
    place.image("/disks/a.dsk");
    for (n, backing) in ["/disks/a.dsk", "disks/a.dsk", "/../disks//./x/../a.dsk"]
        .iter()
        .enumerate()
    {
        let file = place.file(&format!("/disks/{n}.cow"), 0);
        let base = "/disks/a.dsk".parse().unwrap();
        let mut header = disks::cow::Header::new(&base, 0, 4 * MIB);
        header.backing = backing.as_bytes().to_vec();
        file.write_all_at(&header.encode().unwrap(), 0).unwrap();
        let task = resize("/disks/a.dsk", 8 * MIB, true);
        // Not yet as long as the header says.
        place.done(&task);
        file.set_len(header.geometry().unwrap().length).unwrap();
        place.refused(&task, &format!("it is the backing file of /disks/{n}.cow"));
        fs::remove_file(place.path(&format!("/disks/{n}.cow"))).unwrap();
        place.done(&resize("/disks/a.dsk", 4 * MIB, true));
    }
}
