//! What is in the directories.

use std::fs;
use std::os::unix::fs::FileExt;

use disks::cow::Header;
use disks::work::{CowEntry, Entry, MAX_LISTED, Task};
use rustix::fs::{CWD, FileType, Mode};

use crate::place::{Log, MIB, Place, create_cow, is_root, name};

fn list(place: &Place) -> Vec<Entry> {
    place.done(&Task::List).found
}

fn names(place: &Place) -> Vec<String> {
    let entries = list(place).into_iter();
    entries.map(|entry| entry.disk.to_string()).collect()
}

#[test]
fn disks_in_order() {
    let place = Place::new();
    for disk in ["/shared/disks/base.dsk", "/disks/b.dsk", "/disks/a.dsk"] {
        place.image(disk);
    }
    for no_disk in [
        ".a.dsk.part",
        "a.txt",
        "-x.dsk",
        "a b.dsk",
        "x.dev",
        "\u{1b}[2J.dsk",
    ] {
        place.file(&format!("/disks/{no_disk}"), 0);
    }
    fs::create_dir(place.path("/disks/dir.dsk")).unwrap();
    std::os::unix::fs::symlink("a.dsk", place.path("/disks/link.dsk")).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, place.path("/disks/fifo.cow"), FileType::Fifo, mode, 0).unwrap();
    place.file("/shared/disks/file.dev", 0);
    let mut expected = vec!["/disks/a.dsk", "/disks/b.dsk", "/shared/disks/base.dsk"];
    if is_root() {
        // Loop device 7, which needs not exist.
        let device = rustix::fs::makedev(7, 7);
        for device_path in ["/shared/disks/data.dev", "/shared/disks/data.dsk"] {
            let path = place.path(device_path);
            rustix::fs::mknodat(CWD, path, FileType::BlockDevice, mode, device).unwrap();
        }
        expected.push("/shared/disks/data.dev");
    }
    assert_eq!(names(&place), expected);
    let entries = list(&place);
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

fn cow(place: &Place, disk: &str) -> CowEntry {
    let entry = list(place)
        .into_iter()
        .find(|entry| entry.disk == name(disk));
    entry.unwrap().cow.unwrap()
}

fn problem(place: &Place, disk: &str) -> Option<String> {
    match cow(place, disk) {
        CowEntry::Header { problem, .. } => problem,
        CowEntry::Unusable(why) => panic!("{why}"),
    }
}

#[test]
fn headers_and_what_is_wrong_with_them() {
    let place = Place::new();
    let base = place.image("/shared/disks/a.dsk");
    place.done(&create_cow("/disks/a.cow", "/shared/disks/a.dsk"));
    let CowEntry::Header {
        version,
        backing,
        size,
        problem: none,
        ..
    } = cow(&place, "/disks/a.cow")
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
        problem(&place, "/disks/a.cow")
            .unwrap()
            .contains("was modified at 0")
    );
    base.set_len(2 * MIB).unwrap();
    assert!(
        problem(&place, "/disks/a.cow")
            .unwrap()
            .contains("has 2097152 bytes, but had 4194304")
    );
    fs::remove_file(place.path("/shared/disks/a.dsk")).unwrap();
    assert!(
        problem(&place, "/disks/a.cow")
            .unwrap()
            .contains("does not exist")
    );

    place.file("/disks/short.cow", 3);
    place.file("/disks/zero.cow", MIB);
    assert!(
        matches!(cow(&place, "/disks/short.cow"), CowEntry::Unusable(why) if why.contains("too short"))
    );
    assert!(
        matches!(cow(&place, "/disks/zero.cow"), CowEntry::Unusable(why) if why.contains("does not begin"))
    );
}

/// Attack A7: what a header says is shown as printable ASCII, with a bound, and followed nowhere.
#[test]
fn hostile_names_in_headers() {
    let place = Place::new();
    let long = [b'y'; 4000];
    let hostile: [&[u8]; 4] = [
        b"/etc/shadow",
        b"/disks/../x.dsk",
        b"\x1b]52;c;\x07\"\\\xff\n",
        &long,
    ];
    for backing in hostile {
        let file = place.file("/disks/h.cow", 8 * MIB);
        let mut header = Header::new(&name("/disks/a.dsk"), 1, 4 * MIB);
        header.backing = backing.to_vec();
        file.write_all_at(&header.encode().unwrap(), 0).unwrap();
        let CowEntry::Header {
            backing, problem, ..
        } = cow(&place, "/disks/h.cow")
        else {
            panic!("unusable");
        };
        assert!(
            backing.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{backing}"
        );
        assert!(backing.len() <= 255 * 4 + 3);
        assert!(problem.unwrap().contains("not in /disks or /shared/disks"));
        fs::remove_file(place.path("/disks/h.cow")).unwrap();
    }
}

#[test]
fn a_crowd_has_a_bound() {
    let place = Place::new();
    for n in 0..=MAX_LISTED {
        place.file(&format!("/disks/{n:05}.dsk"), 0);
    }
    let mut log = Log::default();
    let error = place.perform(&Task::List, &mut log).unwrap_err();
    assert!(error.to_string().contains("too many files"), "{error}");
    assert_eq!(log.found.len(), MAX_LISTED);
    assert_eq!(log.found[0].disk, name("/disks/00000.dsk"));
}

#[test]
fn entries_travel_as_json() {
    let place = Place::new();
    place.image("/disks/a.dsk");
    place.done(&create_cow("/disks/a.cow", "/disks/a.dsk"));
    let entries = list(&place);
    let text = serde_json::to_string(&entries).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&text).unwrap(), entries);
}
