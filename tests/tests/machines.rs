//! Tier real: VMs that umladmin creates and deletes.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use e2e::{Console, Login, Outcome, SmallDisk, World, real_kernel, run};
use xtask::guest;

/// An image in this directory.
fn image_in(directory: PathBuf) -> PathBuf {
    fs::create_dir_all(&directory).unwrap();
    let image = directory.join("small.dsk");
    guest::build(&image, guest::SIZE_MB, Login::Password).unwrap();
    image
}

/// Has `web` created with this image.
fn create(world: &World, image: &str, args: &[&str]) -> Outcome {
    let kernel = real_kernel().display().to_string();
    let fixed = ["-kernel", &kernel, "-image", image, "-mem", "64M"];
    world.umladmin(&[args, &fixed, &["create", "web"]].concat())
}

fn text(world: &World) -> String {
    fs::read_to_string(world.configuration()).unwrap()
}

#[test]
fn a_machine_is_created_used_and_deleted() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    // Where `-image` finds it by its name.
    let image = image_in(world.path().join("var/shared/images"));
    let before = text(&world);
    // What is only shown is not made.
    let shown = create(&world, "small.dsk", &["-dry-run"]).ok();
    assert!(shown.contains("\n+[web]\n+vmuser = auto\n"), "{shown}");
    assert_eq!(text(&world), before);
    assert!(!world.path().join("var/web").exists());

    let told = create(&world, "small.dsk", &["-start"]).ok();
    assert!(told.starts_with("web: created\nweb: booting\n"), "{told}");
    let mut connect = world.command("umlwatch", &["web", "-connect", "con1"]);
    let mut console = Console::of(&mut connect);
    console.expect("login:");
    console.send("root\n");
    console.expect("Password:");
    console.send("uml\n");
    console.expect("~ #");
    console.send("echo written > /root/file; echo $?\n");
    console.expect("\n0");
    console.leave();
    let again = create(&world, "small.dsk", &[]).fails(1);
    assert!(again.contains("/var/web is there already"), "{again}");

    let refused = world.umladmin(&["delete", "web"]).fails(1);
    assert!(
        refused.contains("shut it down first: umladmin stop web"),
        "{refused}"
    );
    let asked = world.umladmin(&["-stop", "delete", "web"]).fails(1);
    assert!(asked.contains("-yes does it unasked"), "{asked}");
    let shown = world.umladmin(&["-dry-run", "delete", "web"]).ok();
    assert!(
        shown.contains("\n-[web]\n") && shown.contains("/var/web is removed: "),
        "{shown}"
    );
    world.umladmin(&["-stop", "-yes", "delete", "web"]).ok();
    assert_eq!(text(&world), before);
    assert!(!world.path().join("var/web").exists());
    // The image is as it was, and has one name.
    assert_eq!(image.metadata().unwrap().nlink(), 1);
    assert!(!world.path().join("var/shared/locks/web.cows").exists());
}

#[test]
fn machines_keep_an_image_that_is_deleted() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let images = world.path().join("var/shared/images");
    image_in(images.clone());
    let other = images.join("other");
    fs::copy(images.join("small.dsk"), &other).unwrap();
    create(&world, "small.dsk", &[]).ok();
    let kept = world.path().join("var/shared/disks/small.dsk");
    let told = world.umladmin(&["image", "delete", "small.dsk", "other"]);
    let kept = kept.display();
    let wanted = format!("small.dsk: deleted, but stays as {kept}: disks of web are based on it\n");
    assert_eq!(told.ok(), wanted);
    assert!(fs::read_dir(images).unwrap().next().is_none());
    world.umladmin(&["boot", "web"]).ok();
    let args = ["web", "-wait-ready", "60", "-exec", "hostname"];
    run(&mut world.command("umlwatch", &args)).ok();
    world.umladmin(&["-stop", "-yes", "delete", "web"]).ok();
}

