//! Tier real: faults of a whole host, which is the guest of a real kernel here. The ids are those of docs/TESTING.md.

#![allow(clippy::expect_used)] // in functions beside the tests, too

use e2e::InnerHost;

/// Where systemd and others have control groups.
const GROUPS: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
/// When it has ended, the VM is up.
const START: &str = "umlwatch vm1 -start -wait-ready 30";
const INFO: &str = "umlwatch vm1 -info";
const LOG: &str = "cat /mnt/var/vm1/log/monitor";
/// Fails if there is a control group of the suite.
const NO_GROUP: &str = "! [ -e /sys/fs/cgroup/umlmon ]";

/// A VM with these limits takes more memory than it may when it is told so.
const LIMITS: [&str; 2] = ["pids_limit = 64", "overhead_limit = 64"];
const HOG: &str = "umlwatch vm1 -start-with fake=hog:100 -wait 30";
const HOGGED: &str =
    "ended by the host, as the VM used more memory than mem and overhead_limit allow";

/// What the log says before the reason.
const WITHOUT: &str =
    "WARN vm1: pids_limit counts all processes of the user, and overhead_limit has no effect: ";

/// How many threads the VM can start.
#[track_caller]
fn threads(host: &mut InnerHost) -> u32 {
    let said =
        host.shell("echo bomb | umlwatch vm1 -connect con1 > /run/con1; cat /mnt/var/vm1/log/con0");
    let count = said.rsplit("bomb: ").next();
    let count = count.and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.expect("a bomb says how many")
}

/// A43
#[test]
fn control_groups_of_version_2_bound_a_vm() {
    let Some(mut host) = InnerHost::boot_with(&LIMITS) else {
        return;
    };
    host.shell(GROUPS);
    // As a service has it: in a group of its own, which may have no groups below it.
    host.shell(
        "service=/sys/fs/cgroup/system.slice/vm1.service; mkdir -p $service\n\
         echo 0 > $service/cgroup.procs; umlmon vm1",
    );
    host.shell(START);
    let group = "cd /sys/fs/cgroup/umlmon/vm1-*";
    let limits = format!("{group}; cat pids.max memory.max");
    assert_eq!(host.shell(&limits), format!("64\n{}\n", (16 + 64) << 20));
    let members = format!("{group}; for pid in $(cat cgroup.procs); do cat /proc/$pid/comm; done");
    assert_eq!(host.shell(&members), "umlmon\nfake_linux\n");
    let threads = threads(&mut host);
    assert!((32..64).contains(&threads), "{threads}");
    host.shell(&format!("umlwatch vm1 -kill -wait 30; {NO_GROUP}"));

    host.shell(HOG);
    for told in [INFO, LOG] {
        let said = host.shell(told);
        assert!(said.contains(HOGGED), "{said}");
    }
    host.shell(NO_GROUP);

    // A monitor that is killed leaves its group, here with a process of it that was ended by the host.
    host.shell(&format!(
        "{START}; pid=$(cat /run/umlmon/vm1.pid); kill -9 $pid; while pidof fake_linux; do :; done\n\
         {group}; (echo 0 > cgroup.procs; exec tail /dev/zero) || true\n\
         grep -q 'oom_kill [1-9]' memory.events",
    ));
    host.shell("umlmon vm1; umlwatch vm1 -start-with fake=kill-yourself -wait 30");
    let said = host.shell(INFO);
    assert!(said.contains("ended by signal 9"), "{said}");
    host.shell(&format!("umladmin stop; {NO_GROUP}"));

    // In a container: the root of its control groups is one with processes, and stays as it is.
    host.shell(
        "mkdir /sys/fs/cgroup/container; echo 0 > /sys/fs/cgroup/container/cgroup.procs\n\
         echo +memory +pids > /sys/fs/cgroup/cgroup.subtree_control\n\
         unshare --cgroup --mount sh -ec 'umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         umlmon -config /mnt/umlmon vm1'",
    );
    host.shell(START);
    let said = host.shell(LOG);
    let why = format!("{WITHOUT}/sys/fs/cgroup: processes are in this group itself");
    assert!(said.contains(&why), "{said}");
    host.shell(
        "umladmin stop; cd /sys/fs/cgroup/container; ! [ -e umlmon ]; ! grep . cgroup.subtree_control",
    );
}

/// A43
#[test]
fn where_a_control_group_cannot_be_had_a_vm_runs_without() {
    let Some(mut host) = InnerHost::boot_with(&LIMITS) else {
        return;
    };
    host.shell(&format!("umlmon vm1; {START}"));
    let said = host.shell(LOG);
    let none = format!("{WITHOUT}no hierarchy of control groups has memory");
    assert!(said.contains(&none), "{said}");
    // With one other process of the user.
    let threads = threads(&mut host);
    assert!((32..63).contains(&threads), "{threads}");
    host.shell("umladmin stop");

    // A mixture of versions.
    host.shell(
        "cd /sys/fs/cgroup; mount -t tmpfs tmpfs .; cd .; mkdir first second\n\
         mount -t cgroup -o memory memory first; mount -t cgroup2 cgroup2 second",
    );
    host.shell(&format!("umlmon vm1; {START}"));
    let said = host.shell(
        "cd /sys/fs/cgroup; cat second/umlmon/*/pids.max first/umlmon/*/memory.limit_in_bytes",
    );
    assert_eq!(said, format!("64\n{}\n", (16 + 64) << 20));
    host.shell(&format!("umlwatch vm1 -kill -wait 30; {HOG}"));
    let said = host.shell(INFO);
    assert!(said.contains(HOGGED), "{said}");
    host.shell(
        "umladmin stop; cd /sys/fs/cgroup; ! ls -d */umlmon; umount first second; cd /; umount /sys/fs/cgroup",
    );
}
