//! Tier real: faults of a whole host, which is the guest of a real kernel here. The ids are those of docs/TESTING.md.

#![allow(clippy::expect_used, clippy::panic)] // in functions beside the tests, too

use std::time::Duration;

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
const LIMITS: [&str; 3] = ["pids_limit = 64", "overhead_limit = 64", "cpu_limit = 50"];
const HOG: &str = "umlwatch vm1 -start-with fake=hog:100 -wait 30";
const HOGGED: &str =
    "ended by the host, as the VM used more memory than mem and overhead_limit allow";

/// What the log says before the reason.
const WITHOUT: &str = "WARN vm1: pids_limit counts all processes of the user, and overhead_limit and cpu_limit have no effect: ";

/// How many threads the VM can start.
#[track_caller]
fn threads(host: &mut InnerHost) -> u32 {
    let said =
        host.shell("echo bomb | umlwatch vm1 -connect con1 > /run/con1; cat /mnt/var/vm1/log/con0");
    let count = said.rsplit("bomb: ").next();
    let count = count.and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.expect("a bomb says how many")
}

/// A69
#[test]
fn a_program_of_the_host_gets_no_core_of_a_kernel() {
    let Some(mut host) = InnerHost::boot_with(&[]) else {
        return;
    };
    host.shell(
        "printf '#!/bin/sh\\ncat > /mnt/core.$1\\n' > /mnt/catch; chmod +x /mnt/catch\n\
         echo '|/mnt/catch %e' > /proc/sys/kernel/core_pattern",
    );
    // A limit of 0 stops no such program.
    host.shell("(ulimit -c 0; exec sleep 100) & echo $! > /run/sleeper");
    host.wait_for("cat /proc/$(cat /run/sleeper)/comm", "sleep");
    host.shell("kill -ABRT $(cat /run/sleeper)");
    host.wait_for("ls /mnt", "core.sleep");
    host.shell(&format!("umlmon vm1; {START}"));
    host.shell("kill -ABRT $(pidof fake_linux)");
    host.wait_for(INFO, "signal 6");
    let cores = host.shell("ls /mnt | grep core");
    assert_eq!(cores, "core.sleep\n");
    host.shell("umladmin stop");
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
    let shares = format!("{group}; cat cpu.max cpu.weight");
    assert_eq!(host.shell(&shares), "50000 100000\n100\n");
    let said = host.shell(INFO);
    assert!(said.contains("memory pids io cpu"), "{said}");
    let threads = threads(&mut host);
    assert!((32..64).contains(&threads), "{threads}");
    host.shell(&format!("umlwatch vm1 -kill -wait 30; {NO_GROUP}"));

    host.shell(HOG);
    for told in [INFO, LOG] {
        let said = host.shell(told);
        assert!(said.contains(HOGGED), "{said}");
    }
    host.shell(NO_GROUP);

    // A monitor that is killed together with its VM leaves the group, here with a process that was ended by the host.
    host.shell(&format!(
        "{START}; kill -9 $(cat /run/umlmon/vm1.pid) $(pidof fake_linux); while pidof fake_linux; do :; done\n\
         {group}; (echo 0 > cgroup.procs; exec tail /dev/zero) || true\n\
         grep -q 'oom_kill [1-9]' memory.events",
    ));
    // It may end before it counts as started; either way, that is not the end that the group counted.
    host.shell("umlmon vm1; umlwatch vm1 -start-with fake=kill-yourself -wait 30 || true");
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

/// How often the power is cut, and within how many milliseconds after something has been reported as saved.
const CUTS: u64 = 5;
const MOMENTS: u64 = 300;
/// Saves one value after the other, in a file with two of them: without a pause ten times, and then says so.
const SAVE: &str = "while :; do words=; last=$((n+10))\n\
    while [ $n -lt $last ]; do n=$((n+1)); words=\"$words -set mem=$n -del kernelarg -set kernelarg=number=$n\"; done\n\
    umlwatch vm1 $words; echo saved $n.; done";

/// The values of both parameters in the file of user changes; the second one may have been taken out.
#[track_caller]
fn saved(host: &mut InnerHost) -> (u32, Option<u32>) {
    let text = host.shell("cat /mnt/var/vm1/config");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("[vm1]"), "{text:?}");
    let (mut mem, mut argument) = (None, None);
    for line in lines {
        let (name, number) = line.rsplit_once(['=', ' ']).expect("a line is complete");
        let number = number.parse().expect("a number is complete");
        let value = match name {
            "mem =" => &mut mem,
            "kernelarg = number" => &mut argument,
            _ => panic!("{text:?}"),
        };
        assert_eq!(value.replace(number), None, "{text:?}");
    }
    (mem.expect("this one is always there"), argument)
}

