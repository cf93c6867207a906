//! Tier root: networks, limits and scheduling, with a fake kernel. Set-up on the host, every way to undo it, and what
//! is refused.
#![allow(clippy::unwrap_used, reason = "all of it is test")]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::network::{enter, ip, ip_of, join_lan, snapshot};
use e2e::{Vm, World, kill_with_vm, run, wait_for};

const H2H: &str = "eth0 = host_to_host(proxy_if=h0,proxy_addr=10.9.0.1,guest_addr=10.9.0.2,host_if=lan0,\
                   guest_hwaddr=pool,mtu=9000)";
const BRIDGED: &str =
    "eth1 = bridged(bridge_if=br0,proxy_if=b0,proxy_hwaddr=pool,guest_hwaddr=0A:00:00:00:00:01)";

/// A world on a host with a LAN and a bridge.
fn world() -> Option<World> {
    let world = World::new()?;
    enter();
    join_lan();
    ip("link add br0 type bridge");
    ip("link set br0 up");
    Some(world)
}

/// No VM holds anything of the network.
fn no_leases(world: &World) {
    let directory = world.path().join("var/shared/macpool");
    let names = fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let leases: Vec<String> = names.filter(|name| name.contains("lease")).collect();
    assert_eq!(leases, [""; 0]);
}

/// Waits for the kernel's end, and asserts that the host is as it was.
#[track_caller]
fn is_undone(world: &World, vm: &Vm<'_>, before: &str) {
    vm.wait_inactive();
    assert_eq!(snapshot(), before);
    no_leases(world);
}

#[test]
fn networks_are_there_before_the_kernel_and_gone_after_every_end() {
    let Some(world) = world() else { return };
    let before = snapshot();
    let vm = world.vm("vm1").con(1).line(H2H).line(BRIDGED).monitor();
    let mut console = vm.connect("con1");
    let ends = ["poweroff", "crash", "panic:x", "exit:3", "kill-yourself"];
    for end in ends {
        vm.start();
        console.send(&format!("{end}\n"));
        is_undone(&world, &vm, &before);
    }
    for end in ["-kill", "-halt", "-ctrlaltdel"] {
        vm.start();
        vm.umlwatch(&[end]).ok();
        is_undone(&world, &vm, &before);
    }
    vm.start();
    let said = vm.con0();
    let arguments = said.lines().rfind(|line| line.contains("mem=64M")).unwrap();
    let wanted = "vec0:transport=tap,ifname=h0,depth=128,gro=1,mac=0a:12:bc:af:32:00,mtu=9000 \
                  vec1:transport=tap,ifname=b0,depth=128,gro=1,mac=0a:00:00:00:00:01";
    assert!(arguments.contains(wanted), "{arguments}");
    let h0 = ip("-d addr show h0");
    for part in ["mtu 9000", "inet 10.9.0.1 peer 10.9.0.2/32", "veth"] {
        assert!(h0.contains(part), "{part}: {h0}");
    }
    // The tap is where the kernel is.
    let tap = ip_of(vm.pid("kernel_pid"), "-d addr show h0");
    for part in ["mtu 9000", "tap", "user nobody", "persist on"] {
        assert!(tap.contains(part), "{part}: {tap}");
    }
    assert!(!tap.contains("inet"), "{tap}");
    assert!(ip("route get 10.9.0.2").contains("dev h0"));
    assert!(ip("neigh show proxy").contains("10.9.0.2 dev lan0"));
    for name in ["h0", "lan0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
        assert_eq!(fs::read_to_string(path).unwrap(), "1\n");
    }
    let b0 = ip("link show b0");
    assert!(
        b0.contains("master br0") && b0.contains("0a:12:bc:af:32:01"),
        "{b0}"
    );
    let link = &vm.info()["nics"][0]["link"];
    assert_eq!(link["guest_if"], "vec0");
    assert_eq!(link["guest_addr"], "10.9.0.2");
    assert_eq!(link["guest_hwaddr"], "0A:12:BC:AF:32:00");
    let list = world.umladmin(&["list"]).ok();
    assert!(list.contains("vec0 10.9.0.2, vec1 br0"), "{list}");

    vm.umlwatch(&["-kill"]).ok();
    is_undone(&world, &vm, &before);

    // A kernel that gives up at once.
    world.forget(&vm);
    console.leave();
}

