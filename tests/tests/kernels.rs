//! Tier root: kernels that belong to the VM's user. What such a file is, names, or becomes while somebody looks at it
//! must do nothing to the host, and hold nobody up; the ids are those of docs/TESTING.md.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions beside the tests, too

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Vm, World, elf, hostile, program, run};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{User, mkfifo};

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// How long an answer may take, on a machine of CI: the shortest wait of those that the monitor was once put into was
/// 45 s.
const SOON: Duration = Duration::from_secs(20);

/// The kernel of the VM's user, and the user's own directory of libraries for it.
struct Own {
    kernel: PathBuf,
    libraries: PathBuf,
    uid: u32,
}

impl Own {
    /// Makes the user's file the kernel of the VM.
    fn new(vm: &Vm<'_>) -> Own {
        let disks = vm.file("jail/disks");
        let own = Own {
            kernel: disks.join("k"),
            libraries: disks.join("k.lib"),
            uid: User::from_name("nobody").unwrap().unwrap().uid.as_raw(),
        };
        fs::create_dir(&own.libraries).unwrap();
        chown(&own.libraries, Some(own.uid), None).unwrap();
        vm.umlwatch(&["-set", "kernel=/disks/k"]).ok();
        own
    }

    fn put(&self, content: &[u8]) {
        self.put_at(&self.kernel, content);
    }

    fn put_at(&self, path: &Path, content: &[u8]) {
        let _ = fs::remove_file(path);
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        chown(path, Some(self.uid), None).unwrap();
    }
}

/// All names below a directory.
fn names(directory: &Path) -> Vec<String> {
    let outcome = run(Command::new("find").arg(directory));
    let mut names: Vec<String> = outcome.ok().lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// Says why the start was refused, and asserts that the monitor answered soon.
#[track_caller]
fn refused(vm: &Vm<'_>) -> String {
    let asked = Instant::now();
    let said = vm.umlwatch(&["-start"]).fails(1);
    vm.umlwatch(&["-info"]).ok();
    assert!(asked.elapsed() < SOON, "{:?}: {said}", asked.elapsed());
    said
}

/// A51
#[test]
fn nothing_that_a_kernel_names_is_made_on_the_host() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let neighbour = world.vm("vm2").user("games").monitor();
    let own = Own::new(&vm);
    let library = elf::program("", &[], "");
    for name in ["ld.so", "libx.so.1", "vm7.held", "vm7.lease"] {
        own.put_at(&own.libraries.join(name), &library);
    }
    let shared = world.path().join("var/shared");
    let before = names(&shared);
    let jail_before = fs::read_dir(vm.file("jail")).unwrap().count();
    for (loader, libraries, runpath) in [
        ("/shared/locks/vm7.held", &[][..], ""),
        ("/shared/macpool/vm7.lease/ld.so", &[], ""),
        ("/shared/locks/mutex/ld.so", &[], ""),
        ("/lib64/../shared/locks/ld.so", &[], ""),
        ("/etc/ld.so", &[], ""),
        ("/lib64/ld.so", &["libx.so.1"], "/shared/locks"),
        (LOADER, &["libx.so.1"], "/shared/locks:/shared/macpool"),
        (LOADER, &["vm7.held"], "/shared/locks/vm7.held"),
        (LOADER, &["../shared/locks/vm7.held"], ""),
    ] {
        own.put(&elf::program(loader, libraries, runpath));
        let said = refused(&vm);
        assert!(said.contains("/disks/k"), "{said}");
    }
    assert_eq!(names(&shared), before);
    assert_eq!(fs::read_dir(vm.file("jail")).unwrap().count(), jail_before);
    // And if there is a file that no monitor has made, it causes no error.
    for name in ["locks/vm7.held/x", "macpool/vm7.lease/x"] {
        fs::create_dir_all(shared.join(name)).unwrap();
    }
    symlink("/etc/passwd", shared.join("locks/vm8.held")).unwrap();
    neighbour.start();
    let log = fs::read_to_string(neighbour.file("log/monitor")).unwrap();
    assert!(
        log.contains("locks/vm7.held is not from a monitor; remove it"),
        "{log}"
    );
    neighbour.kill();
}

/// A52
#[test]
fn no_library_comes_from_a_directory_of_a_user() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let own = Own::new(&vm);
    // The home directory of a user who relies on its being closed.
    let home = world.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("libsecret.so.1"), elf::program("", &[], "")).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let games = User::from_name("games").unwrap().unwrap().uid.as_raw();
    chown(&home, Some(games), None).unwrap();
    let runpath = home.to_str().unwrap();
    let needy = elf::program(LOADER, &["libsecret.so.1"], runpath);
    let missing =
        "needs the library libsecret.so.1, which is not in the library directories of this host";
    own.put(&needy);
    let said = refused(&vm);
    assert!(said.contains(missing), "{said}");
    symlink(
        home.join("libsecret.so.1"),
        own.libraries.join("libsecret.so.1"),
    )
    .unwrap();
    let said = refused(&vm);
    assert!(said.contains(missing), "{said}");
    // Nor does it help that the kernel is root's, if what is beside it is not.
    let kernels = world.path().join("var/shared/kernels");
    fs::write(kernels.join("linux"), &needy).unwrap();
    fs::set_permissions(kernels.join("linux"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&own.libraries, kernels.join("linux.lib")).unwrap();
    vm.umlwatch(&["-set", "kernel=/shared/kernels/linux"]).ok();
    let said = refused(&vm);
    assert!(said.contains("libsecret.so.1"), "{said}");
}

