//! Which names and sizes a task may have, and how it travels.

use super::*;

fn name(text: &str) -> DiskName {
    text.parse().unwrap()
}

fn create(disk: &str, bytes: u64) -> Task {
    Task::Create {
        disk: name(disk),
        bytes,
        sparse: true,
    }
}

fn copy(source: &str, destination: &str) -> Task {
    Task::Copy {
        source: name(source),
        destination: name(destination),
    }
}

#[test]
fn names() {
    let (dsk, cow) = ("/disks/a.dsk", "/disks/a.cow");
    let commit = |source, destination| Task::Commit {
        source: name(source),
        destination: name(destination),
    };
    let create_cow = |disk, backing| Task::CreateCow {
        disk: name(disk),
        backing: name(backing),
    };
    let delete = |disk| Task::Delete { disk: name(disk) };
    for good in [
        create(dsk, MIN_BYTES),
        copy("/shared/disks/a.dsk", dsk),
        copy("/shared/disks/a.cow", cow),
        commit("/shared/disks/a.cow", dsk),
        create_cow(cow, "/shared/disks/a.dsk"),
        delete(cow),
    ] {
        good.check().unwrap();
    }
    for (bad, why) in [
        (create("/shared/disks/a.dsk", MIN_BYTES), "only read"),
        (create(cow, MIN_BYTES), "ends in .dsk"),
        (copy(dsk, cow), "ends in .dsk"),
        (copy(cow, dsk), "ends in .cow"),
        (copy(dsk, dsk), "to itself"),
        (copy(dsk, "/shared/disks/b.dsk"), "only read"),
        (copy("/shared/disks/a.dev", dsk), "block devices"),
        (commit(dsk, "/disks/b.dsk"), "ends in .cow"),
        (create_cow(cow, cow), "ends in .dsk"),
        (create_cow(cow, "/shared/disks/a.dev"), "ends in .dsk"),
        (delete("/shared/disks/a.dsk"), "only read"),
    ] {
        let refused = bad.check().unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

/// Only sizes from 1 MiB to 16 TiB are allowed.
#[test]
fn sizes() {
    assert_eq!(megabytes(1).unwrap(), MIN_BYTES);
    assert_eq!(megabytes(16 << 20).unwrap(), MAX_BYTES);
    for bad in [0, (16 << 20) + 1, 1 << 43, 1 << 44, 1 << 63, u64::MAX] {
        let refused = megabytes(bad).unwrap_err().to_string();
        assert!(refused.contains("from 1 MiB to 16 TiB"), "{refused}");
    }
    for bad in [0, 512, MIN_BYTES - 512, MIN_BYTES + 1, MAX_BYTES + 512] {
        assert!(create("/disks/a.dsk", bad).check().is_err(), "{bad}");
    }
}

#[test]
fn tasks_travel_as_json() {
    let task = create("/disks/a.dsk", MIN_BYTES);
    let text = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
    let planted = text.replace("/disks/a.dsk", "/disks/../a.dsk");
    assert!(serde_json::from_str::<Task>(&planted).is_err());
}