/// Inputs I6
#[test]
fn networks_are_set_up_where_the_settings_of_the_kernel_are_read_only() {
    let Some(world) = world() else { return };
    let before = snapshot();
    let vm = world.vm("vm1").line(H2H).line(BRIDGED).monitor();
    vm.end_monitor();
    let read_only =
        "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec \"$@\"";
    let mut container = Command::new("unshare");
    container.args(["--mount", "sh", "-c", read_only, "sh"]);
    let umlmon = world.command("umlmon", &["vm1"]);
    run(container.arg(umlmon.get_program()).args(umlmon.get_args())).ok();
    vm.start();
    for (name, value) in [
        ("ipv4/conf/lan0/forwarding", "1\n"),
        ("ipv6/conf/b0/disable_ipv6", "1\n"),
    ] {
        assert_eq!(
            fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap(),
            value
        );
    }
    vm.umlwatch(&["-kill"]).ok();
    wait_for("the host is as it was", || {
        (snapshot() == before).then_some(())
    });
    no_leases(&world);
}

#[test]
fn a_guest_that_reboots_keeps_its_interfaces() {
    let Some(world) = world() else { return };
    let before = snapshot();
    let vm = world.vm("vm1").con(1).line(H2H).line(BRIDGED).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    let index = |text: String| text.split(':').next().map(str::to_owned);
    let first = index(ip("link show h0"));
    console.send("reboot\n");
    vm.wait_con0("GUEST-READY", 2);
    assert_eq!(index(ip("link show h0")), first);
    // Unless somebody has removed one. What to make is known from the start, whatever the file says by now.
    let text = fs::read_to_string(world.configuration()).unwrap();
    fs::write(
        world.configuration(),
        format!("{text}\n[vm2]\nmem = much\n"),
    )
    .unwrap();
    ip("link delete b0");
    console.send("reboot\n");
    vm.wait_con0("GUEST-READY", 3);
    assert_ne!(index(ip("link show h0")), first);
    fs::write(world.configuration(), text).unwrap();
    console.leave();
    vm.umlwatch(&["-kill"]).ok();
    is_undone(&world, &vm, &before);
}

#[test]
fn what_cannot_be_is_refused_before_the_kernel_runs() {
    let Some(world) = world() else { return };
    ip("tuntap add dev taken mode tap");
    ip("route add 10.9.0.9/32 dev lan0");
    ip("neigh add proxy 10.9.0.10 dev lan0");
    let before = snapshot();
    let h2h = |more: &str| format!("host_to_host(proxy_if=h0,{more})");
    let refused = [
        (
            "bridged(bridge_if=br9,proxy_if=b0)".to_owned(),
            "eth0: bridge_if: the host has no interface br9; make it first (ip link add br0 type bridge",
        ),
        (
            "bridged(bridge_if=lan0,proxy_if=b0)".to_owned(),
            "eth0: bridge_if: lan0 is not a bridge",
        ),
        (
            "bridged(bridge_if=br0,proxy_if=taken)".to_owned(),
            "eth0: proxy_if: the host already has an interface taken, not made by UMLMON",
        ),
        (
            h2h("proxy_addr=10.8.0.1,guest_addr=10.9.0.2"),
            "eth0: proxy_addr: the host itself has the address 10.8.0.1",
        ),
        (
            h2h("proxy_addr=10.9.0.1,guest_addr=10.9.0.9"),
            "eth0: guest_addr: the host already has a route to the address 10.9.0.9",
        ),
        (
            h2h("proxy_addr=10.9.0.1,guest_addr=10.9.0.2,host_if=lan9"),
            "eth0: host_if: the host has no interface lan9",
        ),
        (
            h2h("proxy_addr=10.9.0.1,guest_addr=10.9.0.10,host_if=lan0"),
            "lan0 already has an entry for 10.9.0.10 (ip neigh show proxy",
        ),
    ];
    for (n, (nic, why)) in refused.iter().enumerate() {
        // With a second one that is right: nothing of it may stay.
        let vm = world
            .vm(&format!("vm{n}"))
            .line(&format!("eth0 = {nic}"))
            .line("eth1 = bridged(bridge_if=br0,proxy_if=fine,guest_hwaddr=pool)")
            .monitor();
        let said = vm.umlwatch(&["-start"]).fails(1);
        assert!(said.contains(why), "{why}\n{said}");
        assert!(!vm.con0().contains("Linux version"), "the kernel has run");
        is_undone(&world, &vm, &before);
    }
}

