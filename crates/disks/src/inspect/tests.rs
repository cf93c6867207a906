//! Tests of the looks at disks, some of them as root.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;

fn name(text: &str) -> DiskName {
    text.parse().unwrap()
}

/// Two directories with a flat image that every user may write; None without root, who alone can ask for others.
fn directories() -> Option<(tempfile::TempDir, Disks)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    for sub in ["jail/disks", "shared/disks"] {
        std::fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    // In an installation, a mount.
    symlink("../shared", dir.path().join("jail/shared")).unwrap();
    let image = dir.path().join("jail/disks/root.dsk");
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    set_mode(&image, 0o666);
    let disks = Disks::open(&dir.path().join("jail"), &dir.path().join("shared")).unwrap();
    Some((dir, disks))
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const STRANGER: Opener<'static> = Opener {
    name: "nobody",
    uid: 65534,
    gid: 65534,
    groups: &[65534],
};

#[test]
fn a_flat_image_is_usable() {
    let Some((_dir, disks)) = directories() else {
        return;
    };
    let disk = disks.inspect(&name("/disks/root.dsk"), &STRANGER).unwrap();
    assert_eq!(
        (disk.size, disk.allocated, disk.read_only),
        (1 << 20, 0, false)
    );
}

#[test]
fn refusals_say_what_to_do() {
    let Some((dir, disks)) = directories() else {
        return;
    };
    set_mode(&dir.path().join("jail/disks/root.dsk"), 0o644);
    let refused = disks
        .inspect(&name("/disks/root.dsk"), &STRANGER)
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("/disks/root.dsk is not writable by nobody (owner "),
        "{refused}"
    );
    assert!(refused.contains("try: chown nobody "), "{refused}");
    let file = dir.path().join("jail/disks/root.dsk");
    chown(&file, Some(STRANGER.uid), None).unwrap();
    set_mode(&file, 0o400);
    let refused = disks.inspect(&name("/disks/root.dsk"), &STRANGER);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("try: chmod u+rw /"), "{refused}");
    let missing = disks
        .inspect(&name("/disks/other.dsk"), &STRANGER)
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("/disks/other.dsk does not exist"),
        "{missing}"
    );
}

/// Owner and mode of the file alone would say something else each time.
#[test]
fn the_host_says_what_a_user_may_do() {
    let Some((dir, disks)) = directories() else {
        return;
    };
    let (own, image) = (dir.path().join("jail/disks"), name("/disks/root.dsk"));
    let file = own.join("root.dsk");
    set_mode(&file, 0o600);
    let refused = || disks.inspect(&image, &STRANGER).unwrap_err().to_string();
    assert!(refused().contains("is not readable by nobody"));
    // An access control list: version 2, then tag, permissions and number of each entry.
    let entries = [
        (1, 6, u32::MAX),
        (2, 6, STRANGER.uid),
        (4, 0, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, number) in entries {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(permissions));
        list.extend(u32::to_le_bytes(number));
    }
    let attribute = "system.posix_acl_access";
    rustix::fs::setxattr(&file, attribute, &list, rustix::fs::XattrFlags::empty()).unwrap();
    assert!(!disks.inspect(&image, &STRANGER).unwrap().read_only);
    // A directory that is closed.
    set_mode(&own, 0o700);
    let closed = format!(
        "nobody cannot use the disk directory {0} (owner 0, mode 0700); try: chown nobody {0}",
        own.display()
    );
    assert_eq!(refused(), closed);
}

/// After `vmuser`, or the number of the user, has changed.
#[test]
fn a_directory_of_a_former_user_is_refused() {
    let Some((dir, disks)) = directories() else {
        return;
    };
    let own = dir.path().join("jail/disks");
    for (owner, fits) in [(0, true), (STRANGER.uid, true), (4711, false)] {
        chown(&own, Some(owner), None).unwrap();
        let found = disks.inspect(&name("/disks/root.dsk"), &STRANGER);
        assert_eq!(found.is_ok(), fits, "{owner}: {found:?}");
        let told = disks
            .check_own(&STRANGER)
            .map_err(|error| error.to_string());
        let expected = format!(
            "nobody cannot use the disk directory {0} (owner 4711, mode 0755); try: chown -R nobody {0}",
            own.display()
        );
        assert_eq!(told, if fits { Ok(()) } else { Err(expected) });
    }
}

