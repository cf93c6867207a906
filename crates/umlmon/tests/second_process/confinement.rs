//! What the second process and the kernel may do, read from /proc, and what the kernel sees of the jail.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt as _, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::second::link::Link;
use crate::second::orders::{FromChild, Launch};

use crate::{GID, KERNEL, UID, Vm, World, descriptors, in_time, status};

pub(crate) fn the_kernel_is_confined(world: &World) {
    in_time(async {
        let vm = world.start("echo ready; read x").await;
        let (child, kernel) = (vm.link.pid(), vm.kernel);
        for pid in [child, kernel] {
            no_privileges(pid);
            limits(pid);
            apart(pid, &world.places.jail);
        }
        nothing_inherited(child, kernel);
    });
}

fn no_privileges(pid: u32) {
    assert_eq!(status(pid, "Uid"), format!("{UID} {UID} {UID} {UID}"));
    assert_eq!(status(pid, "Gid"), format!("{GID} {GID} {GID} {GID}"));
    assert_eq!(status(pid, "Groups"), format!("{GID} 64019"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Seccomp"), "2");
}

fn limits(pid: u32) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for (name, limit) in [
        ("Max core file size", "1"),
        ("Max open files", "256"),
        ("Max processes", "2000"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        assert_eq!(line.unwrap().split_whitespace().next(), Some(limit));
    }
}

/// In a root directory and in namespaces of its own.
fn apart(pid: u32, jail: &Path) {
    for link in ["root", "cwd"] {
        // Its mount namespace has a root of its own, which has no name outside.
        let found = fs::metadata(format!("/proc/{pid}/{link}")).unwrap();
        let wanted = fs::metadata(jail).unwrap();
        assert_eq!((found.dev(), found.ino()), (wanted.dev(), wanted.ino()));
    }
    for name in ["pid", "mnt", "ipc", "uts"] {
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{name}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{name}");
    }
}

fn nothing_inherited(child: u32, kernel: u32) {
    let read = |pid: u32, name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap();
    assert_eq!(status(child, "NSpid"), format!("{child} 1"));
    assert_eq!(status(kernel, "NSpid"), format!("{kernel} 2"));
    assert_eq!(status(child, "Name"), "umlmon");
    assert_eq!(read(child, "cmdline"), b"umlmon: vm1\0--child\0");
    assert_eq!(read(kernel, "personality"), b"00040000\n");
    let environment = format!("PATH=/\0B={KERNEL}\0");
    assert_eq!(read(kernel, "environ"), environment.as_bytes());
    let sockets = ["0 socket:", "1 socket:", "2 socket:", "3 socket:"];
    assert_eq!(descriptors(kernel), sockets);
    let own = descriptors(child);
    let inherited = ["0 /dev/null", "1 /dev/null", "2 /dev/null", "3 socket:"];
    assert_eq!(own[..4], inherited);
    assert!(own.len() == 5 && own[4].ends_with("anon_inode:"), "{own:?}");
}

/// Tries everything that must not work, and a few things that must.
const PROBE: &str = "$B ls /shared/locks; $B cat /shared/macpool/vm.lease; \
    for f in /shared/locks/x /shared/x /x; do (echo x > $f); done; \
    echo x > /disks/x && echo x > /tmp/x && echo made; \
    $B mount -t tmpfs none /tmp; $B chroot /tmp; $B nc -l -p 1; \
    $B cat /lib/probe; (echo x > /lib/probe); \
    $B mknod /tmp/n c 1 3; echo ready; read x";

pub(crate) fn the_jail_shows_what_it_should(world: &World) {
    let launch = probing(world);
    in_time(async {
        let mut vm = start(world, &launch).await;
        let text = vm.read_until("ready");
        for said in [
            "made",
            "can't open '/shared/macpool/vm.lease': No such file",
            "/shared/locks/x: Read-only",
            "/shared/x: Permission",
            "/x: Permission",
            "mount: ",
            "chroot: can't",
            "nc: ",
            "from the host",
            "can't create /lib/probe: Read-only",
            "mknod: ",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
        mounts_are_restricted(vm.kernel);
    });
    // Nothing of it is seen outside.
    let mut covered = fs::read_dir(world.places.jail.join("lib")).unwrap();
    assert!(covered.next().is_none());
    assert!(world.places.shared.join("locks/secret").exists());
}

/// Files with open permissions, so that nothing but the jail protects them, and one of the host, as a library would be.
fn probing(world: &World) -> Launch {
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let shared = &world.places.shared;
    fs::write(shared.join("locks/secret"), "x").unwrap();
    fs::write(shared.join("macpool/vm.lease"), "secret").unwrap();
    open(&shared.join("macpool/vm.lease"), 0o666).unwrap();
    for name in ["macpool", "locks"] {
        open(&shared.join(name), 0o755).unwrap();
    }
    let mut launch = world.launch(PROBE);
    fs::create_dir(world.places.jail.join("lib")).unwrap();
    let host = world.places.vardir.join("library");
    fs::write(&host, "from the host").unwrap();
    launch.confinement.binds.push(jail::Bind {
        source: jail::Source::Host(host),
        target: "/lib/probe".into(),
    });
    launch
}

/// Whatever the monitor was told of the library: the process that binds it looks itself, as root.
pub(crate) fn no_library_that_a_user_can_exchange_is_bound(world: &World) {
    fs::create_dir(world.places.jail.join("lib")).unwrap();
    let own = world.places.vardir.join("own");
    let library = own.join("libc.so.6");
    fs::create_dir(&own).unwrap();
    fs::write(&library, "of root").unwrap();
    let mut launch = world.launch("echo ready; read x");
    launch.confinement.binds = vec![jail::Bind {
        source: jail::Source::Host(library.clone()),
        target: "/lib/libc.so.6".into(),
    }];
    let why_not = || {
        in_time(async {
            let link = Link::launch(&crate::keeper(), &launch, &[], sys::Network::Host).unwrap();
            match link.next_message().await {
                Some(FromChild::Failed { error, .. }) => error,
                message => panic!("{message:?}"),
            }
        })
    };
    let mode = |mode| fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
    let shown = own.display().to_string();
    chown(&own, Some(UID), None).unwrap();
    assert!(why_not().contains(&format!("{shown} belongs to user ID {UID}")));
    chown(&own, Some(0), None).unwrap();
    mode(0o777);
    assert!(why_not().contains(&format!("{shown} is writable by everybody")));
    mode(0o700);
    assert!(why_not().contains(&format!("{shown} is closed to others")));
    mode(0o755);
    lchown(&library, Some(UID), None).unwrap();
    assert!(why_not().contains(&format!("libc.so.6 belongs to user ID {UID}")));
    fs::remove_file(&library).unwrap();
    symlink("/bin/true", &library).unwrap();
    lchown(&library, Some(UID), None).unwrap();
    assert!(why_not().contains(&format!("is a symbolic link of user ID {UID}")));
    // In the hands of root, it is bound.
    lchown(&library, Some(0), None).unwrap();
    in_time(async { world.start_launch(&launch).await });
}

async fn start(world: &World, launch: &Launch) -> Vm {
    let tmp = world.jail.mount_tmp(8).unwrap();
    let (con0, theirs) = UnixStream::pair().unwrap();
    let link = Link::launch(
        &crate::keeper(),
        launch,
        &[theirs.as_fd()],
        sys::Network::Host,
    )
    .unwrap();
    let message = link.next_message().await;
    let Some(FromChild::Started { kernel_pid }) = message else {
        panic!("{message:?}")
    };
    Vm {
        link,
        con0,
        kernel: kernel_pid,
        namespace: PathBuf::new(),
        _tmp: tmp,
    }
}

fn mounts_are_restricted(kernel: u32) {
    let mounts = fs::read_to_string(format!("/proc/{kernel}/mountinfo")).unwrap();
    for (at, flags) in [
        ("/disks", "nosuid,nodev"),
        ("/tmp", "nosuid,nodev"),
        ("/shared", "nosuid"),
    ] {
        let of_mount = |line: &&str| line.split(' ').nth(4) == Some(at);
        let line = mounts.lines().find(of_mount).unwrap();
        assert!(line.split(' ').nth(5).unwrap().contains(flags), "{line}");
    }
}
