//! Tier real: several guests that are commanded together, by a group and by a pattern.

use e2e::{Login, World};

#[test]
fn a_group_is_booted_restarted_and_killed() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vms = ["web1", "web2"].map(|name| {
        let vm = world.vm(name).con(1).guest(Login::Password);
        vm.line("group = ci").monitor()
    });
    world.umladmin(&["boot", "web?"]).ok();
    for vm in &vms {
        vm.wait_con0("GUEST-READY", 1);
    }
    world.umladmin(&["-timeout", "60", "restart", "@ci"]).ok();
    for vm in &vms {
        vm.wait_con0("GUEST-READY", 2);
        assert!(
            vm.con0().contains("GUEST-SHUTDOWN"),
            "it shut down by itself"
        );
        assert_eq!(vm.last_end().0, "halted");
    }
    world.umladmin(&["kill", "*2"]).ok();
    assert_eq!([vms[0].state(), vms[1].state()], ["running", "inactive"]);
    world.umladmin(&["-timeout", "60", "stop", "@ci"]).ok();
}
