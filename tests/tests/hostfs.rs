//! Tier real: directories of the host in a guest, by `shareN`; those of `umladmin run` are in `run.rs`.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use e2e::{Login, Outcome, Vm, World};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

/// The owner of what is shared: neither root nor the user of the VM.
const OWNER: u32 = 4711;

/// The user and the group of the VM.
const NOBODY: (u32, u32) = (65534, 65534);

/// A directory with a file system of its own, until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(world: &World, name: &str, kind: &str) -> Mounted {
        let path = world.path().join(name);
        fs::create_dir(&path).unwrap();
        let none = None::<&str>;
        mount(Some(kind), &path, Some(kind), MsFlags::empty(), none).unwrap();
        Mounted(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A directory with one file, of this owner.
fn directory(world: &World, name: &str) -> PathBuf {
    let path = world.path().join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("given"), "of the host\n").unwrap();
    for path in [&path, &path.join("given")] {
        chown(path, Some(OWNER), Some(OWNER)).unwrap();
    }
    path
}

fn line(number: u8, directory: &Path, rest: &str) -> String {
    format!("share{number} = {}{rest}", directory.display())
}

fn exec(vm: &Vm<'_>, script: &str) -> Outcome {
    vm.umlwatch(&["-exec", "sh", "-c", script])
}

#[test]
fn a_guest_works_in_the_directories_it_is_given() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (job, library) = (directory(&world, "a job"), directory(&world, "library"));
    let vm = world
        .vm("vm1")
        .line(&line(0, &job, ":/src/a job"))
        .line(&line(3, &library, ":ro"))
        .guest(Login::Password)
        .monitor();
    vm.umlwatch(&["-start"]).ok();
    let script = "cd '/src/a job' && cat given && echo of the guest > new && mkdir d && mv new d/n && ln d/n d/m && \
                  ln -s n d/l && cat d/l && chmod 751 d/n && touch -t 200001010000 d/m && rm given && \
                  dd if=/dev/zero of=large bs=1M count=3 2>&1 | grep -c records && truncate -s 5 large";
    assert_eq!(exec(&vm, script).ok(), "of the host\nof the guest\n2\n");
    // All of it is there at once, and belongs to the owner of the directory.
    let new = job.join("d/n");
    assert_eq!(fs::read_to_string(&new).unwrap(), "of the guest\n");
    let stat = fs::metadata(&new).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.nlink()), (OWNER, OWNER, 2));
    assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o751, 946_684_800));
    assert_eq!(fs::metadata(job.join("large")).unwrap().len(), 5);
    assert!(!job.join("given").exists());
    fs::write(job.join("later"), "later\n").unwrap();
    assert_eq!(exec(&vm, "cat '/src/a job/later'").ok(), "later\n");

    // Nothing can be changed in the other one, which is where it is on the host.
    let there = library.display();
    assert_eq!(
        exec(&vm, &format!("cat {there}/given")).ok(),
        "of the host\n"
    );
    let refused = exec(&vm, &format!("echo x > {there}/given")).fails(1);
    assert!(refused.contains("Read-only file system"), "{refused}");

    // A link leads to what the guest has, and there is no other way out.
    symlink("/etc/umlmon-e2e", job.join("out")).unwrap();
    fs::write(world.path().join("secret"), "x").unwrap();
    let script = "cd '/src/a job'; cat out; cat ../secret; mkdir -p /x; mount -t hostfs none /x -o /../..; ls /x";
    let seen = exec(&vm, script);
    assert!(
        !seen.stdout.contains("home") && !seen.stdout.contains('x'),
        "{seen:#?}"
    );
    // A program of the host's root is one of the guest's user.
    fs::write(job.join("program"), "#!/bin/sh\nid -u\n").unwrap();
    fs::set_permissions(job.join("program"), Permissions::from_mode(0o4755)).unwrap();
    let script =
        "cd '/src/a job'; ./program; grep -c ' hostfs rw,nosuid,nodev' /proc/mounts; chmod u+s d/n";
    let seen = exec(&vm, script);
    assert_eq!(
        (seen.status, &*seen.stdout),
        (Some(1), "0\n2\n"),
        "{seen:#?}"
    );
    assert!(seen.stderr.contains("Operation not permitted"), "{seen:#?}");
    vm.kill();
}