/// F20. As with a real host, what the disk has not been given is lost with the power.
#[test]
fn a_power_cut_loses_nothing_that_was_reported_as_saved() {
    let network = "eth0 = host_to_host(proxy_if=h0,proxy_addr=10.9.0.1,guest_addr=10.9.0.2)";
    let lines = ["ubd0 = /disks/root.dsk", network];
    let Some(mut host) = InnerHost::boot_with(&lines) else {
        return;
    };
    // What the network of a VM needs of its host, each after those that it needs itself.
    let modules = "drivers/net/tun net/llc/llc net/802/stp lib/crc-ccitt net/ipv6/ipv6 net/bridge/bridge drivers/net/veth";
    let up = format!(
        "for module in {modules}; do busybox insmod /usr/lib/uml/modules/$(uname -r)/kernel/$module.ko; done\n\
         umlmon vm1; {START}"
    );
    host.shell(
        "umlmon vm1; umlwatch vm1 -disk-create /disks/root.dsk:1 -set mem=99 -set kernelarg=number=99\n\
         umladmin stop",
    );
    let mut last = 99;
    for cut in 0..CUTS {
        // With a disk and a network in use, which the power takes from it, too.
        host.shell(&format!(
            "{up}; umlwatch vm1 -del kernelarg 2> /run/not-set || true\n\
             umlwatch vm1 -set kernelarg=number={last}"
        ));
        host.begin(&format!("n={last}; {SAVE}"));
        host.expect(&format!("saved {}.", last + 10));
        // Any moment will do, the more of them the better.
        std::thread::sleep(Duration::from_millis(cut * MOMENTS / CUTS));
        let said = host.cut_power();
        let numbers = said.split("saved ").filter_map(|rest| rest.split_once('.'));
        let reported = numbers.filter_map(|(n, _)| n.parse().ok()).max();
        let reported = reported.unwrap_or(last + 10);
        host.boot();
        let (mem, argument) = saved(&mut host);
        // What was reported is there, and what was being saved is there as a whole or not at all.
        match argument {
            Some(argument) => assert!(argument == mem || argument + 1 == mem, "{argument}, {mem}"),
            None => assert!(mem > reported, "{mem}, reported was {reported}"),
        }
        assert!(
            argument.unwrap_or(mem - 1) >= reported,
            "{argument:?}, reported was {reported}"
        );
        last = mem;
    }
    host.shell(&format!("{up}; umladmin stop; ! [ -e /sys/class/net/h0 ]"));
}

/// Jumps the clock of the host is made to do: each is an argument of date(1), and relative to the time it has then.
const JUMPS: [&str; 3] = ["+1 day", "-2 days", "+1 day"];

/// Seconds since the boot, whatever the clock says.
const SECONDS: &str = "cut -d . -f 1 /proc/uptime";

/// The spans of time that `-info` shows: of the VM, and of the session on con1.
#[track_caller]
fn spans(host: &mut InnerHost) -> Vec<String> {
    let page = host.shell(INFO);
    let of = |begin: &str, end: &str| {
        let rest = page
            .split(begin)
            .nth(1)
            .and_then(|rest| rest.split(end).next());
        rest.expect("the page has it").trim().to_owned()
    };
    vec![
        of(" UTC (", ")"),
        of("  Uptime", ","),
        of(", for ", ","),
        of(", idle ", "\n"),
    ]
}

/// F30
#[test]
fn a_clock_that_jumps_moves_dates_and_nothing_else() {
    let Some(mut host) = InnerHost::boot_with(&[]) else {
        return;
    };
    host.shell(&format!("{GROUPS}; umlmon vm1; {START}"));
    host.shell(
        ": > /run/typed; tail -f /run/typed | umlwatch vm1 -connect con1 > /run/session 2>&1 &\n\
         until grep -q login /run/session; do :; done",
    );
    // A client that waits, for so long and no longer.
    host.shell(&format!(
        "(begun=$({SECONDS}); umlwatch vm1 -wait 3 2> /dev/null || echo $? $(($({SECONDS}) - begun)) > /run/waited) &"
    ));
    for jump in JUMPS {
        host.shell(&format!("date -s '{jump}'"));
        for span in spans(&mut host) {
            let (number, unit) = span.split_once(' ').expect("a number and its unit");
            let number: u32 = number.parse().expect("a number");
            assert!(unit == "s" && number < 60, "{jump}: {span}");
        }
        assert_eq!(host.shell("cat /run/waited 2> /dev/null || true"), "");
    }
    host.shell(
        "echo 'still here' >> /run/typed; until grep -q 'still here' /run/session; do :; done",
    );
    let waited = host.wait_for("cat /run/waited 2> /dev/null || true", "\n");
    let (status, seconds) = waited.trim().split_once(' ').expect("both");
    assert_eq!(status, "5", "the time was over");
    assert!(
        (2..30).contains(&seconds.parse().expect("a number")),
        "{seconds}"
    );

    // A guest that takes its time to shut down is given it.
    host.shell("echo hang-cad >> /run/typed; until grep -q hang-cad /run/session; do :; done");
    host.shell("umladmin -timeout 600 stop > /run/stopped 2>&1 &");
    host.wait_for("cat /mnt/var/vm1/log/con0", "CTRL-ALT-DEL is ignored");
    for jump in JUMPS {
        host.shell(&format!(
            "date -s '{jump}'; umlwatch vm1 -wait 1 || [ $? = 5 ]"
        ));
        let page = host.shell(INFO);
        assert!(page.contains("vm1 is running"), "{page}");
    }
    host.shell("echo poweroff >> /run/typed");
    let said = host.wait_for("cat /run/stopped", "vm1: down after ");
    assert!(said.ends_with(" s (CTRL-ALT-DEL)\n"), "{said}");
    let log = host.shell(LOG);
    assert!(
        log.contains("the kernel has ended: halted") && !log.contains("WARN"),
        "{log}"
    );
}

