//! Tier real: the memory of a guest while it runs: what it has, and what the host gets back.

use e2e::{Login, Vm, World, wait_for};
use rustix::fs::statvfs;
use serde_json::Value;

const MB: u64 = 1 << 20;

fn guest(world: &World) -> Vm<'_> {
    let vm = world.vm("vm1").con(1).mem(128).guest(Login::Password);
    let vm = vm.monitor();
    vm.umlwatch(&["-start", "-exec", "true"]).ok();
    vm
}

/// A number of `-info -json`.
fn number(vm: &Vm<'_>, name: &str) -> u64 {
    let info = vm.info();
    info.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// Has the guest use so many megabytes for a moment.
fn use_memory(vm: &Vm<'_>, megabytes: u64) {
    let script = format!(
        "mount -t tmpfs -o size=120m none /mnt && dd if=/dev/zero of=/mnt/x bs=1M count={megabytes} 2> /dev/null; \
         status=$?; umount /mnt; exit $status"
    );
    vm.umlwatch(&["-exec", "sh", "-c", &script]).ok();
}

#[test]
fn memory_is_taken_from_a_guest_and_given_back() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    use_memory(&vm, 60);
    let (used, available) = (number(&vm, "mem_used"), number(&vm, "mem_available"));
    assert!(used > 60 * MB, "{used}");
    vm.umlwatch(&["-mem", "64"]).ok();
    assert_eq!(number(&vm, "mem_now_mb"), 64);
    let page = vm.umlwatch(&["-info"]).ok();
    assert!(page.contains("64 MB of 128 MB, "), "{page}");
    assert!(page.contains(" available in the guest"), "{page}");
    let (less_used, less_available) = (number(&vm, "mem_used"), number(&vm, "mem_available"));
    assert!(less_used + 40 * MB < used, "{less_used} after {used}");
    let taken = available - less_available;
    assert!((60 * MB..68 * MB).contains(&taken), "{taken}");

    // Nothing changes by what cannot be.
    for (wish, why) in [
        ("129", "the VM was started with 128 MB"),
        ("12", "the guest uses too much of its 64 MB; it can have "),
    ] {
        let refused = vm.umlwatch(&["-mem", wish]).fails(1);
        assert!(refused.contains(why), "{refused}");
        assert_eq!(number(&vm, "mem_now_mb"), 64);
    }
    vm.umlwatch(&["-suspend"]).ok();
    let refused = vm.umlwatch(&["-mem", "128"]).fails(1);
    assert!(refused.contains("suspended"), "{refused}");
    vm.umlwatch(&["-continue", "-mem", "128"]).ok();
    assert_eq!(number(&vm, "mem_now_mb"), 128);
    use_memory(&vm, 60);

    // Another kernel has all of it.
    vm.umlwatch(&["-mem", "64"]).ok();
    vm.kill();
    vm.umlwatch(&["-start"]).ok();
    assert_eq!(number(&vm, "mem_now_mb"), 128);
    vm.kill();
}

#[test]
fn an_idle_guest_gives_memory_back_by_itself() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").mem(128).line("memory = elastic");
    let vm = vm.guest(Login::Password).monitor();
    vm.umlwatch(&["-start", "-exec", "true"]).ok();
    use_memory(&vm, 60);
    let before = number(&vm, "mem_used");
    assert!(before > 60 * MB, "{before}");
    // It takes half a minute.
    let tmp = vm.file("jail/tmp");
    wait_for("the memory of an idle guest", || {
        // A guest that is asked about it all the time is not idle.
        let all = statvfs(&tmp).unwrap();
        ((all.f_blocks - all.f_bfree) * all.f_frsize < 32 * MB).then_some(())
    });
    assert_eq!(number(&vm, "mem_now_mb"), 128);
    // What it needs, it has at once.
    use_memory(&vm, 90);
    vm.kill();
}

#[test]
fn what_a_guest_does_not_use_is_reclaimed() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    use_memory(&vm, 60);
    // A disk in its cache, too.
    vm.umlwatch(&["-exec", "cat /dev/ubda > /dev/null"]).ok();
    let before = number(&vm, "mem_used");
    let said = vm.umlwatch(&["-reclaim"]).ok();
    assert!(
        said.contains("are no memory of the host any more"),
        "{said}"
    );
    let after = number(&vm, "mem_used");
    assert!(
        before > 70 * MB && after < 32 * MB,
        "{before}, then {after}"
    );
    assert_eq!(number(&vm, "mem_now_mb"), 128);
    assert!(number(&vm, "mem_available") > 90 * MB);
    use_memory(&vm, 60);
    vm.kill();
}
