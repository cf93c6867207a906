//! Tier real: VMs with `vmuser = auto`, and with templates.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use e2e::{Login, Vm, World};

/// The user ID that its monitor says it has.
fn uid(vm: &Vm<'_>) -> u64 {
    vm.info()["uid"].as_u64().unwrap()
}

#[test]
fn a_guest_runs_as_a_user_of_its_own() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    world.global("user_pool = 70000-70009\n[template web]\nuse = base\nkernelarg = from.web");
    world.global("[template base]\nkernelarg = from.base");
    let vm = world.vm("web1").user("auto").guest(Login::Password);
    let vm = vm.line("use = web").line("kernelarg = own").monitor();
    vm.start();
    vm.wait_con0("GUEST-READY", 1);
    let kernel = vm.info()["kernel_pid"].as_u64().unwrap();
    let process = fs::metadata(format!("/proc/{kernel}")).unwrap();
    assert_eq!(
        (uid(&vm), process.uid(), process.gid()),
        (70_000, 70_000, 70_000)
    );
    let told = vm.umlwatch(&["-info"]).ok();
    assert!(told.contains("User ID    70000"), "{told}");
    assert!(told.contains("kernelarg = from.base  (template)"), "{told}");
    let arguments = fs::read(format!("/proc/{kernel}/cmdline")).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    assert!(
        arguments.contains(" from.base from.web own "),
        "{arguments}"
    );
    // What it has made itself, and what it has for the next start.
    let disk = fs::metadata(vm.file("jail/disks/0.dsk")).unwrap();
    assert_eq!(disk.uid(), 70_000);
    vm.kill();
    vm.end_monitor();
    vm.start_monitor().ok();
    assert_eq!(uid(&vm), 70_000);
}

#[test]
fn no_two_vms_have_the_same_user() {
    let Some(world) = World::new() else { return };
    world.global("user_pool = 70000-70001");
    let auto = |name| world.vm(name).user("auto");
    let (a, b) = (auto("a").monitor(), auto("b").monitor());
    let c = auto("c").configure();
    assert_eq!((uid(&a), uid(&b)), (70_000, 70_001));
    let refused = c.start_monitor().fails(1);
    assert!(
        refused.contains("no user ID from 70000 to 70001 is free"),
        "{refused}"
    );
    // With the directory of a VM goes its number.
    b.end_monitor();
    world.forget(&b);
    fs::remove_dir_all(b.file("")).unwrap();
    c.start_monitor().ok();
    assert_eq!(uid(&c), 70_001);
    // Somebody has copied the directory of another VM.
    c.end_monitor();
    fs::copy(a.file("uid"), c.file("uid")).unwrap();
    let refused = c.start_monitor().fails(1);
    assert!(
        refused.contains("the user ID 70000 of c also belongs to the VM a"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(a.file("uid")).unwrap(), "70000\n");
    let found = world.umladmin(&["check"]).stdout;
    assert!(!found.contains("vmuser"), "{found}");
}