#[test]
fn a_foreign_tap_is_told_with_who_holds_it() {
    let Some(world) = world() else { return };
    let held = sys::open_tap("b0").unwrap();
    let vm = world.vm("vm1").line(BRIDGED).monitor();
    let said = vm.umlwatch(&["-start"]).fails(1);
    let holder = format!("open in process {}", std::process::id());
    assert!(said.contains(&holder), "{said}");
    drop(held);
    vm.start();
    vm.kill();
}

#[test]
fn two_vms_have_nothing_in_common() {
    let Some(world) = world() else { return };
    world.global("pool = mac_pool(first_mac_address=0A:00:00:00:01:00,number=2)");
    let nic = |n: u8| format!("eth0 = bridged(bridge_if=br0,proxy_if=b{n},guest_hwaddr=pool)");
    let before = snapshot();
    let mac = |vm: &Vm<'_>| vm.info()["nics"][0]["link"]["guest_hwaddr"].clone();
    let one = world.vm("vm1").line(&nic(1)).monitor();
    let two = world.vm("vm2").line(&nic(2)).monitor();
    let three = world.vm("vm3").line(&nic(3)).monitor();
    let clashing = [
        "eth0 = bridged(bridge_if=br0,proxy_if=b4,guest_hwaddr=0A:00:00:00:01:00)",
        "eth0 = bridged(bridge_if=br0,proxy_if=b1)",
    ]
    .map(|line| world.vm(&format!("vm{}", line.len())).line(line).monitor());
    one.start();
    two.start();
    let (first, second) = (mac(&one), mac(&two));
    assert_ne!(first, second);
    let said = three.umlwatch(&["-start"]).fails(1);
    assert!(
        said.contains("eth0: all 2 addresses of the pool from 0A:00:00:00:01:00 on are in use"),
        "{said}"
    );
    one.umlwatch(&["-kill"]).ok();
    two.umlwatch(&["-kill"]).ok();
    one.wait_inactive();
    two.wait_inactive();
    // Each gets its own again, in whatever order they start.
    two.start();
    assert_eq!(mac(&two), second);
    one.start();
    assert_eq!(mac(&one), first);
    for vm in &clashing {
        let said = vm.umlwatch(&["-start"]).fails(1);
        assert!(said.contains("is in use by vm1 as"), "{said}");
    }
    // Damage of the memory costs nothing but the memory.
    let remembered = world.path().join("var/shared/macpool/remembered");
    fs::write(remembered, "\0{").unwrap();
    one.kill();
    one.start();
    assert_ne!(mac(&one), mac(&two));
    for vm in [&one, &two] {
        vm.kill();
    }
    assert_eq!(snapshot(), before);
    no_leases(&world);
}

#[test]
fn what_is_left_of_a_vm_without_a_monitor_stops_nobody() {
    let Some(world) = world() else { return };
    let before = snapshot();
    let vm = world.vm("vm1").line(H2H).line(BRIDGED).monitor();
    let other = world
        .vm("vm2")
        .line("eth0 = bridged(bridge_if=br0,proxy_if=b2)")
        .monitor();
    let abandon = || {
        vm.start();
        kill_with_vm(&vm);
    };
    abandon();
    vm.start_monitor().ok();
    vm.start();
    vm.umlwatch(&["-kill"]).ok();
    is_undone(&world, &vm, &before);
    // Also another VM cleans up.
    abandon();
    other.start();
    let links = ip("-o link show");
    assert!(!links.contains(": h0:"), "{links}");
    other.umlwatch(&["-kill"]).ok();
    is_undone(&world, &other, &before);
    // Even if the record is lost, the interface is known.
    vm.start_monitor().ok();
    abandon();
    fs::remove_file(world.path().join("var/shared/macpool/vm1.lease")).unwrap();
    ip("neigh del proxy 10.9.0.2 dev lan0");
    vm.start_monitor().ok();
    vm.start();
    vm.kill();
}

