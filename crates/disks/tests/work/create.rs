//! New flat images, and their end.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use disks::work::{MAX_BYTES, Task};

use crate::world::{MIB, World, create, create_cow, delete, resize};

#[test]
fn sparse_and_allocated() {
    let world = World::new();
    let log = world.done(&create("/disks/s.dsk", 8 * MIB, true));
    assert_eq!(world.sizes("/disks/s.dsk"), (8 * MIB, 0));
    assert_eq!(log.progress, []);

    let log = world.done(&create("/disks/a.dsk", 8 * MIB, false));
    let (size, allocated) = world.sizes("/disks/a.dsk");
    assert_eq!(size, 8 * MIB);
    assert!(allocated >= size, "{allocated}");
    assert_eq!(log.progress.first(), Some(&(0, 8 * MIB)));
    assert_eq!(log.progress.last(), Some(&(8 * MIB, 8 * MIB)));
    for disk in ["/disks/a.dsk", "/disks/s.dsk"] {
        let mode = fs::metadata(world.path(disk)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
    }
}

#[test]
fn an_existing_name_is_refused() {
    let world = World::new();
    world.file("/disks/a.dsk", 5);
    for sparse in [false, true] {
        world.refused(
            &create("/disks/a.dsk", MIB, sparse),
            "already exists; delete it first",
        );
    }
}

/// A9: what the table of sizes lets pass, the file system may still refuse.
#[test]
fn impossible_sizes() {
    let world = World::new();
    for bytes in [0, 1, MAX_BYTES + MIB, u64::MAX] {
        world.refused(&create("/disks/a.dsk", bytes, true), "from 1 MiB to 16 TiB");
    }
    world.refused(
        &create("/disks/a.dsk", MAX_BYTES, false),
        "not enough space for /disks/a.dsk",
    );
}

#[test]
fn cancelled() {
    let world = World::new();
    let task = create("/disks/a.dsk", 600 * MIB, false);
    let steps = world.done(&task).progress.len();
    assert!(steps >= 4, "no steps between: {steps}");
    world.done(&delete("/disks/a.dsk"));
    for call in 1..=steps {
        world.cancelled(&task, call);
    }
}

/// F37: what a process that was killed has left is in nobody's way.
#[test]
fn stale_partial() {
    let world = World::new();
    world
        .file("/disks/.a.dsk.part", 77)
        .write_all_at(b"old", 0)
        .unwrap();
    world.done(&create("/disks/a.dsk", MIB, true));
    assert!(
        fs::read(world.path("/disks/a.dsk"))
            .unwrap()
            .iter()
            .all(|&byte| byte == 0)
    );

    world.file("/disks/.a.dsk.part", 1);
    for _ in 0..2 {
        let disk = "/disks/a.dsk".parse().unwrap();
        world.done(&Task::Discard { disk });
        assert!(world.path("/disks/a.dsk").exists());
    }

    for planted in ["a.dsk", "b.cow"] {
        world.file(&format!("/disks/.{planted}.part"), 1);
    }
    for other in [".a.dsk.partx", ".hidden", "..part", ".a.dev.part"] {
        world.file(&format!("/disks/{other}"), 1);
    }
    fs::create_dir(world.path("/disks/.d.dsk")).unwrap();
    world.done(&Task::Tidy);
    let mut left: Vec<_> = fs::read_dir(world.path("/disks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "..part",
            ".a.dev.part",
            ".a.dsk.partx",
            ".d.dsk",
            ".hidden",
            "a.dsk"
        ]
    );
}

#[test]
fn partial_names() {
    for good in [".a.dsk.part", ".a.cow.part", ".a.part.dsk.part"] {
        assert!(disks::work::is_partial(good.as_bytes()), "{good}");
    }
    let bad: [&[u8]; 8] = [
        b"",
        b".",
        b".part",
        b"a.dsk.part",
        b".a.dsk",
        b"..dsk.part",
        b".a.dev.part",
        b".\xff.dsk.part",
    ];
    for bad in bad {
        assert!(!disks::work::is_partial(bad));
    }
}

#[test]
fn delete_what_nobody_needs() {
    let world = World::new();
    world.image("/disks/a.dsk");
    world.image("/disks/b.dsk");
    world.done(&create_cow("/disks/a.cow", "/disks/a.dsk"));
    let why = "/disks/a.dsk: it is the backing file of /disks/a.cow; delete or commit that first";
    world.refused(&delete("/disks/a.dsk"), why);
    world.refused(&resize("/disks/a.dsk", 8 * MIB, true), why);
    world.done(&delete("/disks/b.dsk"));
    world.done(&delete("/disks/a.cow"));
    world.done(&delete("/disks/a.dsk"));
    world.refused(&delete("/disks/a.dsk"), "/disks/a.dsk does not exist");
}
