//! Copy-on-write images: as uml_mkcow makes them, and as uml_moo merges them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime};

use disks::cow::Header;

use crate::world::{
    MIB, World, assert_same, commit, create_cow, delete, import, installed, name, run,
};

/// Byte for byte what uml_mkcow makes, but for the name: there it is that of the host, here that of the jail.
#[test]
fn as_uml_mkcow_makes_it() {
    let world = World::new();
    world.image("/disks/a.dsk");
    world.done(&create_cow("/disks/a.cow", "/disks/a.dsk"));
    let (size, allocated) = world.sizes("/disks/a.cow");
    assert_eq!(size, 12288 + 4 * MIB);
    assert!(allocated <= 8192, "{allocated}");
    if !installed("uml_mkcow") {
        return;
    }
    let theirs = world.path("/disks/theirs.cow");
    let base = world.path("/disks/a.dsk");
    run("uml_mkcow", &[&theirs, &base]);
    let file = File::options()
        .read(true)
        .write(true)
        .open(&theirs)
        .unwrap();
    let mut header = Header::new(&name("/disks/a.dsk"), 0, 4 * MIB);
    header.modified = u32::try_from(fs::metadata(&base).unwrap().mtime()).unwrap();
    header.backing = base.as_os_str().as_encoded_bytes().to_vec();
    let mut written = vec![0; 4128];
    file.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written, header.encode().unwrap());
    header.backing = b"/disks/a.dsk".to_vec();
    file.write_all_at(&header.encode().unwrap(), 0).unwrap();
    world.assert_same("/disks/theirs.cow", "/disks/a.cow");
}

#[test]
fn backing_files_that_cannot_be() {
    let world = World::new();
    for (base, bytes) in [("tiny", 65024), ("odd", MIB + 1), ("empty", 0)] {
        let backing = format!("/disks/{base}.dsk");
        world.file(&backing, bytes);
        let why =
            format!("{backing}: it has {bytes} bytes, but a backing file needs at least 65536");
        world.refused(&create_cow("/disks/a.cow", &backing), &why);
    }
    world.file("/disks/huge.dsk", 9 << 40);
    let why = "/disks/huge.dsk cannot be used: the size in its header is 9895604649984 bytes, which the ubd driver";
    world.refused(&create_cow("/disks/a.cow", "/disks/huge.dsk"), why);
    let base = world.file("/disks/old.dsk", MIB);
    let (second, age) = (Duration::from_secs(1), Duration::from_secs(1 << 32));
    for time in [
        SystemTime::UNIX_EPOCH - second,
        SystemTime::UNIX_EPOCH + age,
    ] {
        base.set_modified(time).unwrap();
        let why = "/disks/old.dsk: it was modified before 1970 or after 2105";
        world.refused(&create_cow("/disks/a.cow", "/disks/old.dsk"), why);
    }
    base.set_modified(SystemTime::UNIX_EPOCH + age - second)
        .unwrap();
    world.done(&create_cow("/disks/b.cow", "/disks/old.dsk"));
    world.refused(
        &create_cow("/disks/a.cow", "/shared/disks/x.dsk"),
        "/shared/disks/x.dsk does not exist",
    );
    world.image("/disks/a.dsk");
    world.done(&create_cow("/disks/a.cow", "/disks/a.dsk"));
    world.refused(
        &create_cow("/disks/a.cow", "/disks/a.dsk"),
        "/disks/a.cow already exists",
    );
}

/// The image as the kernel of a guest would leave it: sectors from single ones to long runs, and a hole in one of them.
fn written_image(world: &World, sectors: u64) -> Vec<u8> {
    let base = world.file("/disks/base.dsk", sectors * 512);
    let mut expected = vec![0; usize::try_from(sectors * 512).unwrap()];
    for (start, length) in [(0, 70_000), (900_000, 512), (1 << 20, 600_000)] {
        expected[start..start + length].fill(0xba);
        base.write_all_at(&vec![0xba; length], start as u64)
            .unwrap();
    }
    world.done(&create_cow("/disks/a.cow", "/disks/base.dsk"));
    let cow = File::options()
        .read(true)
        .write(true)
        .open(world.path("/disks/a.cow"))
        .unwrap();
    let geometry = Header::parse(&fs::read(world.path("/disks/a.cow")).unwrap())
        .unwrap()
        .geometry()
        .unwrap();
    let mut bitmap = vec![0_u8; usize::try_from(geometry.bitmap_bytes).unwrap()];
    let runs = [
        (0, 1),
        (3, 2),
        (13, 3),
        (64, 300),
        (1000, 1),
        (2048, 900),
        (sectors - 1, 1),
    ];
    for (first, count) in runs {
        for sector in first..first + count {
            bitmap[usize::try_from(sector / 8).unwrap()] |= 1 << (sector % 8);
            let start = usize::try_from(sector * 512).unwrap();
            // Some sectors are in the image, but were never written: they are zeros, whatever is beneath.
            let byte = if sector % 200 > 150 { 0 } else { 0xc0 };
            expected[start..start + 512].fill(byte);
            if byte != 0 {
                cow.write_all_at(&[byte; 512], geometry.data + sector * 512)
                    .unwrap();
            }
        }
    }
    cow.write_all_at(&bitmap, geometry.bitmap).unwrap();
    expected
}