#[test]
fn a_hundred_lives_leave_nothing() {
    let Some(world) = world() else { return };
    let before = snapshot();
    let vm = world.vm("vm1").line(H2H).line(BRIDGED).monitor();
    for _ in 0..100 {
        vm.umlwatch(&["-start", "-kill", "-wait", "60"]).ok();
    }
    is_undone(&world, &vm, &before);
    let monitor = vm.monitor_pid();
    let open = fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count();
    assert!(open < 40, "{open} descriptors");
}

/// What is in the network namespace of a process.
fn interfaces(pid: i32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    let names = table
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn no_vm_sees_the_network_of_the_host() {
    let Some(world) = world() else { return };
    let none = world.vm("vm1").monitor();
    let inherited = world.vm("vm2").line("transport = fd").line(H2H).monitor();
    let attached = world.vm("vm3").line(BRIDGED).monitor();
    for vm in [&none, &inherited] {
        vm.start();
        for name in ["child_pid", "kernel_pid"] {
            assert_eq!(interfaces(vm.pid(name)), ["lo"]);
        }
        // The kernel is still spoken with.
        assert_eq!(vm.info()["responding"], true);
    }
    let said = inherited.con0();
    assert!(
        said.contains("vec0:transport=fd,fd=4,vec=0,mac=0a:12:bc:af:32:00,mtu=9000"),
        "{said}"
    );
    let links = fs::read_dir(format!("/proc/{}/fd", inherited.pid("kernel_pid"))).unwrap();
    let links = links.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    let taps = links.filter(|link| link.ends_with("net/tun")).count();
    assert_eq!(taps, 1);
    attached.start();
    let mut seen = interfaces(attached.pid("kernel_pid"));
    seen.sort();
    assert_eq!(seen, ["+1", "b0", "lo", "veth0"]);
    // Of its own, it has neither an address nor a way to one.
    let kernel = attached.pid("kernel_pid");
    assert_eq!(
        ip_of(kernel, "-o addr show") + &ip_of(kernel, "route show table all"),
        ""
    );
    assert_eq!(attached.info()["responding"], true);
    for vm in [&none, &inherited, &attached] {
        assert!(walls(vm).contains(&"network".to_owned()));
        vm.kill();
    }
}

/// What `-info` says that keeps a VM apart.
fn walls(vm: &Vm<'_>) -> Vec<String> {
    let info = vm.info();
    let words = info
        .get("confined_by")
        .and_then(|words| words.as_str())
        .unwrap();
    words.split(' ').map(str::to_owned).collect()
}

/// A57
#[test]
fn text_of_the_kernel_s_own_needs_the_network_of_the_host_and_it_is_told() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line("eth0 = tuntap,tap7").monitor();
    assert_eq!(vm.info()["confined_by"], "");
    vm.start();
    assert!(interfaces(vm.pid("kernel_pid")).len() > 1);
    let walls = walls(&vm);
    assert_eq!(walls[..2], ["namespaces", "seccomp"]);
    assert!(vm.umlwatch(&["-info"]).ok().contains(&walls.join(" ")));
    vm.kill();
    let file = world.configuration();
    let said = run(&mut world.command("umladmin", &["check", file.to_str().unwrap()])).stdout;
    assert!(
        said.contains("note: vm1 is in the network namespace of the host"),
        "{said}"
    );
}

#[test]
fn a_kernel_without_the_driver_is_refused() {
    let Some(world) = world() else { return };
    let kernel = world.path().join("bare");
    let mut bytes = fs::read(e2e::program("fake_linux")).unwrap();
    let text = b"vec[0-9]+:<option>=";
    let at = bytes.windows(text.len()).position(|part| part == text);
    bytes[at.unwrap()] = b'X';
    fs::write(&kernel, bytes).unwrap();
    run(std::process::Command::new("chmod").arg("755").arg(&kernel)).ok();
    let vm = world
        .vm("vm1")
        .kernel(&kernel)
        .line(BRIDGED)
        .line("transport = vec")
        .monitor();
    let said = vm.umlwatch(&["-start"]).fails(1);
    assert!(
        said.contains("has no driver for transport = vec; use transport = tuntap"),
        "{said}"
    );
    let auto = world.vm("vm2").kernel(&kernel).line(BRIDGED).monitor();
    assert_eq!(auto.info()["nics"][0]["note"], "the guest sees eth1");
    auto.start();
    assert!(auto.con0().contains("eth1=tuntap,b0,0a:00:00:00:00:01"));
    auto.kill();
}