#[test]
fn the_page_says_as_whom_the_guest_acts() {
    let Some(world) = World::new() else { return };
    let (mapped, own) = (directory(&world, "mapped"), directory(&world, "own"));
    chown(&own, Some(NOBODY.0), Some(NOBODY.1)).unwrap();
    // A file system that maps no owners.
    let scratch = Mounted::new(&world, "unmapped", "ramfs");
    chown(&scratch.0, Some(OWNER), Some(OWNER)).unwrap();
    let vm = world
        .vm("vm1")
        .line(&line(0, &mapped, ":/src:ro"))
        .line(&line(1, &own, ""))
        .line(&line(2, &scratch.0, ""))
        .monitor();
    let owners = || {
        let info = vm.info();
        let shares = info["shares"].as_array().unwrap().iter();
        let of = |share: &serde_json::Value| {
            let owner = share["owner"].as_str().unwrap().to_owned();
            (owner, share["uid"].as_u64().unwrap())
        };
        shares.map(of).collect::<Vec<_>>()
    };
    let unknown = || ("unknown".to_owned(), 0);
    assert_eq!(owners(), [unknown(), unknown(), unknown()]);
    vm.start();
    let is = |owner: &str, uid: u32| (owner.to_owned(), u64::from(uid));
    assert_eq!(
        owners(),
        [
            is("mapped", OWNER),
            is("same", NOBODY.0),
            is("unmapped", NOBODY.0)
        ]
    );
    let page = vm.umlwatch(&["-info"]).ok();
    for told in [
        "at /src, read only, as its owner, user 4711: owners are mapped\n",
        "as its owner, the VM's user 65534\n",
        "as user 65534, not as its owner\n         its file system cannot map owners: the guest reads and changes",
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    vm.kill();
    vm.wait_inactive();
}

/// What the user of a VM tries in the jail, with busybox. What should work is tried first.
const ATTEMPTS: &str = r#"
b=/disks/busybox
try() { $b echo "$1: $($b sh -c "$2" > /disks/said 2>&1 && $b echo done || $b echo refused)"; }
cd /share/0
try 'make a file' 'echo x > new'
try 'be root by a program' '[ $(./program id -u) = 0 ]'
try 'make a program of the owner' '/disks/busybox chmod 4755 new'
try 'make a program of the group' '/disks/busybox chmod 2755 new'
try 'make a device' '/disks/busybox mknod device c 1 5'
try 'make a pipe' '/disks/busybox mkfifo pipe'
try 'read a device' '/disks/busybox head -c 1 zero'
try 'follow a link' '/disks/busybox cat link'
try 'follow a link to a directory' '/disks/busybox cat up/said'
try 'change a file of another' 'echo x >> other'
try 'read a file of another' '/disks/busybox cat other'
try 'write to what is read-only' 'echo x > /share/1/new'
try 'write beside' 'echo x > /share/new'
"#;

/// A74
#[test]
fn a_broken_out_guest_reaches_nothing_else_by_a_share() {
    let Some(world) = World::new() else { return };
    let (job, library) = (directory(&world, "job"), directory(&world, "library"));
    fs::copy("/bin/busybox", job.join("program")).unwrap();
    fs::set_permissions(job.join("program"), Permissions::from_mode(0o4755)).unwrap();
    fs::write(job.join("other"), "x").unwrap();
    fs::set_permissions(job.join("other"), Permissions::from_mode(0o660)).unwrap();
    let zero = makedev(1, 5);
    mknodat(
        CWD,
        job.join("zero"),
        FileType::CharacterDevice,
        Mode::from(0o666),
        zero,
    )
    .unwrap();
    fs::set_permissions(job.join("zero"), Permissions::from_mode(0o666)).unwrap();
    symlink("/disks/said", job.join("link")).unwrap();
    symlink("/disks", job.join("up")).unwrap();
    let vm = world
        .vm("vm1")
        .con(1)
        .line(&line(0, &job, ""))
        .line(&line(1, &library, ":ro"))
        .monitor();
    fs::copy("/bin/busybox", vm.file("jail/disks/busybox")).unwrap();
    fs::write(vm.file("jail/disks/attempts"), ATTEMPTS).unwrap();
    vm.start();
    let mut console = vm.connect("con1");
    console.send("execute:/disks/busybox,sh,/disks/attempts\n");
    vm.wait_con0("execute: Ok", 1);
    console.leave();
    let con0 = vm.con0();
    let said = con0.lines().map(str::trim_end);
    let said: Vec<_> = said.filter_map(|line| line.split_once(": ")).collect();
    let tried: Vec<_> = said
        .iter()
        .filter(|(_, how)| ["done", "refused"].contains(how))
        .collect();
    assert_eq!(tried.len(), 13, "{con0}");
    assert_eq!(tried[0], &("make a file", "done"), "{con0}");
    assert!(
        tried[1..].iter().all(|(_, how)| *how == "refused"),
        "{con0}"
    );
    assert_eq!(fs::metadata(job.join("new")).unwrap().uid(), OWNER);

    // The mounts are those of the kernel only, and as restricted as they can be.
    let mounts = |pid: &str| fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let of_kernel = mounts(&vm.pid("kernel_pid").to_string());
    let share = of_kernel.lines().find(|line| line.contains(" /share/0 "));
    let share = share.unwrap();
    for option in ["nosuid", "nodev", "nosymfollow", "idmapped"] {
        assert!(share.contains(option), "{share}");
    }
    let own = mounts("self");
    assert!(!own.contains("/share/"), "{own}");
    vm.kill();
}

/// A74
#[test]
fn a_directory_that_was_exchanged_is_not_shared() {
    let Some(world) = World::new() else { return };
    let home = world.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(OWNER), Some(OWNER)).unwrap();
    let job = directory(&world, "home/job");
    let secret = world.path().join("secret");
    fs::create_dir(&secret).unwrap();
    let vm = world.vm("vm1").line(&line(0, &job, "")).monitor();
    vm.start();
    let kernel = vm.pid("kernel_pid");
    let through_the_jail = PathBuf::from(format!("/proc/{kernel}/root/share/0"));
    assert!(through_the_jail.join("given").exists());

    // It is the directory that was there, whatever has its name by now.
    fs::rename(&job, home.join("moved")).unwrap();
    symlink(&secret, &job).unwrap();
    lchown(&job, Some(OWNER), Some(OWNER)).unwrap();
    fs::write(secret.join("secret"), "x").unwrap();
    assert!(through_the_jail.join("given").exists());
    assert!(!through_the_jail.join("secret").exists());
    vm.kill();
    vm.wait_inactive();

    // The next start follows no link to what its owner could not have moved there.
    let refused = vm.umlwatch(&["-start"]).fails(1);
    assert!(
        refused.contains("share0: ") && refused.contains("belongs to user ID 4711"),
        "{refused}"
    );
    fs::remove_file(&job).unwrap();
    let refused = vm.umlwatch(&["-start"]).fails(1);
    assert!(refused.contains("No such file or directory"), "{refused}");
    fs::rename(home.join("moved"), &job).unwrap();
    vm.start();
    vm.kill();
}
