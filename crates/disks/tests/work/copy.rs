//! Copies of images.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant, SystemTime};

use disks::work::{Entry, Watch, Workplace};

use crate::world::{MIB, World, copy, create, create_cow};

/// Facts 6.3: a copied backing file must keep its time, or its copy-on-write images are refused.
#[test]
fn content_holes_and_time_are_kept() {
    let world = World::new();
    let file = world.image("/shared/disks/a.dsk");
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    file.set_modified(time).unwrap();
    let log = world.done(&copy("/shared/disks/a.dsk", "/disks/b.dsk"));
    world.assert_same("/shared/disks/a.dsk", "/disks/b.dsk");
    let stat = fs::metadata(world.path("/disks/b.dsk")).unwrap();
    assert_eq!(stat.modified().unwrap(), time);
    assert_eq!(stat.mode() & 0o7777, 0o640);
    assert!(stat.blocks() * 512 < MIB, "not sparse: {}", stat.blocks());
    let (done, total) = *log.progress.last().unwrap();
    assert_eq!(done, total);
    assert!((100_007..MIB).contains(&total), "{total}");
}

/// A disk that has all its blocks must not become one that can run out of them.
#[test]
fn full_images_stay_full() {
    let world = World::new();
    world.done(&create("/disks/a.dsk", 8 * MIB, false));
    let log = world.done(&copy("/disks/a.dsk", "/disks/b.dsk"));
    let (size, allocated) = world.sizes("/disks/b.dsk");
    assert!(size == 8 * MIB && allocated >= size, "{size} {allocated}");
    assert_eq!(log.progress.last(), Some(&(size, size)));
}

#[test]
fn images_of_any_kind_and_size() {
    let world = World::new();
    for (base, bytes) in [("empty", 0), ("odd", 12345)] {
        let (from, to) = (format!("/disks/{base}.dsk"), format!("/disks/{base}2.dsk"));
        world.file(&from, bytes);
        world.done(&copy(&from, &to));
        assert_eq!(world.sizes(&to), (bytes, 0));
    }
    world.image("/disks/a.dsk");
    world.done(&create_cow("/disks/a.cow", "/disks/a.dsk"));
    world.done(&copy("/disks/a.cow", "/disks/b.cow"));
    world.assert_same("/disks/a.cow", "/disks/b.cow");
    world.refused(
        &copy("/disks/a.cow", "/disks/b.cow"),
        "/disks/b.cow already exists",
    );
    world.refused(
        &copy("/disks/x.cow", "/disks/y.cow"),
        "/disks/x.cow does not exist",
    );
}

/// A11: the time is a bound for a machine that is busy with other things.
#[test]
fn a_sparse_terabyte_is_copied_at_once() {
    let world = World::new();
    let file = world.file("/disks/a.dsk", 1 << 40);
    for n in 0..64 {
        file.write_all_at(b"x", n << 34).unwrap();
    }
    let begin = Instant::now();
    world.done(&copy("/disks/a.dsk", "/disks/b.dsk"));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    let (size, allocated) = world.sizes("/disks/b.dsk");
    assert_eq!(size, 1 << 40);
    assert!(allocated < MIB, "{allocated}");
    let copied = fs::File::open(world.path("/disks/b.dsk")).unwrap();
    let mut byte = [0];
    copied.read_exact_at(&mut byte, 63 << 34).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn cancelled() {
    let world = World::new();
    let file = world.file("/disks/a.dsk", 40 * MIB);
    file.write_all_at(&vec![7; 40 << 20], 0).unwrap();
    let task = copy("/disks/a.dsk", "/disks/b.dsk");
    world.cancelled(&task, 1);
    world.cancelled(&task, 2);
}

/// Changes the source at the first sign of life.
struct Meddler(Option<Box<dyn FnOnce()>>);

impl Watch for Meddler {
    fn progress(&mut self, _: u64, _: u64) -> bool {
        if let Some(meddle) = self.0.take() {
            meddle();
        }
        true
    }

    fn found(&mut self, _: Entry) {}
}

/// A11: no SIGBUS, no endless loop, no copy that is neither of the two.
#[test]
fn a_source_that_changes_is_noticed() {
    type Meddle = fn(&fs::File);
    let cases: [(&str, Meddle); 4] = [
        ("truncated", |file| file.set_len(MIB).unwrap()),
        ("emptied", |file| file.set_len(0).unwrap()),
        ("longer", |file| file.set_len(90 * MIB).unwrap()),
        ("written", |file| {
            file.write_all_at(b"new", 30 * MIB).unwrap()
        }),
    ];
    for (case, meddle) in cases {
        let world = World::new();
        let file = world.file("/disks/a.dsk", 40 * MIB);
        file.write_all_at(&vec![7; 40 << 20], 0).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let mut meddler = Meddler(Some(Box::new(move || meddle(&file))));
        let root = world.path("/");
        let task = copy("/disks/a.dsk", "/disks/b.dsk");
        let result = Workplace::open(&root).unwrap().perform(&task, &mut meddler);
        let error = result.expect_err(case).to_string();
        assert!(
            error.contains("/disks/a.dsk was changed while it was read"),
            "{case}: {error}"
        );
        assert_eq!(
            fs::read_dir(world.path("/disks")).unwrap().count(),
            1,
            "{case}"
        );
    }
}

/// The name is taken while the copy is made: it is never replaced.
#[test]
fn a_name_that_is_taken_meanwhile_is_kept() {
    let world = World::new();
    world.image("/disks/a.dsk");
    let planted = world.path("/disks/b.dsk");
    let plant = planted.clone();
    let mut meddler = Meddler(Some(Box::new(move || {
        std::os::unix::fs::symlink("/etc/passwd", plant).unwrap();
    })));
    let task = copy("/disks/a.dsk", "/disks/b.dsk");
    let work = Workplace::open(&world.path("/")).unwrap();
    let error = work.perform(&task, &mut meddler).unwrap_err().to_string();
    assert!(error.contains("/disks/b.dsk already exists"), "{error}");
    assert!(fs::symlink_metadata(&planted).unwrap().is_symlink());
    assert_eq!(fs::read_dir(world.path("/disks")).unwrap().count(), 2);
}