#[test]
fn a_shared_image_may_be_read_only() {
    let Some((dir, disks)) = directories() else {
        return;
    };
    let image = dir.path().join("shared/disks/base.dsk");
    File::create(&image).unwrap();
    set_mode(&image, 0o644);
    assert!(
        disks
            .inspect(&name("/shared/disks/base.dsk"), &STRANGER)
            .unwrap()
            .read_only
    );
}

#[test]
fn what_the_least_writer_of_an_image_may_do_counts() {
    let Some((dir, disks)) = directories() else {
        return;
    };
    let shared = dir.path().join("shared/disks");
    let file = |name: &str, uid, gid, mode| {
        File::create(shared.join(name)).unwrap();
        set_mode(&shared.join(name), mode);
        // Only root can.
        chown(shared.join(name), Some(uid), Some(gid)).is_ok()
    };
    if !file("base.dsk", 1, 2, 0o664) {
        return;
    }
    for (uid, gid, mode, expected) in [
        (0, 0, 0o644, true),
        (0, 0, 0o664, false),
        (0, 2, 0o664, true),
        (1, 1, 0o644, true),
        (1, 1, 0o646, false),
        (3, 3, 0o644, false),
    ] {
        file("a.cow", uid, gid, mode);
        let may = disks.writers_may_write(
            &name("/shared/disks/a.cow"),
            &name("/shared/disks/base.dsk"),
        );
        assert_eq!(may, expected, "{uid} {gid} {mode:o}");
    }
}

#[test]
fn what_is_not_a_file_is_refused() {
    let Some((dir, disks)) = directories() else {
        return;
    };
    let planted = dir.path().join("jail/disks");
    symlink("/etc/passwd", planted.join("link.dsk")).unwrap();
    std::fs::create_dir(planted.join("dir.dsk")).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        planted.join("fifo.cow"),
        FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    for (file, found) in [
        ("link.dsk", "a symbolic link"),
        ("dir.dsk", "a directory"),
        ("fifo.cow", "a FIFO"),
    ] {
        let refused = disks
            .inspect(&name(&format!("/disks/{file}")), &STRANGER)
            .unwrap_err();
        assert!(
            refused.to_string().ends_with(&format!("but {found}")),
            "{refused}"
        );
    }
}

#[test]
fn flags() {
    let sparse = Disk {
        identity: Identity::Device(0),
        size: 1 << 20,
        allocated: 0,
        read_only: false,
    };
    let full = Disk {
        allocated: 1 << 20,
        ..sparse.clone()
    };
    let argument = |file, disk: &Disk, sync| ubd_argument(0, &name(file), disk, None, sync);
    assert_eq!(
        argument("/disks/a.dsk", &sparse, true),
        "ubd0sd=/disks/a.dsk"
    );
    assert_eq!(
        argument("/disks/a.dsk", &full, false),
        "ubd0dt=/disks/a.dsk"
    );
    let base = name("/shared/disks/b.dsk");
    let pair = ubd_argument(1, &name("/disks/a.cow"), &sparse, Some(&base), true);
    assert_eq!(pair, "ubd1s=/disks/a.cow,/shared/disks/b.dsk");
    let read_only = Disk {
        read_only: true,
        ..sparse
    };
    assert_eq!(
        argument("/shared/disks/a.dsk", &read_only, true),
        "ubd0rsd=/shared/disks/a.dsk"
    );
}

/// The directories are opened by root before any file of the user is examined.
#[test]
fn a_missing_directory_is_named() {
    let error = Disks::open(Path::new("/nonexistent"), Path::new("/nonexistent")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/disks"), "{error}");
}
