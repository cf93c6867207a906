//! Tier root: what the kernel's process may and may not do, as the host's /proc tells it.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use e2e::{Vm, World, program, run, wait_for};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::User;

/// The fields of /proc/PID/status.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(":\t"));
    fields
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn link(pid: i32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/{name}"))
        .unwrap()
        .display()
        .to_string()
}

/// The processes that are not to have any privilege.
fn unprivileged(vm: &Vm<'_>) -> [i32; 2] {
    [vm.pid("child_pid"), vm.pid("kernel_pid")]
}

/// Of the processes of a VM, and of whatever else it starts, the monitor alone is spared when the host has no memory
/// left.
#[test]
fn only_the_monitor_is_spared_when_memory_is_short() {
    let Some(world) = World::new() else { return };
    world.global("sitecmd = /bin/cat");
    let vm = world.vm("vm1").monitor();
    vm.start();
    let score = |pid: &str| -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        text.trim().parse().unwrap()
    };
    let own = score("self");
    // capabilities(7): without CAP_SYS_RESOURCE, number 24, no process is protected.
    let status = status(vm.monitor_pid());
    let capabilities = u64::from_str_radix(&status["CapEff"], 16).unwrap();
    let monitor = match capabilities & 1 << 24 {
        0 => own,
        _ => own.min(-900),
    };
    assert_eq!(score(&vm.monitor_pid().to_string()), monitor);
    for pid in unprivileged(&vm) {
        assert_eq!(score(&pid.to_string()), own.max(0));
    }
    let site = vm.umlwatch(&["-site", "/proc/self/oom_score_adj"]).ok();
    assert_eq!(site.trim(), own.max(0).to_string());
    vm.kill();
}

#[test]
fn kernel_and_child_have_no_privilege() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let user = User::from_name("nobody").unwrap().unwrap();
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
    for pid in unprivileged(&vm) {
        let status = status(pid);
        assert_eq!(status["Uid"], four(user.uid.as_raw()));
        assert_eq!(status["Gid"], four(user.gid.as_raw()));
        assert_eq!(status["Groups"], user.gid.to_string());
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["Seccomp"], "2", "a filter of system calls");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(
            words[4..6],
            ["1", "1"],
            "no core dump, not even to a program"
        );
        let root = fs::metadata(format!("/proc/{pid}/root/")).unwrap();
        let jail = fs::metadata(vm.file("jail")).unwrap();
        assert_eq!((root.dev(), root.ino()), (jail.dev(), jail.ino()));
        // Not even its mount namespace has anything of the host's.
        let namespace = format!("--mount=/proc/{pid}/ns/mnt");
        let outcome = run(Command::new("nsenter").args([&namespace, "/bin/true"]));
        assert!(outcome.stderr.contains("No such file"), "{outcome:?}");
        for namespace in ["pid", "mnt", "ipc", "uts"] {
            let name = format!("ns/{namespace}");
            assert_ne!(link(pid, &name), link(vm.monitor_pid(), &name));
        }
    }
    vm.kill();
}

/// The root of a chroot in a mount namespace of the thread's own, in which everything is as on the host. It is no mount
/// point itself. The binds in it go with the namespace; nothing may remove them as files.
fn plain_chroot() -> &'static str {
    let root = "/mnt/root";
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && mkdir {root} && cd / && for name in *; do \
         if [ -L $name ]; then cp -P $name {root}/; \
         elif [ -d $name ] && [ $name != mnt ]; then mkdir {root}/$name && mount --rbind $name {root}/$name; fi; done"
    );
    run(Command::new("sh").args(["-ec", &script])).ok();
    root
}

#[test]
fn a_root_that_is_no_mount_point_is_told_with_what_to_do() {
    let Some(world) = World::new() else { return };
    let root = plain_chroot();
    let vm = world.vm("vm1").configure();
    let inside = world.command("umlmon", &["vm1"]);
    let mut monitor = Command::new("chroot");
    run(monitor
        .arg(root)
        .arg(inside.get_program())
        .args(inside.get_args()))
    .ok();
    let kernels = world.path().join("var/shared/kernels");
    fs::copy(program("fake_linux"), kernels.join("fake_linux")).unwrap();
    let said = vm.umlwatch(&["-start"]).fails(1);
    let wanted = "cannot separate the mounts: / is not a mount point here, as in a plain chroot; \
                  bind its directory on itself before (mount --rbind DIR DIR; chroot DIR)\n";
    assert!(said.ends_with(wanted), "{said}");
    vm.end_monitor();
    // The advice is right.
    run(Command::new("mount").args(["--rbind", root, root])).ok();
    run(&mut monitor).ok();
    vm.umlwatch(&["-start", "-kill"]).ok();
    vm.end_monitor();
}