#[test]
fn a_bomb_in_one_vm_hurts_no_other() {
    let Some(world) = world() else { return };
    let bombed = world.vm("vm1").con(1).line("pids_limit = 64").monitor();
    let other = world.vm("vm2").monitor();
    bombed.start();
    other.start();
    let mut console = bombed.connect("con1");
    console.send("bomb\n");
    bombed.wait_con0("bomb: ", 1);
    let said = bombed.con0();
    let count = said.split("bomb: ").nth(1).unwrap();
    let count: u32 = count.split(' ').next().unwrap().parse().unwrap();
    assert!(count < 64, "{count} threads");
    // Both monitors answer, and the VM of the same user can be started anew.
    assert_eq!(bombed.info()["responding"], true);
    other.kill();
    other.start();
    console.leave();
    for vm in [&bombed, &other] {
        vm.kill();
    }
}

/// A61
#[test]
fn a_thousand_busy_processes_in_one_vm_leave_another_its_share() {
    let Some(world) = world() else { return };
    // On any processor: they must meet.
    let vm = |name| world.vm(name).con(1).line("affinity = none");
    let busy = vm("vm1").line("pids_limit = 1100").monitor();
    let other = vm("vm2").monitor();
    for vm in [&busy, &other] {
        vm.start();
    }
    let in_force = other.info()["bounded_by"].as_str().unwrap().to_owned();
    if !in_force.contains("cpu") {
        for vm in [&busy, &other] {
            vm.kill();
        }
        return e2e::skip("needs the controller cpu");
    }
    let spin = |vm: &Vm<'_>, threads: usize| {
        let mut console = vm.connect("con1");
        console.send(&format!("spin:{threads}\n"));
        vm.wait_con0(&format!("spin: {threads} threads"), 1);
        console.leave();
    };
    // Enough for all processors, in both, however the scheduler spreads them.
    spin(&busy, 1000);
    spin(
        &other,
        4 * std::thread::available_parallelism().unwrap().get(),
    );
    // Ticks of processor time that a kernel has had (proc_pid_stat(5): fields 14 and 15).
    let kernels = [&busy, &other].map(|vm| vm.pid("kernel_pid"));
    let had = || {
        kernels.map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields = stat.rsplit(')').next().unwrap().split_whitespace();
            let ticks = fields.skip(11).take(2);
            ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
        })
    };
    let before: [u64; 2] = had();
    // Meanwhile the monitor answers as if nothing were; whatever else the machine does may disturb some of them.
    let asked = |_| {
        let begin = Instant::now();
        other.umlwatch(&["-info"]).ok();
        begin.elapsed()
    };
    let quickest = (0..20).map(asked).min().unwrap();
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
    // A tenth of a percent of the time would be its share by the number of threads.
    let [of_busy, of_other] = wait_for("enough time to judge", || {
        let now = had();
        let [of_busy, of_other] = [now[0] - before[0], now[1] - before[1]];
        (of_busy + of_other >= 600).then_some([of_busy, of_other])
    });
    assert!(
        of_other * 4 >= of_busy + of_other,
        "{of_other} ticks of {}",
        of_busy + of_other
    );
    for vm in [&busy, &other] {
        vm.kill();
    }
}

#[test]
fn the_scheduler_holds_for_both_processes() {
    let Some(world) = world() else { return };
    // Nice value and policy (proc_pid_stat(5): fields 19 and 41; 2 is SCHED_RR), priority (field 40).
    let of = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let fields: Vec<i32> = fields.map(|field| field.parse().unwrap_or(0)).collect();
        (fields[16], fields[38], fields[37])
    };
    for (line, wanted) in [
        ("scheduler = sched_default(prio=7)", (7, 0, 0)),
        ("scheduler = sched_default(prio=-5)", (-5, 0, 0)),
        ("scheduler = sched_rr(prio=3)", (0, 2, 3)),
    ] {
        let vm = world.vm("vm1").line(line).monitor();
        vm.start();
        for name in ["child_pid", "kernel_pid"] {
            assert_eq!(of(vm.pid(name)), wanted, "{line}: {name}");
        }
        vm.kill();
        run(&mut world.command("umladmin", &["stop", "vm1"])).ok();
    }
}
