//! Tier real: interfaces of network namespaces that somebody else has made, as those of VMs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use e2e::host::install_below;
use e2e::network::{enter, ip};
use e2e::{
    Login, Shell, Vm, World, kill_monitor, kill_with_vm, outlives, processes_that_stay,
    real_kernel, run, wait_for,
};

/// What is transferred in each direction.
const LOAD: usize = 8 << 20;

/// A network namespace with an interface eth0, as a container engine makes them. The other end of that is pod0.
struct Pod {
    file: PathBuf,
}

impl Pod {
    fn make(world: &World) -> Pod {
        let file = world.path().join("pod");
        fs::write(&file, "").unwrap();
        let net = format!("--net={}", file.display());
        run(Command::new("unshare").args([&net, "true"])).ok();
        let pod = Pod { file };
        let at = pod.file.display();
        for words in [
            "link add pod0 type veth peer name pod1",
            &format!("link set pod1 netns {at} name eth0"),
            "addr add 10.1.0.1/24 dev pod0",
            "addr add fd00:1::1/64 dev pod0 nodad",
            "link set pod0 mtu 1400 up",
        ] {
            ip(words);
        }
        for words in [
            "ip link set eth0 mtu 1400 address 0a:58:0a:01:00:05 up",
            "ip addr add 10.1.0.5/24 dev eth0",
            "ip addr add fd00:1::5/64 dev eth0 nodad",
            "ip route add default via 10.1.0.1",
            "ip route add default via fd00:1::1",
        ] {
            pod.run(words);
        }
        pod
    }

    /// Runs a command in it.
    #[track_caller]
    fn run(&self, words: &str) -> String {
        let net = format!("--net={}", self.file.display());
        run(Command::new("nsenter").arg(net).args(words.split(' '))).ok()
    }

    /// All that a VM could leave in it.
    fn snapshot(&self) -> String {
        let looks = [
            "ip -o link show",
            "ip -4 -o addr show",
            "ip -4 route show",
            "tc qdisc show",
            "tc filter show dev eth0 ingress",
        ];
        looks.map(|words| self.run(words)).concat()
    }

    fn nic(&self) -> String {
        format!("netns(path={},if=eth0)", self.file.display())
    }

    fn line(&self) -> String {
        format!("eth0 = {}", self.nic())
    }

    fn remove(&self) {
        run(Command::new("umount").arg(&self.file)).ok();
    }
}

/// What the kernel of the VM was told of its interface.
const TOLD: &str = "umlmon.net0=name:eth0,addr:10.1.0.5/24,addr:fd00:1::5/64,route:0.0.0.0/0/10.1.0.1,\
                    route:10.1.0.0/24//10.1.0.5,route:fd00:1::/64,route:::/0/fd00:1::1";

#[track_caller]
fn is_given_back(pod: &Pod, vm: &Vm<'_>, before: &str) {
    vm.wait_inactive();
    assert_eq!(pod.snapshot(), before);
}