#[test]
fn the_kernel_inherits_its_consoles_and_nothing_else() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).line("ssl0 = pty").monitor();
    vm.start();
    let kernel = vm.pid("kernel_pid");
    // What is open, by the lowest number under which it is.
    let mut open = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{kernel}/fd")).unwrap() {
        let number: i32 = entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .parse()
            .unwrap();
        let lowest = open
            .entry(link(kernel, &format!("fd/{number}")))
            .or_insert(number);
        *lowest = number.min(*lowest);
    }
    let consoles = open
        .iter()
        .filter(|(target, _)| target.starts_with("/dev/pts/"))
        .map(|(_, number)| *number);
    let mut consoles: Vec<i32> = consoles.collect();
    consoles.sort_unstable();
    assert_eq!(consoles, [0, 3, 4], "{open:?}");
    let helper = &open[&link(kernel, "fd/5")];
    assert_eq!(*helper, 5, "the line of the guest's helper: {open:?}");
    // Two more are the fake kernel's own: its mconsole and its signals.
    assert_eq!(open.len(), 6, "{open:?}");
    let environment = fs::read_to_string(format!("/proc/{kernel}/environ")).unwrap();
    let names: Vec<&str> = environment
        .split_terminator('\0')
        .filter_map(|entry| entry.split('=').next())
        .collect();
    assert_eq!(names, ["TMPDIR", "HOME", "PATH"]);
    vm.kill();
}

#[test]
fn directories_belong_to_whom_they_should() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let user = User::from_name("nobody").unwrap().unwrap();
    for (name, owner) in [
        ("", 0),
        ("log", 0),
        ("jail", 0),
        ("jail/disks", user.uid.as_raw()),
        ("jail/shared", 0),
        ("jail/shared/kernels", 0),
        ("jail/shared/disks", 0),
    ] {
        let metadata = fs::metadata(vm.file(name)).unwrap();
        assert_eq!(metadata.uid(), owner, "{name}");
        assert_eq!(
            metadata.mode() & 0o022,
            0,
            "others can write {name}: {:o}",
            metadata.mode()
        );
    }
}

/// F55: the user namespace that the network of the host belongs to is another one than the monitor's.
#[test]
fn a_monitor_that_could_not_return_to_its_network_never_leaves_it() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    let monitor = world.command("umlmon", &["vm1"]);
    let mut inside = Command::new("unshare");
    inside.args([
        "--user",
        "--mount",
        "sh",
        "-c",
        "read x && exec \"$@\"",
        "sh",
    ]);
    inside.arg(monitor.get_program()).args(monitor.get_args());
    let mut inside = inside.stdin(Stdio::piped()).spawn().unwrap();
    // All users are there, but they are others than those of the host's network.
    let of = |name: &str| format!("/proc/{}/{name}", inside.id());
    wait_for("the user namespace", || {
        (fs::read_link(of("ns/user")).ok()? != fs::read_link("/proc/self/ns/user").ok()?)
            .then_some(())
    });
    for name in ["uid_map", "gid_map"] {
        fs::write(of(name), "0 0 65536").unwrap();
    }
    inside.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(inside.wait().unwrap().success());
    let kernels = world.path().join("var/shared/kernels");
    fs::copy(program("fake_linux"), kernels.join("fake_linux")).unwrap();
    vm.umlwatch(&["-start"]).ok();
    vm.wait_con0("GUEST-READY", 1);
    // It has asked the kernel for its version, and is still there.
    let info = vm.info();
    assert_eq!(info["responding"], true);
    assert!(info["kernel_version"].as_str().unwrap().contains("Linux"));
    vm.umlwatch(&["-suspend", "-continue", "-kill"]).ok();
    vm.end_monitor();
}
