//! What is in the directories.

use std::fs;
use std::os::unix::fs::FileExt;

use disks::cow::Header;
use disks::work::{CowEntry, Entry, MAX_LISTED, Task};
use rustix::fs::{CWD, FileType, Mode};

use crate::world::{Log, MIB, World, create_cow, is_root, name};

fn list(world: &World) -> Vec<Entry> {
    world.done(&Task::List).found
}

fn names(world: &World) -> Vec<String> {
    let entries = list(world).into_iter();
    entries.map(|entry| entry.disk.to_string()).collect()
}

#[test]
fn disks_in_order() {
    let world = World::new();
    for disk in ["/shared/disks/base.dsk", "/disks/b.dsk", "/disks/a.dsk"] {
        world.image(disk);
    }
    for no_disk in [
        ".a.dsk.part",
        "a.txt",
        "-x.dsk",
        "a b.dsk",
        "x.dev",
        "\u{1b}[2J.dsk",
    ] {
        world.file(&format!("/disks/{no_disk}"), 0);
    }
    fs::create_dir(world.path("/disks/dir.dsk")).unwrap();
    std::os::unix::fs::symlink("a.dsk", world.path("/disks/link.dsk")).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, world.path("/disks/fifo.cow"), FileType::Fifo, mode, 0).unwrap();
    world.file("/shared/disks/file.dev", 0);
    let mut expected = vec!["/disks/a.dsk", "/disks/b.dsk", "/shared/disks/base.dsk"];
    if is_root() {
        // Loop device 7, which needs not exist.
        let device = rustix::fs::makedev(7, 7);
        for device_path in ["/shared/disks/data.dev", "/shared/disks/data.dsk"] {
            let path = world.path(device_path);
            rustix::fs::mknodat(CWD, path, FileType::BlockDevice, mode, device).unwrap();
        }
        expected.push("/shared/disks/data.dev");
    }
    assert_eq!(names(&world), expected);
    let entries = list(&world);
    let first = &entries[0];
    assert_eq!(first.size, 4 * MIB);
    assert!((1..MIB).contains(&first.allocated));
    assert!(first.modified > 1_700_000_000);
    assert_eq!(first.cow, None);
    for entry in entries
        .iter()
        .filter(|entry| entry.disk == name("/shared/disks/data.dev"))
    {
        assert_eq!((entry.size, entry.allocated), (0, 0));
    }
}

fn cow(world: &World, disk: &str) -> CowEntry {
    let entry = list(world)
        .into_iter()
        .find(|entry| entry.disk == name(disk));
    entry.unwrap().cow.unwrap()
}

fn problem(world: &World, disk: &str) -> Option<String> {
    match cow(world, disk) {
        CowEntry::Header { problem, .. } => problem,
        CowEntry::Unusable(why) => panic!("{why}"),
    }
}

#[test]
fn headers_and_what_is_wrong_with_them() {
    let world = World::new();
    let base = world.image("/shared/disks/a.dsk");
    world.done(&create_cow("/disks/a.cow", "/shared/disks/a.dsk"));
    let CowEntry::Header {
        version,
        backing,
        size,
        problem: none,
        ..
    } = cow(&world, "/disks/a.cow")
    else {
        panic!("unusable");
    };
    assert_eq!(
        (version, backing.as_str(), size),
        (3, "/shared/disks/a.dsk", 4 * MIB)
    );
    assert_eq!(none, None);

    base.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(
        problem(&world, "/disks/a.cow")
            .unwrap()
            .contains("was modified at 0")
    );
    base.set_len(2 * MIB).unwrap();
    assert!(
        problem(&world, "/disks/a.cow")
            .unwrap()
            .contains("has 2097152 bytes, but had 4194304")
    );
    fs::remove_file(world.path("/shared/disks/a.dsk")).unwrap();
    assert!(
        problem(&world, "/disks/a.cow")
            .unwrap()
            .contains("does not exist")
    );

    world.file("/disks/short.cow", 3);
    world.file("/disks/zero.cow", MIB);
    assert!(
        matches!(cow(&world, "/disks/short.cow"), CowEntry::Unusable(why) if why.contains("too short"))
    );
    assert!(
        matches!(cow(&world, "/disks/zero.cow"), CowEntry::Unusable(why) if why.contains("does not begin"))
    );
}

/// A7: what a header says is shown as printable ASCII, with a bound, and followed nowhere.
#[test]
fn hostile_names_in_headers() {
    let world = World::new();
    let long = [b'y'; 4000];
    let hostile: [&[u8]; 4] = [
        b"/etc/shadow",
        b"/disks/../x.dsk",
        b"\x1b]52;c;\x07\"\\\xff\n",
        &long,
    ];
    for backing in hostile {
        let file = world.file("/disks/h.cow", 8 * MIB);
        let mut header = Header::new(&name("/disks/a.dsk"), 1, 4 * MIB);
        header.backing = backing.to_vec();
        file.write_all_at(&header.encode().unwrap(), 0).unwrap();
        let CowEntry::Header {
            backing, problem, ..
        } = cow(&world, "/disks/h.cow")
        else {
            panic!("unusable");
        };
        assert!(
            backing.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{backing}"
        );
        assert!(backing.len() <= 255 * 4 + 3);
        assert!(problem.unwrap().contains("not in /disks or /shared/disks"));
        fs::remove_file(world.path("/disks/h.cow")).unwrap();
    }
}

#[test]
fn a_crowd_has_a_bound() {
    let world = World::new();
    for n in 0..=MAX_LISTED {
        world.file(&format!("/disks/{n:05}.dsk"), 0);
    }
    let mut log = Log::default();
    let error = world.perform(&Task::List, &mut log).unwrap_err();
    assert!(error.to_string().contains("too many files"), "{error}");
    assert_eq!(log.found.len(), MAX_LISTED);
    assert_eq!(log.found[0].disk, name("/disks/00000.dsk"));
}

#[test]
fn entries_travel_as_json() {
    let world = World::new();
    world.image("/disks/a.dsk");
    world.done(&create_cow("/disks/a.cow", "/disks/a.dsk"));
    let entries = list(&world);
    let text = serde_json::to_string(&entries).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&text).unwrap(), entries);
}
