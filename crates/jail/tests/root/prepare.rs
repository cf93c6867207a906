//! Jail::prepare and the memory file system against the file system: owners, modes, mounts, leftovers, planted links.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use crate::world::{GID, UID, World, chmod};
use jail::Error;
use nix::mount::{MsFlags, mount};

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn makes_all_directories_with_owners_and_modes() {
    let Some(world) = World::new() else { return };
    // Whatever the umask of the caller is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    let _jail = world.prepare().unwrap();
    let places = &world.places;
    for (path, expected) in [
        (places.vardir.clone(), (0, 0, 0o755)),
        (places.vm_dir.clone(), (0, 0, 0o755)),
        (places.jail.clone(), (0, 0, 0o755)),
        (places.logdir.clone(), (0, 0, 0o750)),
        (places.shared.clone(), (0, 0, 0o755)),
        (places.shared.join("disks"), (0, 0, 0o755)),
        (places.shared.join("kernels"), (0, 0, 0o755)),
        (places.shared.join("locks"), (0, 0, 0o700)),
        (places.shared.join("macpool"), (0, 0, 0o700)),
        (world.inside("disks"), (UID, GID, 0o750)),
        (world.inside("tmp"), (0, 0, 0o755)),
        (world.inside("shared"), (0, 0, 0o755)),
    ] {
        assert_eq!(owner_and_mode(&path), expected, "{}", path.display());
    }
}

#[test]
fn an_existing_directory_keeps_its_mode() {
    let Some(world) = World::new() else { return };
    fs::create_dir_all(&world.places.vm_dir).unwrap();
    chown(&world.places.vm_dir, None, Some(GID)).unwrap();
    chmod(&world.places.vm_dir, 0o710);
    let _jail = world.prepare().unwrap();
    assert_eq!(owner_and_mode(&world.places.vm_dir), (0, GID, 0o710));
}

#[test]
fn the_shared_directory_is_mounted_as_long_as_the_jail_lives() {
    let Some(world) = World::new() else { return };
    let jail = world.prepare().unwrap();
    fs::write(world.places.shared.join("kernels/linux"), "x").unwrap();
    assert!(world.inside("shared/kernels/linux").exists());
    let mounts = world.mounts_at(&world.inside("shared"));
    assert!(
        mounts.len() == 1 && mounts[0].contains("nosuid") && !mounts[0].contains("nodev"),
        "{mounts:?}"
    );
    drop(jail);
    assert!(world.mounts_at(&world.inside("shared")).is_empty());
    assert!(!world.inside("shared/kernels").exists());
}

#[test]
fn leftovers_of_a_killed_monitor_are_unmounted() {
    let Some(world) = World::new() else { return };
    std::mem::forget(world.prepare().unwrap());
    for _ in 0..5 {
        let (none, bind) = (None::<&str>, MsFlags::MS_BIND);
        mount(
            Some("tmpfs"),
            &world.inside("tmp"),
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .unwrap();
        mount(
            Some(&world.places.shared),
            &world.inside("shared"),
            none,
            bind,
            none,
        )
        .unwrap();
    }
    let jail = world.prepare().unwrap();
    assert_eq!(world.mounts_at(&world.inside("shared")).len(), 1);
    assert!(world.mounts_at(&world.inside("tmp")).is_empty());
    let old = jail.mount_tmp(8).unwrap();
    let new = jail.mount_tmp(8).unwrap();
    assert_eq!(world.mounts_at(&world.inside("tmp")).len(), 1);
    // The guard of a mount that is gone must not take away the next one.
    drop(old);
    assert_eq!(world.mounts_at(&world.inside("tmp")).len(), 1);
    drop(new);
    assert!(world.mounts_at(&world.inside("tmp")).is_empty());
}

#[test]
fn planted_links_are_refused() {
    let Some(world) = World::new() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir_all(&world.places.jail).unwrap();
    fs::write(world.inside("disks"), "").unwrap();
    assert!(
        world
            .prepare()
            .unwrap_err()
            .to_string()
            .contains("is a file, not a directory")
    );
    fs::remove_file(world.inside("disks")).unwrap();
    for name in ["disks", "tmp", "shared"] {
        symlink(elsewhere.path(), world.inside(name)).unwrap();
        let error = world.prepare().unwrap_err();
        assert!(
            matches!(&error, Error::NotDirectory { path, .. } if *path == world.inside(name)),
            "{error}"
        );
        assert!(error.to_string().contains("a symbolic link"), "{error}");
        fs::remove_file(world.inside(name)).unwrap();
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(world.mounts_at(&world.inside("shared")).is_empty());
}

#[test]
fn directories_that_others_can_change_are_refused() {
    let Some(world) = World::new() else { return };
    drop(world.prepare().unwrap());
    let places = &world.places;
    for path in [
        &places.vardir,
        &places.vm_dir,
        &places.jail,
        &places.logdir,
        &places.shared.join("locks"),
    ] {
        chown(path, Some(UID), None).unwrap();
        let error = world.prepare().unwrap_err();
        assert!(
            matches!(&error, Error::Untrusted { path: at, .. } if at == path),
            "{error}"
        );
        chown(path, Some(0), None).unwrap();
        let mode = owner_and_mode(path).2;
        chmod(path, 0o757);
        assert!(matches!(
            world.prepare().unwrap_err(),
            Error::Untrusted { .. }
        ));
        chmod(path, mode);
    }
    drop(world.prepare().unwrap());
}

#[test]
fn a_link_on_the_way_counts_if_root_made_it() {
    let Some(mut world) = World::new() else {
        return;
    };
    let base = world.places.vardir.parent().unwrap().to_owned();
    fs::create_dir(base.join("real")).unwrap();
    symlink("./x/../real", base.join("link")).unwrap();
    world.places.logdir = base.join("link/log");
    drop(world.prepare().unwrap());
    assert_eq!(owner_and_mode(&base.join("real/log")), (0, 0, 0o750));
    std::os::unix::fs::lchown(base.join("link"), Some(UID), None).unwrap();
    assert!(matches!(
        world.prepare().unwrap_err(),
        Error::Untrusted { .. }
    ));
    world.places.logdir = "log".into();
    assert!(matches!(world.prepare().unwrap_err(), Error::BadPath(_)));
}

#[test]
fn the_memory_is_sized_owned_and_fresh() {
    let Some(world) = World::new() else { return };
    let jail = world.prepare().unwrap();
    let tmp = jail.mount_tmp(8).unwrap();
    assert_eq!(owner_and_mode(&world.inside("tmp")), (UID, GID, 0o700));
    let mounts = world.mounts_at(&world.inside("tmp"));
    assert!(
        mounts[0].contains("nosuid,nodev") && !mounts[0].contains("noexec"),
        "{mounts:?}"
    );
    let before = tmp.used().unwrap();
    let mut file = fs::File::create(world.inside("tmp/memory")).unwrap();
    file.write_all(&vec![1; 4 << 20]).unwrap();
    assert_eq!(tmp.used().unwrap() - before, 4 << 20);
    let full = file.write_all(&vec![1; 5 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // An open file must not keep it.
    drop(tmp);
    assert!(world.mounts_at(&world.inside("tmp")).is_empty());
    let fresh = jail.mount_tmp(8).unwrap();
    assert_eq!(fs::read_dir(world.inside("tmp")).unwrap().count(), 0);
    assert_eq!(fresh.used().unwrap(), 0);
}
