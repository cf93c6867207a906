//! Changes of the size in place.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::world::{MIB, World, resize};

#[test]
fn grows_and_shrinks() {
    let world = World::new();
    world.image("/disks/a.dsk");
    let head = fs::read(world.path("/disks/a.dsk")).unwrap();
    let (_, data) = world.sizes("/disks/a.dsk");

    assert_eq!(
        world.done(&resize("/disks/a.dsk", 4 * MIB, false)).progress,
        []
    );
    assert_eq!(world.sizes("/disks/a.dsk"), (4 * MIB, data));

    world.done(&resize("/disks/a.dsk", 8 * MIB, true));
    assert_eq!(world.sizes("/disks/a.dsk"), (8 * MIB, data));

    let log = world.done(&resize("/disks/a.dsk", 16 * MIB, false));
    let (size, allocated) = world.sizes("/disks/a.dsk");
    assert_eq!(size, 16 * MIB);
    assert!(
        (8 * MIB + data..9 * MIB + data).contains(&allocated),
        "{allocated}"
    );
    assert_eq!(log.progress.last(), Some(&(8 * MIB, 8 * MIB)));
    assert!(
        fs::read(world.path("/disks/a.dsk"))
            .unwrap()
            .starts_with(&head)
    );

    world.done(&resize("/disks/a.dsk", MIB, false));
    let (size, allocated) = world.sizes("/disks/a.dsk");
    assert_eq!(size, MIB);
    assert!(allocated <= MIB);
    assert!(head.starts_with(&fs::read(world.path("/disks/a.dsk")).unwrap()));
}

/// Size and blocks are as before: [`World::cancelled`] compares both.
#[test]
fn undone_when_cancelled_or_impossible() {
    let world = World::new();
    world.image("/disks/a.dsk");
    let task = resize("/disks/a.dsk", 700 * MIB, false);
    for call in 1..=4 {
        world.cancelled(&task, call);
    }
    world.refused(
        &resize("/disks/a.dsk", 16 << 40, false),
        "not enough space for /disks/a.dsk",
    );
    for bytes in [0, 512, u64::MAX] {
        world.refused(&resize("/disks/a.dsk", bytes, true), "from 1 MiB to 16 TiB");
    }
    world.refused(
        &resize("/disks/b.dsk", MIB, true),
        "/disks/b.dsk does not exist",
    );
}

/// A header may name the backing file in any way that leads there; one that cannot be read names nothing.
#[test]
fn headers_cannot_hide_a_backing_file() {
    let world = World::new();
    world.image("/disks/a.dsk");
    for (n, backing) in ["/disks/a.dsk", "disks/a.dsk", "/../disks//./x/../a.dsk"]
        .iter()
        .enumerate()
    {
        let file = world.file(&format!("/disks/{n}.cow"), 0);
        let base = "/disks/a.dsk".parse().unwrap();
        let mut header = disks::cow::Header::new(&base, 0, 4 * MIB);
        header.backing = backing.as_bytes().to_vec();
        file.write_all_at(&header.encode().unwrap(), 0).unwrap();
        let task = resize("/disks/a.dsk", 8 * MIB, true);
        // Not yet as long as the header says.
        world.done(&task);
        file.set_len(header.geometry().unwrap().length).unwrap();
        world.refused(&task, &format!("it is the backing file of /disks/{n}.cow"));
        fs::remove_file(world.path(&format!("/disks/{n}.cow"))).unwrap();
        world.done(&resize("/disks/a.dsk", 4 * MIB, true));
    }
}