#[test]
fn commit_as_uml_moo_does() {
    for sectors in [8192, 8195] {
        let world = World::new();
        let expected = written_image(&world, sectors);
        let log = world.done(&commit("/disks/a.cow", "/disks/new.dsk"));
        assert!(fs::read(world.path("/disks/new.dsk")).unwrap() == expected);
        let (size, allocated) = world.sizes("/disks/new.dsk");
        assert_eq!(size, sectors * 512);
        assert!(allocated < 2 * MIB, "holes were filled: {allocated}");
        let (done, total) = *log.progress.last().unwrap();
        assert!(done == total && total < 2 * MIB, "{done} {total}");
        if installed("uml_moo") {
            let theirs = world.path("/disks/theirs.dsk");
            let (base, cow) = (world.path("/disks/base.dsk"), world.path("/disks/a.cow"));
            run("uml_moo", &["-b".as_ref(), &base, &cow, &theirs]);
            assert_same(&theirs, &world.path("/disks/new.dsk"));
        }
        // The new disk needs neither of the two.
        world.done(&delete("/disks/a.cow"));
        world.done(&delete("/disks/base.dsk"));
    }
}

#[test]
fn commit_is_refused_or_cancelled() {
    let world = World::new();
    written_image(&world, 8192);
    let task = commit("/disks/a.cow", "/disks/new.dsk");
    let steps = world.done(&task).progress.len();
    world.refused(&task, "/disks/new.dsk already exists");
    world.done(&delete("/disks/new.dsk"));
    for call in 1..=steps {
        world.cancelled(&task, call);
    }
    world.refused(
        &commit("/disks/x.cow", "/disks/new.dsk"),
        "/disks/x.cow does not exist",
    );
    let base = File::options()
        .write(true)
        .open(world.path("/disks/base.dsk"))
        .unwrap();
    base.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7))
        .unwrap();
    world.refused(
        &task,
        "/disks/a.cow: its backing file was modified at 7 (seconds since 1970), but",
    );
    base.set_len(MIB).unwrap();
    world.refused(
        &task,
        "/disks/a.cow: its backing file has 1048576 bytes, but had 4194304",
    );
    let cow = File::options()
        .write(true)
        .open(world.path("/disks/a.cow"))
        .unwrap();
    cow.set_len(MIB).unwrap();
    world.refused(
        &task,
        "/disks/a.cow cannot be used: it has 1048576 bytes, but according to its header 4206592",
    );
}

/// A7: a header leads to the disks of the VM and nowhere else.
#[test]
fn commit_follows_no_header_out_of_the_jail() {
    let world = World::new();
    written_image(&world, 8192);
    let cow = File::options()
        .write(true)
        .open(world.path("/disks/a.cow"))
        .unwrap();
    for backing in [
        "/etc/shadow",
        "/disks/../secret.dsk",
        "/disks/a.cow",
        "disks/base.dsk",
        "/shared/disks/x.dev",
    ] {
        cow.write_all_at(&[0; 64], 32).unwrap();
        cow.write_all_at(backing.as_bytes(), 32).unwrap();
        world.refused(
            &commit("/disks/a.cow", "/disks/new.dsk"),
            &format!("its backing file is {backing}, which is no .dsk"),
        );
    }
}

#[test]
fn import_of_an_image_from_elsewhere() {
    let world = World::new();
    let expected = written_image(&world, 8192);
    let before = fs::read(world.path("/disks/a.cow")).unwrap();
    let cow = File::options()
        .write(true)
        .open(world.path("/disks/a.cow"))
        .unwrap();
    cow.write_all_at(b"/home/me/a/name/that/is/longer\0", 32)
        .unwrap();
    fs::rename(
        world.path("/disks/base.dsk"),
        world.path("/shared/disks/base.dsk"),
    )
    .unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    let base = File::options()
        .write(true)
        .open(world.path("/shared/disks/base.dsk"))
        .unwrap();
    base.set_modified(time).unwrap();

    world.refused(
        &commit("/disks/a.cow", "/disks/new.dsk"),
        "set it with -disk-import first",
    );
    world.done(&import("/disks/a.cow", "/shared/disks/base.dsk"));
    let after = fs::read(world.path("/disks/a.cow")).unwrap();
    let header = Header::parse(&after).unwrap();
    assert_eq!(
        header,
        Header::new(&name("/shared/disks/base.dsk"), 1_500_000_000, 4 * MIB)
    );
    assert!(after[4128..] == before[4128..]);
    world.done(&commit("/disks/a.cow", "/disks/new.dsk"));
    assert!(fs::read(world.path("/disks/new.dsk")).unwrap() == expected);

    world.file("/disks/other.dsk", 2 * MIB);
    let why = "/disks/a.cow: it belongs to a backing file of 4194304 bytes, but /disks/other.dsk has 2097152";
    world.refused(&import("/disks/a.cow", "/disks/other.dsk"), why);
    world.refused(
        &import("/disks/a.cow", "/disks/none.dsk"),
        "/disks/none.dsk does not exist",
    );
    world.refused(
        &import("/disks/b.cow", "/shared/disks/base.dsk"),
        "/disks/b.cow does not exist",
    );
}

#[test]
fn old_versions_are_committed_but_not_imported() {
    let world = World::new();
    let mtime = |disk| u32::try_from(fs::metadata(world.path(disk)).unwrap().mtime()).unwrap();
    world.image("/disks/a.dsk");
    let cow = world.file("/disks/a.cow", 8 * MIB);
    cow.write_all_at(b"OOOM\0\0\0\x02/disks/a.dsk\0", 0)
        .unwrap();
    cow.write_all_at(&mtime("/disks/a.dsk").to_be_bytes(), 4104)
        .unwrap();
    cow.write_all_at(&(4 * MIB).to_be_bytes(), 4108).unwrap();
    cow.write_all_at(&512_u32.to_be_bytes(), 4116).unwrap();
    world.refused(
        &import("/disks/a.cow", "/disks/a.dsk"),
        "its header is of an old version",
    );
    world.done(&commit("/disks/a.cow", "/disks/b.dsk"));
    world.assert_same("/disks/a.dsk", "/disks/b.dsk");
}
