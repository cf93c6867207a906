//! What the owner of the directory can plant there. Numbers are those of the attacks in docs/TESTING.md.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use config::DiskName;
use disks::work::{Task, Workplace};
use rustix::fs::{CWD, FileType, Mode};

use crate::world::{
    MIB, World, assert_same, commit, copy, create, create_cow, delete, import, is_root, resize,
};

/// Everything that can be done with `/disks/x.dsk` and `/disks/x.cow`, and that needs what is there.
fn uses() -> Vec<Task> {
    vec![
        delete("/disks/x.dsk"),
        delete("/disks/x.cow"),
        resize("/disks/x.dsk", 2 * MIB, true),
        resize("/disks/x.dsk", 2 * MIB, false),
        copy("/disks/x.dsk", "/disks/y.dsk"),
        copy("/disks/x.cow", "/disks/y.cow"),
        create_cow("/disks/y.cow", "/disks/x.dsk"),
        import("/disks/x.cow", "/disks/good.dsk"),
        import("/disks/good.cow", "/disks/x.dsk"),
        commit("/disks/x.cow", "/disks/y.dsk"),
    ]
}

fn prepared() -> World {
    let world = World::new();
    world.image("/disks/good.dsk");
    world.done(&create_cow("/disks/good.cow", "/disks/good.dsk"));
    world
}

/// A1: a link is neither followed nor replaced, and its target is not touched.
#[test]
fn symbolic_links() {
    let world = prepared();
    let target = world.path("/secret");
    fs::write(&target, "secret").unwrap();
    for disk in ["/disks/x.dsk", "/disks/x.cow"] {
        symlink(&target, world.path(disk)).unwrap();
    }
    for task in uses() {
        world.refused(&task, "is not a regular file, but a symbolic link");
    }
    // Dangling or not: the name is taken.
    symlink("/nonexistent", world.path("/disks/dangling.dsk")).unwrap();
    for disk in ["/disks/x.dsk", "/disks/dangling.dsk"] {
        world.refused(&create(disk, MIB, true), "already exists");
        world.refused(&create(disk, MIB, false), "already exists");
        world.refused(&copy("/disks/good.dsk", disk), "already exists");
        world.refused(&commit("/disks/good.cow", disk), "already exists");
    }
    world.refused(
        &create_cow("/disks/x.cow", "/disks/good.dsk"),
        "already exists",
    );
    assert_eq!(fs::read(&target).unwrap(), b"secret");
}

/// A1: the same at the name of a half-made file.
#[test]
fn links_at_partial_names() {
    let world = prepared();
    let target = world.path("/secret");
    fs::write(&target, "secret").unwrap();
    let tasks = [
        create("/disks/x.dsk", MIB, false),
        copy("/disks/good.dsk", "/disks/x.dsk"),
        commit("/disks/good.cow", "/disks/x.dsk"),
    ];
    for task in tasks {
        symlink(&target, world.path("/disks/.x.dsk.part")).unwrap();
        world.done(&task);
        assert!(
            fs::symlink_metadata(world.path("/disks/x.dsk"))
                .unwrap()
                .is_file()
        );
        world.done(&delete("/disks/x.dsk"));
    }
    symlink(&target, world.path("/disks/.x.dsk.part")).unwrap();
    world.done(&Task::Tidy);
    assert_eq!(fs::read(&target).unwrap(), b"secret");
}

/// A2: another name of a file that may be anybody's. Reading it is no more than the user may do anyway.
#[test]
fn hard_links() {
    let world = prepared();
    for (disk, kind) in [("/disks/x.dsk", "dsk"), ("/disks/x.cow", "cow")] {
        let victim = world.path(&format!("/victim.{kind}"));
        fs::copy(world.path(&format!("/disks/good.{kind}")), &victim).unwrap();
        fs::hard_link(&victim, world.path(disk)).unwrap();
    }
    let before = fs::read(world.path("/victim.dsk")).unwrap();
    for task in [
        delete("/disks/x.dsk"),
        delete("/disks/x.cow"),
        resize("/disks/x.dsk", 2 * MIB, true),
        resize("/disks/x.dsk", 8 * MIB, false),
        import("/disks/x.cow", "/disks/good.dsk"),
    ] {
        world.refused(&task, "with 2 hard links, so it is not changed");
    }
    assert!(fs::read(world.path("/victim.dsk")).unwrap() == before);
    world.done(&copy("/disks/x.dsk", "/disks/y.dsk"));
    assert_eq!(fs::metadata(world.path("/disks/y.dsk")).unwrap().nlink(), 1);
}