#[test]
fn an_interface_is_given_back_after_every_end() {
    let Some(world) = World::new() else { return };
    enter();
    let pod = Pod::make(&world);
    let before = pod.snapshot();
    let vm = world.vm("vm1").con(1).line(&pod.line()).monitor();
    let other = world.vm("vm2").line(&pod.line()).monitor();
    let mut console = vm.connect("con1");
    for end in ["poweroff", "crash", "panic:x", "kill-yourself"] {
        vm.start();
        assert_ne!(pod.snapshot(), before);
        console.send(&format!("{end}\n"));
        is_given_back(&pod, &vm, &before);
    }
    vm.start();
    let said = vm.con0();
    let arguments = said.lines().rfind(|line| line.contains("mem=64M")).unwrap();
    assert!(
        arguments.contains(",vec=0,mac=0a:58:0a:01:00:05,mtu=1400"),
        "{arguments}"
    );
    assert!(arguments.contains(TOLD), "{arguments}");
    let link = &vm.info()["nics"][0]["link"];
    assert_eq!(link["transport"], "fd");
    assert_eq!(link["guest_addr"], "10.1.0.5");
    let tap = link["proxy_if"].as_str().unwrap().to_owned();
    assert!(pod.run(&format!("ip -o addr show {tap}")).is_empty());
    assert!(pod.run(&format!("ip link show {tap}")).contains("mtu 1400"));

    // A guest that reboots keeps it.
    let running = pod.snapshot();
    console.send("reboot\n");
    vm.wait_con0("GUEST-READY", 6);
    assert_eq!(pod.snapshot(), running);

    // Another VM cannot have it.
    let said = other.umlwatch(&["-start"]).fails(1);
    assert!(said.contains("is in use by vm1 as if of eth0"), "{said}");

    // The monitor is killed and another one adopts the VM; then both are killed.
    outlives(&vm);
    kill_monitor(&vm);
    assert_eq!(pod.snapshot(), running);
    vm.start_monitor().ok();
    assert_eq!(pod.snapshot(), running);
    assert_eq!(vm.info()["nics"][0]["link"]["guest_addr"], "10.1.0.5");
    console.leave();
    vm.umlwatch(&["-kill"]).ok();
    is_given_back(&pod, &vm, &before);
    vm.start();
    kill_with_vm(&vm);
    assert_ne!(pod.snapshot(), before, "the monitor has done something");
    vm.start_monitor().ok();
    is_given_back(&pod, &vm, &before);
    // Another VM cleans up, too.
    vm.start();
    kill_with_vm(&vm);
    other.start();
    other.umlwatch(&["-kill"]).ok();
    is_given_back(&pod, &other, &before);
    vm.start_monitor().ok();
    pod.remove();
}

#[test]
fn a_namespace_that_is_removed_disturbs_nobody() {
    let Some(world) = World::new() else { return };
    enter();
    let pod = Pod::make(&world);
    let vm = world.vm("vm1").con(1).line(&pod.line()).monitor();
    vm.start();
    outlives(&vm);
    ip("link delete pod0");
    pod.remove();
    assert_eq!(vm.state(), "running");
    vm.info();
    kill_monitor(&vm);
    vm.start_monitor().ok();
    assert_eq!(vm.state(), "running");
    vm.umlwatch(&["-kill"]).ok();
    vm.wait_inactive();
    let said = vm.umlwatch(&["-start"]).fails(1);
    assert!(said.contains("/pod is no network namespace"), "{said}");
    // The namespace is gone when VM and monitor have been killed.
    fs::remove_file(&pod.file).unwrap();
    let pod = Pod::make(&world);
    vm.start();
    kill_with_vm(&vm);
    pod.remove();
    vm.start_monitor().ok();
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    assert!(
        !log.contains("WARN") && !log.contains("cannot give"),
        "{log}"
    );
    fs::remove_file(&pod.file).unwrap();
    let said = vm.umlwatch(&["-start"]).fails(1);
    assert!(
        said.contains("eth0: there is no network namespace"),
        "{said}"
    );
}

#[test]
fn what_is_no_interface_for_a_vm_is_refused() {
    let Some(world) = World::new() else { return };
    enter();
    let pod = Pod::make(&world);
    pod.run("ip link add taken type veth peer name large");
    pod.run("tc qdisc add dev taken clsact");
    pod.run("ip link set large mtu 65000");
    let before = pod.snapshot();
    let at = pod.file.display();
    let own = format!("/proc/{}/ns/net", rustix::thread::gettid().as_raw_nonzero());
    for (n, (path, interface, why)) in [
        (
            at.to_string(),
            "eth7",
            "the network namespace has no interface eth7; give one",
        ),
        (
            at.to_string(),
            "lo",
            "lo is not an interface of an Ethernet",
        ),
        (
            at.to_string(),
            "taken",
            "taken has a queueing discipline of its own",
        ),
        (
            at.to_string(),
            "large",
            "large has an mtu of 65000; set one from 576 to 16384",
        ),
        (own, "pod0", "this is the network of the host"),
        (
            world.configuration().display().to_string(),
            "eth0",
            "is no network namespace; give the file",
        ),
        (
            world.path().display().to_string(),
            "eth0",
            "is a directory; give the file",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!("eth0 = netns(path={path},if={interface})");
        let vm = world.vm(&format!("vm{n}")).line(&line).monitor();
        let said = vm.umlwatch(&["-start"]).fails(1);
        assert!(said.contains(why), "{why}\n{said}");
        vm.wait_inactive();
        assert_eq!(pod.snapshot(), before);
    }
    pod.remove();
}

/// Transfers what is on the guest's disk ubd1 from it and to it.
fn transfers(shell: &mut Shell, bytes: &[u8]) {
    let listener = TcpListener::bind("10.1.0.1:5001").unwrap();
    let line = "nc 10.1.0.1 5001 < /dev/ubdb";
    shell.begin(line);
    let mut came = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut came).unwrap();
    assert!(came == bytes, "{} of {} bytes", came.len(), bytes.len());
    shell.end(line);
    let line = "nc -l -p 5000 < /dev/null | cmp - /dev/ubdb";
    shell.begin(line);
    let connect = || TcpStream::connect("10.1.0.5:5000").ok();
    let mut stream = wait_for("nc in the guest", connect);
    stream.write_all(bytes).unwrap();
    drop(stream);
    shell.end(line);
}