/// Takes the memory of the host, in a file, and cannot be ended itself, until the VM has gone. The last of it is taken
/// little by little, and without starting anything, for which there is no memory.
const STARVE: &str = r"kernel=$(pidof fake_linux); block=$(head -c 16K /dev/zero | tr '\0' x); cd /run
    mkdir full; mount -t tmpfs -o size=1g tmpfs full; echo -1000 > /proc/self/oom_score_adj
    left=$(sed -n 's/MemAvailable: *\([0-9]*\)... kB/\1/p' /proc/meminfo); head -c $((left - 8))M /dev/zero > full/file
    while [ -e /proc/$kernel/exe ]; do printf %s $block; done >> full/file
    : > full/file; umount full; rmdir full";

/// F24
#[test]
fn a_host_without_memory_ends_a_vm_sooner_than_its_monitor() {
    let lines = ["overhead_limit = 1000", "pids_limit = 64"];
    let Some(mut host) = InnerHost::boot_with(&lines) else {
        return;
    };
    // With such a VM the host gets back enough to go on.
    host.shell(&format!(
        "{GROUPS}; umlmon vm1; umlwatch vm1 -start-with fake=hog:24 -wait-ready 30"
    ));
    let monitor = host.shell("cat /run/umlmon/vm1.pid");
    let scores = host.shell(
        "for pid in $(cat /run/umlmon/vm1.pid) $(pidof fake_linux) self; do cat /proc/$pid/oom_score_adj; done\n\
         umlwatch vm1 -site /proc/self/oom_score_adj",
    );
    assert_eq!(scores, "-900\n0\n0\n0\n");
    // The process that uses all the memory is ended first.
    host.shell("tail /dev/zero || [ $? = 137 ]");
    let page = host.shell(INFO);
    assert!(page.contains("vm1 is running"), "{page}");

    host.shell(STARVE);
    assert_eq!(host.shell("cat /run/umlmon/vm1.pid"), monitor);
    for told in [INFO, LOG] {
        let said = host.wait_for(told, "inactive");
        assert!(
            said.contains("ended by the host, which had run out of memory"),
            "{said}"
        );
    }
    host.shell(&format!("{START}; umladmin stop"));
}

/// Input I8: swap, and a device that another device is made of.
#[test]
fn a_disk_that_is_swap_or_part_of_a_device_of_the_host_is_refused() {
    let lines = ["ubd0 = /disks/0.dsk", "ubd1 = /shared/disks/a.dev"];
    let Some(mut host) = InnerHost::boot_with(&lines) else {
        return;
    };
    host.shell(
        "cd /usr/lib/uml/modules/$(uname -r)/kernel/drivers; for module in block/loop md/dm-mod; do busybox insmod $module.ko; done\n\
         head -c 2M /dev/zero > /mnt/image; losetup /dev/loop0 /mnt/image\n\
         device='device = device_file(name=a.dev,target_file=/dev/loop0,group=nogroup)'\n\
         sed -i \"/GLOBAL/a $device\" /mnt/umlmon; umlmon vm1; cd /mnt/var/vm1/jail/disks\n\
         head -c 2M /dev/zero > 0.dsk; chown nobody 0.dsk; chmod 600 0.dsk",
    );
    let refusal = "umlwatch vm1 -start 2>&1 && exit 1; true";
    for (take, release, why) in [
        (
            "mkswap /mnt/var/vm1/jail/disks/0.dsk; swapon /mnt/var/vm1/jail/disks/0.dsk",
            "swapoff -a",
            "/disks/0.dsk is swap of the host (swapoff /mnt/var/vm1/jail/disks/0.dsk ends that)",
        ),
        (
            "mkswap /dev/loop0; swapon /dev/loop0",
            "swapoff -a",
            "/shared/disks/a.dev is swap of the host (swapoff /dev/loop0 ends that)",
        ),
        (
            "dmsetup --noudevsync create part --table '0 4096 linear /dev/loop0 0'",
            "dmsetup --noudevsync remove part",
            "/shared/disks/a.dev is in use by the host (lsblk /dev/block/7:0 shows for what)",
        ),
    ] {
        host.shell(take);
        let said = host.shell(refusal);
        assert!(said.contains(why), "{said}");
        host.shell(&format!("{release}; {START}; umlwatch vm1 -kill -wait 30"));
    }
    host.shell("umladmin stop");
}
