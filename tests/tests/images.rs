//! Tier real: a real kernel on disks that were made here: copy-on-write, copied, imported, committed, grown, devices.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use e2e::{Console, Login, Vm, World, flood, put, run};

const NOBODY: u32 = 65534;

/// A VM with a guest, and its console con1, which stays connected while the guest is started again and again.
fn guest<'w>(world: &'w World, name: &str, lines: &[&str]) -> (Vm<'w>, Console) {
    let vm = world.vm(name).con(1).guest(Login::RootShell);
    let vm = lines.iter().fold(vm, |vm, line| vm.line(line)).monitor();
    let console = vm.connect("con1");
    (vm, console)
}

/// Starts the guest and waits for its prompt.
#[track_caller]
fn boot(vm: &Vm<'_>, console: &mut Console) {
    vm.start();
    console.expect("# ");
}

/// Runs a command in the guest that must say `answer`.
#[track_caller]
fn says(console: &mut Console, command: &str, answer: &str) {
    // What is typed is echoed, so the answer must not stand in it.
    console.send(&format!("{command}; echo ended-$((40+2))\n"));
    let said = console.expect("ended-42");
    assert!(said.contains(answer), "{command}: {said}");
    console.expect("# ");
}

#[track_caller]
fn shut_down(vm: &Vm<'_>) {
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
}

/// The VM's image of the guest as a shared, read-only one.
fn share(vm: &Vm<'_>) -> PathBuf {
    let base = vm.file("jail/shared/disks/base.dsk");
    run(Command::new("cp")
        .arg("--sparse=always")
        .arg(vm.file("jail/disks/0.dsk"))
        .arg(&base))
    .ok();
    chown(&base, Some(0), Some(0)).unwrap();
    base
}

/// Has the VM boot from an image on the shared one.
#[track_caller]
fn use_image(vm: &Vm<'_>) {
    vm.umlwatch(&["-disk-create-cow", "/disks/a.cow:/shared/disks/base.dsk"])
        .ok();
    vm.umlwatch(&["-set", "ubd0=/disks/a.cow"]).ok();
}

fn tool(name: &str) -> Command {
    let path = Path::new("/usr/bin").join(name);
    assert!(
        path.exists(),
        "needs {name} (Debian: apt-get install uml-utilities)"
    );
    Command::new(path)
}

fn contains(image: &Path, text: &str) -> bool {
    let image = fs::read(image).unwrap();
    let text = text.as_bytes();
    image.windows(text.len()).any(|part| part == text)
}

#[test]
fn a_guest_finds_again_what_it_wrote_to_an_image() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, mut console) = guest(&world, "vm1", &[]);
    let base = share(&vm);
    let untouched = fs::read(&base).unwrap();
    use_image(&vm);
    boot(&vm, &mut console);
    says(
        &mut console,
        "echo marker-$((1000+234)) > /root/found; sync; echo done-$?",
        "done-0",
    );
    shut_down(&vm);
    boot(&vm, &mut console);
    says(&mut console, "cat /root/found", "marker-1234");
    // Copies of the image, of what it is merged to, and of the pair under other names, hold the same.
    shut_down(&vm);
    let commands = [
        "-disk-copy",
        "/disks/a.cow:/disks/b.cow",
        "-disk-copy",
        "/shared/disks/base.dsk:/disks/base2.dsk",
        "-disk-copy",
        "/disks/a.cow:/disks/c.cow",
        "-disk-import",
        "/disks/c.cow:/disks/base2.dsk",
        "-disk-commit",
        "/disks/a.cow:/disks/merged.dsk",
    ];
    vm.umlwatch(&commands).ok();
    for disk in ["/disks/b.cow", "/disks/c.cow", "/disks/merged.dsk"] {
        vm.umlwatch(&["-set", &format!("ubd0={disk}")]).ok();
        boot(&vm, &mut console);
        says(&mut console, "cat /root/found", "marker-1234");
        shut_down(&vm);
    }
    assert_eq!(
        fs::read(&base).unwrap(),
        untouched,
        "the backing file is as it was"
    );
}

#[test]
fn uml_moo_merges_what_a_guest_wrote() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, mut console) = guest(&world, "vm1", &[]);
    let base = share(&vm);
    use_image(&vm);
    boot(&vm, &mut console);
    says(
        &mut console,
        "echo marker-$((1000+234)) > /root/found; sync; echo done-$?",
        "done-0",
    );
    shut_down(&vm);
    let merged = world.path().join("merged");
    run(tool("uml_moo")
        .arg("-b")
        .arg(&base)
        .arg(vm.file("jail/disks/a.cow"))
        .arg(&merged));
    vm.umlwatch(&["-disk-commit", "/disks/a.cow:/disks/merged.dsk"])
        .ok();
    assert!(contains(&merged, "marker-1234"));
    run(Command::new("cmp")
        .arg(&merged)
        .arg(vm.file("jail/disks/merged.dsk")))
    .ok();
    run(Command::new("/sbin/e2fsck").arg("-fn").arg(&merged));
}

#[test]
fn two_guests_run_on_one_backing_file() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let mut guests = ["vm1", "vm2"].map(|name| guest(&world, name, &[]));
    share(&guests[0].0);
    for (vm, console) in &mut guests {
        use_image(vm);
        boot(vm, console);
        let own = format!("echo is-{0} > /root/who; sync; cat /root/who", vm.name());
        says(console, &own, vm.name());
    }
    for (vm, console) in &mut guests {
        says(
            console,
            "sed s/is-/was-/ /root/who",
            &format!("was-{}", vm.name()),
        );
        shut_down(vm);
    }
}