/// A2, A5: a file of somebody else.
#[test]
fn files_of_others() {
    if !is_root() {
        return;
    }
    let world = prepared();
    world.image("/disks/x.dsk");
    world.done(&create_cow("/disks/x.cow", "/disks/good.dsk"));
    for disk in ["/disks/x.dsk", "/disks/x.cow"] {
        chown(world.path(disk), Some(65534), None).unwrap();
    }
    for task in [
        delete("/disks/x.dsk"),
        delete("/disks/x.cow"),
        resize("/disks/x.dsk", 2 * MIB, true),
        import("/disks/x.cow", "/disks/good.dsk"),
    ] {
        world.refused(&task, "belongs to the user 65534 and not to the VM's, 0");
    }
}

/// Makes something that is no file.
type Plant<'a> = &'a dyn Fn(&Path);

/// A3: what is no file is neither opened nor waited for. Had it waited, the deadline would say so.
#[test]
fn neither_files_nor_patience() {
    let (done, wait) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let world = prepared();
        let plant_fifo = |path: &Path| {
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
        };
        let plant_directory = |path: &Path| fs::create_dir(path).unwrap();
        let plant_socket = |path: &Path| drop(UnixListener::bind(path).unwrap());
        let plants: [(Plant<'_>, &str); 3] = [
            (&plant_fifo, "a FIFO"),
            (&plant_directory, "a directory"),
            (&plant_socket, "a socket"),
        ];
        for (plant, found) in plants {
            for disk in ["/disks/x.dsk", "/disks/x.cow"] {
                plant(&world.path(disk));
            }
            for task in uses() {
                world.refused(&task, &format!("is not a regular file, but {found}"));
            }
            for disk in ["/disks/x.dsk", "/disks/x.cow"] {
                let path = world.path(disk);
                fs::remove_file(&path)
                    .or_else(|_| fs::remove_dir(&path))
                    .unwrap();
            }
        }
        done.send(()).unwrap();
    });
    wait.recv_timeout(Duration::from_secs(20))
        .expect("it waits for a FIFO, or has failed");
    worker.join().unwrap();
}