#[test]
fn a_clone_and_a_renamed_machine_have_what_was_written() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let image = image_in(world.path().join("var/shared/images"));
    let key = world.path().join("key.pub");
    fs::write(&key, "ssh-ed25519 AAAA me@here\n").unwrap();
    let key = key.display().to_string();
    let told = create(&world, "small.dsk", &["-start", "-ssh-key", &key]).ok();
    // On a console, a key lets nobody in.
    assert!(told.contains(" web -exec sh "), "{told}");
    assert!(!told.contains("-connect"), "{told}");
    let shell = |vm: &str, command: &str| {
        let args = [vm, "-wait-ready", "60", "-exec", "sh", "-c", command];
        run(&mut world.command("umlwatch", &args)).ok()
    };
    let seeded = "/sbin/umlguest -seed; hostname; cat /root/.ssh/authorized_keys";
    assert_eq!(shell("web", seeded), "web\nssh-ed25519 AAAA me@here\n");
    shell("web", "echo mine > /root/file; sync");
    let refused = world.umladmin(&["clone", "web", "copy"]).fails(1);
    assert!(refused.contains("umladmin stop web"), "{refused}");
    run(&mut world.command("umlwatch", &["web", "-halt"])).ok();
    let before = text(&world);
    let shown = world.umladmin(&["-dry-run", "clone", "web", "copy"]).ok();
    assert!(shown.contains("\n+[copy]\n+vmuser = auto\n"), "{shown}");
    let told = world.umladmin(&["clone", "web", "copy"]).ok();
    assert_eq!(told, "copy: a copy of web\n");
    assert!(text(&world).starts_with(&before));
    let cow = |vm: &str| world.path().join(format!("var/{vm}/jail/disks/root.cow"));
    let (original, copy) = (
        cow("web").metadata().unwrap(),
        cow("copy").metadata().unwrap(),
    );
    assert_eq!((copy.uid(), copy.len()), (1_883_242_497, original.len()));
    assert!(copy.blocks() <= original.blocks() + 64);

    let told = world.umladmin(&["rename", "web", "www"]).ok();
    assert_eq!(told, "web: is www from now on\n");
    assert!(!world.path().join("var/web").exists());
    let locks = world.path().join("var/shared/locks");
    assert!(!locks.join("web.cows").exists() && locks.join("www.cows").exists());
    world.umladmin(&["boot", "www", "copy"]).ok();
    for vm in ["www", "copy"] {
        assert_eq!(shell(vm, "cat /root/file"), "mine\n");
    }
    assert_eq!(shell("copy", seeded), "copy\nssh-ed25519 AAAA me@here\n");
    let taken = world.umladmin(&["rename", "www", "copy"]).fails(1);
    assert!(taken.contains("/var/copy is there already"), "{taken}");
    for (vm, names) in [("www", 2), ("copy", 1)] {
        world
            .umladmin(&["-stop", "-yes", "-timeout", "20", "delete", vm])
            .ok();
        // The image goes with the last one.
        assert_eq!(image.metadata().unwrap().nlink(), names);
    }
}

#[test]
fn a_machine_that_cannot_be_created_leaves_nothing() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let image = image_in(world.path().to_owned());
    let image = image.display().to_string();
    let (before, vm) = (text(&world), world.path().join("var/web"));
    for (args, why) in [
        (["-net", "much"], "eth0: "),
        (["-cpus", "0"], "cpus: "),
        (["-user", "root"], "root"),
    ] {
        let refused = create(&world, &image, &args).fails(1);
        assert!(refused.contains(why), "{refused}");
        assert_eq!(text(&world), before);
        assert!(!vm.exists());
    }
    // There is no room for the kernel.
    let _disk = SmallDisk::over(&world.path().join("var"));
    let refused = create(&world, &image, &["-disk", "64M"]).fails(1);
    assert!(refused.contains("No space left"), "{refused}");
    assert_eq!(text(&world), before);
    assert!(!vm.exists());
    let left = fs::read_dir(world.path().join("var/shared/disks")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn links_and_mounts_do_not_lead_a_deletion_elsewhere() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("web").con(1).monitor();
    vm.end_monitor();
    let kept = world.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "kept").unwrap();
    symlink(&kept, vm.file("jail/disks/link")).unwrap();
    let mounted = vm.file("jail/disks/mounted");
    fs::create_dir(&mounted).unwrap();
    rustix::mount::mount_bind(&kept, &mounted).unwrap();
    let refused = world.umladmin(&["-yes", "delete", "web"]).fails(1);
    assert!(
        refused.contains("/mounted: something is mounted here"),
        "{refused}"
    );
    assert!(vm.file("jail/tmp").exists());
    rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::empty()).unwrap();
    world.umladmin(&["-yes", "delete", "web"]).ok();
    assert!(!world.path().join("var/web").exists());
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "kept");
    world.forget(&vm);
}

#[test]
fn a_clone_takes_no_file_that_has_another_name() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("web").con(1).disk(0, [0; 4096]).monitor();
    let disk = vm.file("jail/disks/0.dsk");
    let secret = world.secret_file("secret", "secret");
    let refuse = || {
        let refused = world.umladmin(&["clone", "web", "copy"]).fails(1);
        let told = "copy is not created: /disks/0.dsk of web cannot be copied: ";
        assert!(refused.contains(told), "{refused}");
        assert!(!world.path().join("var/copy").exists());
        fs::remove_file(&disk).unwrap();
    };
    fs::remove_file(&disk).unwrap();
    fs::hard_link(&secret, &disk).unwrap();
    refuse();
    symlink(&secret, &disk).unwrap();
    refuse();
    vm.end_monitor();
}