#[test]
fn a_guest_grows_its_file_system_on_a_disk_that_was_grown() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, mut console) = guest(&world, "vm1", &["ubd1 = /disks/tools.dsk"]);
    tools(&world, &vm.file("jail/disks/tools.dsk"));
    vm.umlwatch(&["-disk-resize", "/disks/0.dsk:64:sparse"])
        .ok();
    boot(&vm, &mut console);
    says(
        &mut console,
        "mount -t ext4 /dev/ubdb /mnt; echo mounted-$?",
        "mounted-0",
    );
    let resize = "/mnt/ld.so --library-path /mnt /mnt/resize2fs /dev/ubda; echo resized-$?";
    says(&mut console, resize, "resized-0");
    says(
        &mut console,
        "df -m / | awk '/ubda|root/ && $2 > 50 {print \"large\" \"-enough\"}'",
        "large-enough",
    );
    shut_down(&vm);
}

/// A disk with resize2fs and what it needs of the host.
fn tools(world: &World, image: &Path) {
    let root = world.path().join("tools");
    fs::create_dir(&root).unwrap();
    let program = Path::new("/sbin/resize2fs");
    let needed = run(Command::new("ldd").arg(program)).ok();
    let libraries = needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for file in libraries.map(Path::new).chain([program]) {
        let name = file.file_name().unwrap();
        let loader = name.to_string_lossy().starts_with("ld-linux");
        let name = if loader { OsStr::new("ld.so") } else { name };
        fs::copy(file, root.join(name)).unwrap();
    }
    fs::File::create(image).unwrap().set_len(16 << 20).unwrap();
    run(Command::new("/sbin/mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .arg(&root)
        .arg(image));
    chown(image, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::remove_dir_all(&root).unwrap();
}

/// A block device of the host that is freed however the test ends.
struct Loop(String);

impl Loop {
    fn new(image: &Path) -> Loop {
        let device = run(Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image))
        .ok();
        Loop(device.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run(Command::new("losetup").args(["--detach", &self.0]));
    }
}

#[test]
fn a_guest_uses_a_block_device_of_the_host() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let image = world.path().join("device");
    fs::write(&image, vec![0; 4 << 20]).unwrap();
    let device = Loop::new(&image);
    world.global(&format!(
        "device = device_file(name=data.dev,target_file={},group=nogroup)",
        device.0
    ));
    let (vm, mut console) = guest(&world, "vm1", &["ubd1 = /shared/disks/data.dev"]);
    boot(&vm, &mut console);
    says(
        &mut console,
        "echo marker-$((1000+234)) > /dev/ubdb; sync; echo done-$?",
        "done-0",
    );
    shut_down(&vm);
    drop(device);
    assert!(contains(&image, "marker-1234"));
}

/// F38
#[test]
fn a_disk_that_is_cut_off_under_a_guest_holds_up_nobody() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, mut console) = guest(&world, "vm1", &[]);
    boot(&vm, &mut console);
    let disk = fs::OpenOptions::new()
        .write(true)
        .open(vm.file("jail/disks/0.dsk"))
        .unwrap();
    disk.set_len(1 << 20).unwrap();
    console.send("echo 3 > /proc/sys/vm/drop_caches; ls -lR / > /dev/null; sync; dd if=/dev/ubda of=/dev/null\n");
    assert_eq!(vm.state(), "running");
    vm.umlwatch(&["-halt"]).ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
    console.leave();
}

/// Input I15: at both ends of what the header can record.
#[test]
fn a_backing_file_of_an_odd_time_works() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, mut console) = guest(&world, "vm1", &[]);
    let base = fs::File::options().write(true).open(share(&vm)).unwrap();
    let last = Duration::from_secs(u32::MAX.into());
    for time in [UNIX_EPOCH, UNIX_EPOCH + last] {
        base.set_modified(time).unwrap();
        use_image(&vm);
        boot(&vm, &mut console);
        shut_down(&vm);
        vm.umlwatch(&["-disk-delete", "/disks/a.cow"]).ok();
    }
    console.leave();
}

/// A file on a disk with blocks of 1024 bytes, of which the guest changes one: that page is then in both files.
#[test]
fn a_page_is_read_from_the_image_and_its_backing_file() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let (vm, mut console) = guest(&world, "vm1", &["ubd1 = /disks/small.cow"]);
    let root = world.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), flood(256 << 10)).unwrap();
    let backing = vm.file("jail/disks/small.dsk");
    put(&backing, &vec![0; 1 << 20]);
    let mut mke2fs = Command::new("/sbin/mke2fs");
    let mke2fs = mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal", "-b", "1024", "-d"]);
    run(mke2fs.arg(&root).arg(&backing)).ok();
    vm.umlwatch(&["-disk-create-cow", "/disks/small.cow:/disks/small.dsk"])
        .ok();
    boot(&vm, &mut console);
    if vm.info()["disks"][1]["durable"] != "flush" {
        // Kernels without our patches read it wrongly.
        return shut_down(&vm);
    }
    says(
        &mut console,
        "mount -t ext4 /dev/ubdb /mnt; tr 0-9 a-j < /mnt/file | head -c 1024 | dd of=/mnt/file bs=1024 seek=5 conv=notrunc; \
         sync; cp /mnt/file /run; echo 3 > /proc/sys/vm/drop_caches; cmp /mnt/file /run/file; echo same-$?",
        "same-0",
    );
    shut_down(&vm);
}