#[test]
fn a_kernel_that_has_changed_is_looked_at_once_more() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let kernels = world.path().join("var/shared/kernels");
    let (kernel, good) = (kernels.join("fake_linux"), kernels.join("good"));
    // Often enough that its files are older than the last look.
    let start_again = || {
        for _ in 0..5 {
            vm.start();
            vm.kill();
        }
    };
    start_again();

    fs::rename(&kernel, &good).unwrap();
    fs::write(&kernel, elf::program(LOADER, &["libnew.so.1"], "")).unwrap();
    fs::set_permissions(&kernel, fs::Permissions::from_mode(0o755)).unwrap();
    let said = refused(&vm);
    assert!(said.contains("needs the library libnew.so.1"), "{said}");
    fs::rename(&good, &kernel).unwrap();
    start_again();

    // Its own library directory appears, with a C library in it that is none.
    fs::create_dir(kernels.join("fake_linux.lib")).unwrap();
    fs::write(kernels.join("fake_linux.lib/libc.so.6"), "text").unwrap();
    let said = refused(&vm);
    assert!(said.contains("libc.so.6"), "{said}");
    fs::remove_dir_all(kernels.join("fake_linux.lib")).unwrap();
    start_again();

    fs::set_permissions(&kernels, fs::Permissions::from_mode(0o700)).unwrap();
    let said = refused(&vm);
    assert!(said.contains("is not executable"), "{said}");
}

/// Makes something of the path.
type Make = fn(&Path);

/// Kernels that nobody should wait for, or read to their end.
const ODD: [(&str, Make); 3] = [
    ("named pipe", |path| mkfifo(path, Mode::S_IRWXU).unwrap()),
    ("more than a kernel", |path| {
        File::create(path).unwrap().set_len(1 << 42).unwrap();
    }),
    ("directory", |path| fs::create_dir(path).unwrap()),
];

/// A53
#[test]
fn a_kernel_that_is_none_holds_nobody_up() {
    let Some(world) = World::new() else { return };
    let bridged = "eth0 = bridged(bridge_if=br0,proxy_if=k0)";
    let vm = world.vm("vm1").line(bridged).monitor();
    let own = Own::new(&vm);
    for (said, make) in ODD {
        make(&own.kernel);
        fs::set_permissions(&own.kernel, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&own.kernel, Some(own.uid), None).unwrap();
        let why = refused(&vm);
        assert!(why.contains(said), "{why}");
        let _ = fs::remove_file(&own.kernel).or_else(|_| fs::remove_dir(&own.kernel));
    }
    vm.end_monitor();
}

/// The hostile program, which holds a lease on the file.
fn lease(world: &World, file: &Path) -> Option<Child> {
    let hostile = world.path().join("hostile");
    if !hostile::compile(&hostile) {
        e2e::skip("needs a C compiler");
        return None;
    }
    let mut command = Command::new(&hostile);
    command.arg("lease").arg(file);
    let mut holder = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert_eq!(said, "lease: done\n");
    Some(holder)
}

/// A53
#[test]
fn a_lease_on_a_kernel_holds_nobody_up() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let own = Own::new(&vm);
    own.put(&fs::read(program("fake_linux")).unwrap());
    let Some(mut holder) = lease(&world, &own.kernel) else {
        return;
    };
    let said = refused(&vm);
    assert!(said.contains("another process has a lease on it"), "{said}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    vm.start();
    vm.kill();
}

/// A53
#[test]
fn a_kernel_that_is_exchanged_all_the_time_holds_nobody_up() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let own = Own::new(&vm);
    let directory = vm.file("jail/disks");
    let (good, pipe) = (directory.join("good"), directory.join("pipe"));
    own.put_at(&good, &fs::read(program("fake_linux")).unwrap());
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    chown(&pipe, Some(own.uid), None).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for file in [&good, &pipe] {
                    let draft = directory.join("draft");
                    fs::hard_link(file, &draft).unwrap();
                    fs::rename(&draft, &own.kernel).unwrap();
                }
            }
        });
        let end = Instant::now() + Duration::from_secs(4);
        let (mut started, mut refused) = (0, 0);
        while Instant::now() < end {
            let asked = Instant::now();
            match vm.umlwatch(&["-start", "-kill"]).status {
                Some(0) => started += 1,
                _ => refused += 1,
            }
            assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        assert!(
            started + refused > 2,
            "{started} started, {refused} refused"
        );
    });
    vm.umlwatch(&["-kill"]);
    vm.wait_inactive();
    vm.end_monitor();
}

/// A54
#[test]
fn mounts_of_users_are_not_searched_for_control_groups() {
    let Some(world) = World::new() else { return };
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let mount = world.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs cgroup2 {0} && mkfifo {0}/cgroup.controllers",
        mount.display()
    );
    run(Command::new("sh").args(["-ec", &script])).ok();
    let vm = world.vm("vm1").monitor();
    let asked = Instant::now();
    vm.umlwatch(&["-start", "-kill"]).ok();
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    vm.end_monitor();
    run(Command::new("umount").arg(&mount)).ok();
}