/// A4: the directories are those that were opened, whatever is there now; here it changes while a copy is made.
#[test]
fn directories_that_are_replaced() {
    let world = prepared();
    let (disks, elsewhere) = (world.path("/disks"), world.path("/elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    let moved = world.path("/moved");
    let mut calls = 0;
    let task = copy("/disks/good.dsk", "/disks/a.dsk");
    perform(&world, &task, &mut || {
        calls += 1;
        if calls == 1 {
            fs::rename(&disks, &moved).unwrap();
            symlink(&elsewhere, &disks).unwrap();
        }
    })
    .unwrap();
    assert_same(&moved.join("good.dsk"), &moved.join("a.dsk"));
    assert_eq!(fs::read_dir(&moved).unwrap().count(), 3);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    let error = Workplace::open(&world.path("/")).unwrap_err().to_string();
    let why = "cannot open the directory";
    assert!(error.contains(why) && error.contains("disks"), "{error}");
}

/// A6: names are checked before anything is opened, on both sides of the pipe.
#[test]
fn names() {
    let long = format!("/disks/{}.dsk", "x".repeat(300));
    for bad in [
        "/disks/../x.dsk",
        "/disks//a.dsk",
        "/disks/.dsk",
        "/disks/a.dsk\0",
        "/disks/a\n.dsk",
        "/disks/.a.dsk.part",
        &long,
    ] {
        assert!(bad.parse::<DiskName>().is_err(), "{bad:?}");
        let text = serde_json::json!({"Delete": {"disk": bad}});
        assert!(serde_json::from_value::<Task>(text).is_err(), "{bad:?}");
    }
}

/// A8: a flat image with the header of another format is a flat image.
#[test]
fn flat_images_are_never_parsed() {
    let world = prepared();
    let cow = fs::read(world.path("/disks/good.cow")).unwrap();
    fs::write(world.path("/disks/x.dsk"), cow).unwrap();
    world.done(&copy("/disks/x.dsk", "/disks/y.dsk"));
    world.assert_same("/disks/x.dsk", "/disks/y.dsk");
    world.done(&delete("/disks/x.dsk"));
    // Nor does one keep its pretended backing file.
    fs::remove_file(world.path("/disks/good.cow")).unwrap();
    world.done(&delete("/disks/good.dsk"));
}

/// F19, A10: on a file system of 16 MiB, in a mount namespace that only a second process of this test sees.
#[test]
fn a_file_system_that_is_full() {
    const INSIDE: &str = "UMLMON_TEST_SMALL";
    if let Ok(root) = std::env::var(INSIDE) {
        return on_a_small_file_system(Path::new(&root));
    }
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=16m none "$1" && exec "$2" --exact attacks::a_file_system_that_is_full"#;
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
    ]);
    let test = std::env::current_exe().unwrap();
    let output = command
        .arg(root.path())
        .arg(test)
        .env(INSIDE, root.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

fn on_a_small_file_system(root: &Path) {
    let directory = tempfile::Builder::new().tempdir_in(root).unwrap();
    let world = World::at(directory);
    // What does not fit is known before; 5 % stay free.
    world.refused(
        &create("/disks/a.dsk", 16 * MIB, false),
        "16 MiB are needed, 1",
    );
    world.done(&create("/disks/a.dsk", 12 * MIB, false));
    world.refused(
        &resize("/disks/a.dsk", 16 * MIB, false),
        "not enough space for /disks/a.dsk: 4 MiB are needed",
    );
    world.refused(
        &copy("/disks/a.dsk", "/disks/b.dsk"),
        "not enough space for /disks/b.dsk",
    );
    world.done(&delete("/disks/a.dsk"));

    // What is not known before. A sparse file has any size; somebody takes the space while it is copied.
    world.done(&create("/disks/s.dsk", 16 << 30, true));
    let source = File::options()
        .write(true)
        .open(world.path("/disks/s.dsk"))
        .unwrap();
    source.write_all_at(&vec![1; 7 << 20], 0).unwrap();
    let task = copy("/disks/s.dsk", "/disks/b.dsk");
    world.done(&task);
    world.done(&delete("/disks/b.dsk"));
    let thief = world.path("/thief");
    let mut calls = 0;
    let mut take = || {
        calls += 1;
        // The first call is before the data is counted and the space is checked.
        if calls == 2 {
            fs::write(&thief, vec![1; 4 << 20]).unwrap();
        }
    };
    let error = perform(&world, &task, &mut take).unwrap_err().to_string();
    assert!(
        error.contains("became full while /disks/b.dsk was written"),
        "{error}"
    );
    assert!(!world.path("/disks/b.dsk").exists() && !world.path("/disks/.b.dsk.part").exists());
    fs::remove_file(world.path("/thief")).unwrap();
    world.done(&task);
}

/// Does a task, and calls the closure at each progress.
fn perform(world: &World, task: &Task, each: &mut dyn FnMut()) -> Result<(), disks::work::Error> {
    struct Each<'a>(&'a mut dyn FnMut());
    impl disks::work::Watch for Each<'_> {
        fn progress(&mut self, _: u64, _: u64) -> bool {
            (self.0)();
            true
        }
        fn found(&mut self, _: disks::work::Entry) {}
    }
    Workplace::open(&world.path("/"))
        .unwrap()
        .perform(task, &mut Each(each))
}

/// A file that its own VM's user may not read: the sentence says what to do.
#[test]
fn unreadable_files() {
    if is_root() {
        return;
    }
    let world = prepared();
    world
        .image("/disks/x.dsk")
        .set_permissions(fs::Permissions::from_mode(0o000))
        .unwrap();
    world.refused(
        &copy("/disks/x.dsk", "/disks/y.dsk"),
        "is not readable by the VM's user",
    );
    world.refused(
        &resize("/disks/x.dsk", 2 * MIB, true),
        "is not writable by the VM's user",
    );
    world.done(&delete("/disks/x.dsk"));
}