#[test]
fn a_guest_in_the_place_of_a_namespace() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let pod = Pod::make(&world);
    let before = pod.snapshot();
    let load = e2e::flood(LOAD);
    let vm = world
        .vm("vm1")
        .con(1)
        .line(&pod.line())
        .disk(1, load.clone());
    let vm = vm.guest(Login::RootShell).monitor();
    vm.start();
    let mut shell = Shell::of(&vm);
    assert!(shell.run("cat /proc/cmdline").contains(TOLD));
    shell.run(
        "ip link set vec0 name eth0 && ip link set eth0 up && ip addr add 10.1.0.5/24 dev eth0",
    );
    let said = shell.run("cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address");
    assert!(
        said.contains("1400") && said.contains("0a:58:0a:01:00:05"),
        "{said}"
    );
    shell.reaches("ping", "10.1.0.1");
    run(Command::new("busybox").args(["ping", "-c", "3", "-W", "10", "-s", "1372", "10.1.0.5"]))
        .ok();
    transfers(&mut shell, &load);
    outlives(&vm);
    let stay = processes_that_stay(&vm);
    kill_monitor(&vm);
    run(Command::new("busybox").args(["ping", "-c", "1", "-W", "10", "10.1.0.5"])).ok();
    vm.start_monitor().ok();
    assert_eq!(processes_that_stay(&vm), stay);
    drop(shell);
    let mut shell = Shell::of(&vm);
    transfers(&mut shell, &load);
    let link = |member: &str| vm.info()["nics"][0]["link"][member].as_u64().unwrap();
    let carried = [link("received_bytes"), link("sent_bytes")];
    assert!(
        carried.iter().all(|bytes| *bytes > 2 * LOAD as u64),
        "{carried:?}"
    );
    shell.leave();
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
    assert_eq!(pod.snapshot(), before);
    pod.remove();
}

#[test]
fn a_temporary_vm_has_the_addresses_of_the_namespace() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let pod = Pod::make(&world);
    let before = pod.snapshot();
    let umladmin = install_below(&world.path().join("prefix"));
    fs::write(world.path().join("empty"), "").unwrap();
    // Some kernels have IP version 6 as a module. Then the helper could not set it up.
    let script = "ip addr show eth0; ip route; ping -c 1 -W 10 10.1.0.1 > /dev/null && echo reached; \
                  test -e /proc/net/if_inet6 || { cd /usr/lib/uml/modules/$(uname -r)/kernel && \
                  insmod lib/crc-ccitt.ko && insmod net/ipv6/ipv6.ko && ip addr add fd00:1::5/64 dev eth0; }; \
                  until ping -6 -c 1 -W 1 fd00:1::1 > /dev/null; do sleep 0.1; done; echo six";
    let mut command = Command::new(umladmin);
    command.arg("-config").arg(world.path().join("empty"));
    command.arg("-kernel").arg(real_kernel());
    command.args([
        "run",
        "-net",
        &pod.nic(),
        "-share",
        "/usr:ro",
        "-timeout",
        "60",
    ]);
    command.args(["--", "sh", "-c", script]);
    let said = run(&mut command).ok();
    for part in [
        "mtu 1400",
        "0a:58:0a:01:00:05",
        "inet 10.1.0.5/24",
        "default via 10.1.0.1 dev eth0",
        "10.1.0.0/24 dev eth0 scope link  src 10.1.0.5",
        "reached",
        "six",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(pod.snapshot(), before);
    pod.remove();
}
