//! Tier root: what a hostile user of the control socket, and a hostile guest, must not get away with; the ids are those
//! of docs/TESTING.md.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions beside the tests, too

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{PATIENCE, Terminal, Vm, World, hostile, network, wait_for};
use rpc_xdr::umlmonctrl::*;

/// A connection to the control socket, on which reads end in time.
fn stream(vm: &Vm<'_>) -> UnixStream {
    let stream = UnixStream::connect(vm.file("ctrl")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client that checks nothing before it calls.
fn client(vm: &Vm<'_>) -> UmlmonctrlV1Client<UnixStream> {
    UmlmonctrlV1Client::new(stream(vm))
}

/// Attaches to con1.
fn open(client: &mut UmlmonctrlV1Client<UnixStream>, mode: ConMode) -> ConOpenResult {
    let (channel, who) = ("con1".into(), "test".into());
    client
        .con_open(&ConOpenArgs { channel, mode, who })
        .unwrap()
}

/// The reason of a refusal.
#[track_caller]
fn refused(result: CtlResult, what: &str) -> String {
    match result {
        CtlResult::Error(error) => error.text,
        CtlResult::Ok => panic!("{what} was accepted"),
    }
}

/// A19, A20, A21, A22
#[test]
fn nothing_is_smuggled_into_the_configuration() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let mut client = client(&vm);
    for (param, value) in [
        ("vmuser", "root"),
        ("VMUSER", "root"),
        (" vmuser", "root"),
        ("vmuser ", "root"),
        ("vmuser\0", "root"),
        ("kernel\nvmuser", "root"),
        ("jaildir", "/"),
        ("mem_limit", "100000"),
        ("sitecmd", "/bin/sh"),
        ("GLOBAL", "x"),
        ("con01", "pty"),
        ("con1 ", "pty"),
        ("con-1", "pty"),
        ("eth0", "tuntap,tap0"),
        ("kernelarg", "quiet\n[vm2]\nvmuser=root"),
        ("kernelarg", "quiet\rvmuser=root"),
        ("kernelarg", "quiet\0"),
        ("kernelarg", "single ubd7c=/shared/disks/other.dsk"),
        ("kernelarg", "ubd7c=/shared/disks/other.dsk"),
        ("kernelarg", "\"ubd7c=/shared/disks/other.dsk\""),
        ("kernelarg", "con9=port:22222"),
        ("kernelarg", "mem=8G"),
        ("kernelarg", "uml-dir=/disks"),
        ("kernelarg", ""),
        ("kernel", "/../../bin/sh"),
        ("con1", "pty:../../etc/cron.d/x"),
        ("ubd0", "/disks/../../etc/shadow.dsk"),
        ("password", ""),
    ] {
        let args = ConfigSetArgs {
            param: param.into(),
            value: value.into(),
        };
        let why = refused(
            client.config_set(&args).unwrap(),
            &format!("{param:?} = {value:?}"),
        );
        assert!(!why.contains(char::is_control), "{why:?}");
    }
    for extra in ["single mem=8G", "initrd=/disks/x", "a\nb", "", "--version"] {
        let args = VmStartArgs {
            extra: vec![extra.into()],
        };
        refused(client.vm_start(&args).unwrap(), extra);
    }
    let changes = fs::read_to_string(vm.file("config")).unwrap_or_default();
    assert_eq!(changes, "", "the file of the user changes");
    assert_eq!(vm.state(), "inactive");
}

/// A13
#[test]
fn a_name_of_a_log_is_never_a_path() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let mut client = client(&vm);
    for file in [
        "../../etc/shadow",
        "/etc/shadow",
        "../config",
        "monitor/../con0",
        "con1",
        "con00",
        "",
        ".",
        "ctrl",
        "con0\0",
    ] {
        let tail = LogTailArgs {
            file: file.into(),
            lines: 100,
        };
        let read = LogReadArgs {
            file: file.into(),
            offset: 0,
            max: 100,
        };
        let tail = client.log_tail(&tail).unwrap();
        assert!(matches!(tail, LogTailResult::Error(_)), "{file}: {tail:?}");
        let read = client.log_read(&read).unwrap();
        assert!(matches!(read, LogReadResult::Error(_)), "{file}: {read:?}");
    }
    vm.umlwatch(&["-tail", "../../../../etc/shadow,100"])
        .fails(2);
}

/// A33
#[test]
fn a_password_is_shown_nowhere() {
    const SECRET: &str = "tell-nobody";
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let args = ConfigSetArgs {
        param: "password".into(),
        value: SECRET.into(),
    };
    assert_eq!(client(&vm).config_set(&args).unwrap(), CtlResult::Ok);
    vm.start();
    let file = fs::metadata(vm.file("config")).unwrap();
    assert_eq!((file.mode() & 0o777, file.uid()), (0o600, 0));
    // Nor its MD5 sum, which is as good: a value in the file is one or the other.
    let stored = fs::read_to_string(vm.file("config")).unwrap();
    let stored = stored.lines().find_map(|line| line.split_once('='));
    let stored = stored.unwrap().1.trim().to_owned();
    let mut shown = vec![
        vm.umlwatch(&["-info"]).ok(),
        vm.umlwatch(&["-json", "-info"]).ok(),
        world.umladmin(&["config", "vm1"]).ok(),
        format!("{:?}", client(&vm).config_get().unwrap()),
        fs::read_to_string(vm.file("log/monitor")).unwrap(),
        vm.con0(),
    ];
    for pid in ["monitor_pid", "child_pid", "kernel_pid"].map(|name| vm.pid(name)) {
        for name in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{name}")).unwrap();
            shown.push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    for text in shown {
        assert!(!text.contains(SECRET) && !text.contains(&stored), "{text}");
    }
    vm.umlwatch(&["-del", "password", "-kill"]).ok();
    vm.wait_inactive();
}

/// A27, A28
#[test]
fn a_peer_that_lies_loses_its_connection_and_nobody_else_does() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    let mut honest = client(&vm);
    let call = |bytes: &[u32]| -> Vec<u8> { bytes.iter().flat_map(|n| n.to_be_bytes()).collect() };
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/statm", vm.monitor_pid())).unwrap();
        let pages = status.split(' ').nth(1).unwrap();
        pages.parse::<u64>().unwrap()
    };
    let before = memory();
    for hostile in [
        // A record of 2 GB, announced in one fragment and in many.
        call(&[0xffff_ffff]),
        call(&[0x7fff_ffff]),
        call(&[0x0001_0000]).repeat(100_000),
        // Fragments without end and without content.
        call(&[0]).repeat(100_000),
        // A reply, and a call of another protocol.
        call(&[0x8000_0008, 1, 1]),
        b"GET / HTTP/1.1\r\nHost: umlmon\r\n\r\n".repeat(1000),
    ] {
        let mut peer = stream(&vm);
        // It may be closed while we are still sending.
        let _ = peer.write_all(&hostile);
        let mut said = Vec::new();
        match peer.read_to_end(&mut said) {
            Ok(_) => assert!(said.len() < 1000, "{} bytes were said", said.len()),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        honest.ctl_null().unwrap();
    }
    // Half a call, and then nothing: the others do not wait for it.
    let mut slow = stream(&vm);
    slow.write_all(&call(&[0x8000_0028, 1])).unwrap();
    honest.ctl_null().unwrap();
    assert!(
        memory() < before + 512,
        "{before} pages became {}",
        memory()
    );
}

/// A34 as far as local users go, A40
#[test]
fn users_who_connect_too_often_lock_themselves_out_but_not_the_administrator() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    // The last one that is served is number 256.
    let mut clients: Vec<_> = (0..300).map(|_| client(&vm)).collect();
    clients
        .iter_mut()
        .take(256)
        .for_each(|client| client.ctl_null().unwrap());
    let monitor = vm.monitor_pid();
    let open = fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count();
    assert!(open < 300, "{open} files are open");
    // The administrator cannot shut the guest down, but the monitor receives the signal, and ends the VM.
    let said = world.umladmin(&["-timeout", "1", "stop"]);
    assert!(!vm.pid_file().exists(), "{said:#?}");
}

/// A40
#[test]
fn attachments_belong_to_one_connection() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let (mut one, mut other) = (client(&vm), client(&vm));
    for mode in [
        ConMode::Watch,
        ConMode::Write,
        ConMode::Write,
        ConMode::Force,
    ] {
        assert!(matches!(open(&mut one, mode), ConOpenResult::Ok(_)));
    }
    // However often: it is one attachment.
    for _ in 0..10_000 {
        assert!(matches!(
            open(&mut one, ConMode::Write),
            ConOpenResult::Ok(_)
        ));
    }
    assert!(
        vm.info()["channels"][1]["watchers"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    // Another connection has no part in it.
    let (channel, data) = ("con1".to_owned(), b"x".to_vec());
    let write = ConWriteArgs { channel, data };
    refused(other.con_write(&write).unwrap(), "writing unattached");
    refused(other.con_close("con1").unwrap(), "closing unattached");
    let (channel, offset, max, wait_ms) = ("con1".into(), u64::MAX, u32::MAX, 0);
    let read = ConReadArgs {
        channel,
        offset,
        max,
        wait_ms,
    };
    assert!(matches!(
        other.con_read(&read).unwrap(),
        ConReadResult::Error(_)
    ));
    assert!(matches!(
        open(&mut other, ConMode::Write),
        ConOpenResult::Error(_)
    ));
    // Any offset is accepted from an attached client.
    assert!(matches!(one.con_read(&read).unwrap(), ConReadResult::Ok(_)));
    assert_eq!(one.con_close("con1").unwrap(), CtlResult::Ok);
    refused(one.con_close("con1").unwrap(), "closing twice");
}

/// A40
#[test]
fn a_crowd_at_a_channel_is_limited() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    let mut one = client(&vm);
    // There is room for 64, and for others again when they go.
    let mut crowd: Vec<_> = (0..64).map(|_| client(&vm)).collect();
    for client in &mut crowd {
        assert!(matches!(open(client, ConMode::Watch), ConOpenResult::Ok(_)));
    }
    assert!(matches!(
        open(&mut one, ConMode::Force),
        ConOpenResult::Error(_)
    ));
    drop(crowd);
    wait_for("the crowd is gone", || {
        matches!(open(&mut one, ConMode::Write), ConOpenResult::Ok(_)).then_some(())
    });
}

/// A44, A47
#[test]
fn a_broken_out_guest_stays_in_the_jail() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    // Of the same user, which is not advised.
    let neighbour = world.vm("vm2").monitor();
    vm.start();
    neighbour.start();
    let secret = world.path().join("var/shared/locks/secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let mut console = vm.connect("con1");
    console.send("attack\n");
    vm.wait_con0("attack: over", 1);
    console.leave();
    let con0 = vm.con0();
    let attempts: Vec<&str> = con0
        .lines()
        .filter(|line| line.starts_with("attack: "))
        .collect();
    assert_eq!(attempts.len(), 15, "{con0}");
    let succeeded = attempts
        .iter()
        .find(|line| line.ends_with("done\r") || line.ends_with("done"));
    assert_eq!(succeeded, None);
    // Its own first process is not to be traced, so its files are root's, and the neighbour is as he was.
    for (vm, state) in [(&vm, "running"), (&neighbour, "running")] {
        assert_eq!(vm.state(), state);
        let child = fs::metadata(format!("/proc/{}/environ", vm.pid("child_pid"))).unwrap();
        assert_eq!(child.uid(), 0);
        vm.kill();
    }
}

/// What [`hostile::compile`]'s program says it tried, and how that went.
fn tried(said: &str) -> Vec<(&str, &str)> {
    let lines = said.lines().map(str::trim_end);
    let lines = lines.skip_while(|line| !line.starts_with("lease a file: "));
    let lines = lines.take_while(|line| !line.starts_with("execute: "));
    lines.map_while(|line| line.split_once(": ")).collect()
}

/// Not every host and file system has quotas.
fn has_no_quotas(name: &str, how: &str) -> bool {
    let none = ["not supported", "not implemented", "Inappropriate ioctl"];
    ["change a project", "control quotas"].contains(&name)
        && none.iter().any(|reason| how.contains(reason))
}

/// A55, A56, A57
#[test]
fn calls_are_allowed_by_their_arguments() {
    let Some(world) = World::new() else { return };
    network::enter();
    network::ip("link add br0 type bridge");
    network::ip("tuntap add dev own0 mode tap");
    let hostile = world.path().join("hostile");
    if !hostile::compile(&hostile) {
        return e2e::skip("needs a C compiler");
    }

    let name = SocketAddr::from_abstract_name(b"umlmon-e2e").unwrap();
    let _daemon = UnixDatagram::bind_addr(&name).unwrap();

    // Outside of a jail, all of it works.
    let directory = world.path().to_str().unwrap();
    let mut free = Command::new(&hostile);
    let mut terminal = Terminal::run(free.args([directory, "own0"]), 24, 80);
    let said = terminal.expect("give a tap away: done");
    terminal.wait();
    let outside = tried(&said);
    assert_eq!(outside.len(), 13, "{said}");
    let worked = |(name, how): &(&str, &str)| *how == "done" || has_no_quotas(name, how);
    assert!(outside.iter().all(worked), "{said}");

    let bridged = "eth0 = bridged(bridge_if=br0,proxy_if=b0,proxy_hwaddr=pool,guest_hwaddr=pool)";
    let vm = world.vm("vm1").con(1).line(bridged).monitor();
    fs::copy(&hostile, vm.file("jail/disks/hostile")).unwrap();
    vm.start();
    // A bridge takes the least address of its ports, unless it is told one.
    let addresses_and_owner = || {
        let shown =
            network::ip("-d link show") + &network::ip_of(vm.pid("kernel_pid"), "-d link show");
        let mut words = shown.split_whitespace().peekable();
        let mut found = Vec::new();
        while let Some(word) = words.next() {
            if ["link/ether", "user", "persist"].contains(&word) {
                found.push((word.to_owned(), words.peek().map(|word| (*word).to_owned())));
            }
        }
        found
    };
    let before = addresses_and_owner();
    assert!(
        before.contains(&("user".into(), Some("nobody".into()))),
        "{before:?}"
    );
    let mut console = vm.connect("con1");
    console.send("execute:/disks/hostile,/disks,b0\n");
    vm.wait_con0("execute: Ok", 1);
    console.leave();
    let said = vm.con0();
    let inside = tried(&said);
    let expected = outside.iter().map(|(name, _)| match *name {
        "attach to a tap" => (*name, "done"),
        "clone3 into namespaces" => (*name, "Function not implemented"),
        "reach a daemon" => (*name, "Connection refused"),
        name => (name, "Operation not permitted"),
    });
    assert_eq!(inside, expected.collect::<Vec<_>>(), "{said}");
    assert_eq!(addresses_and_owner(), before);
    vm.kill();
}

/// A41, A60, F8
#[test]
fn a_lying_mconsole_deceives_nobody() {
    let Some(world) = World::new() else { return };
    for (name, lie) in [
        ("endless", "endless-mconsole"),
        ("empty", "endless-mconsole:0"),
        ("nonsense", "nonsense-mconsole"),
    ] {
        let vm = world.vm(name).con(1).fake(lie).monitor();
        vm.start();
        let mut console = vm.connect("con1");
        console.expect("fake login on con1");
        for command in ["-info", "-suspend", "-halt"] {
            let asked = Instant::now();
            let outcome = vm.umlwatch(&[command]);
            assert!(asked.elapsed() < Duration::from_secs(15), "{outcome:?}");
            assert!(
                command == "-info" || outcome.status != Some(0),
                "{outcome:?}"
            );
        }
        // Meanwhile the consoles work.
        console.send("still here");
        console.expect("still here");
        console.leave();
        vm.kill();
    }
}

/// A62
#[test]
fn pid_files_are_root_s_and_no_stranger_is_killed_for_them() {
    let Some(world) = World::new() else { return };
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let vm = world.vm("vm1").monitor();
    let mode = fs::metadata(vm.pid_file()).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);

    // Ordinary users, who cannot lock what they cannot open, are told as before whether the monitor runs.
    let listed = || {
        let mut list = world.command("umladmin", &["-json", "list"]);
        let list = e2e::run(list.uid(65534).gid(65534)).ok();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        (list[0]["state"].clone(), list[0]["monitor_pid"].clone())
    };
    let monitor = vm.monitor_pid();
    assert_eq!(listed(), ("inactive".into(), monitor.into()));
    let number = rustix::process::Pid::from_raw(monitor).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
    wait_for("the monitor is gone", || {
        (!Path::new(&format!("/proc/{monitor}")).exists()).then_some(())
    });
    assert!(vm.pid_file().exists());
    assert_eq!(listed(), ("off".into(), serde_json::Value::Null));

    // Another process has its number now, and this test holds the lock.
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(vm.pid_file(), format!("{}\n", stranger.id())).unwrap();
    let file = fs::File::open(vm.pid_file()).unwrap();
    file.lock().unwrap();
    let said = world.umladmin(&["stop"]).fails(1);
    let survived = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(survived && said.contains("another process"), "{said}");
    drop(file);
    vm.start_monitor().ok();
}

/// A60
#[test]
fn what_is_asked_of_a_silent_kernel_ends_with_the_client() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").fake("silent-mconsole").monitor();
    vm.start();
    // In less time than a kernel may take to answer.
    for _ in 0..1000 {
        let mut client = client(&vm);
        let letter = "h".into();
        client.send_vm_sysrq(&VmSysrqArgs { letter }).unwrap();
        client.send_vm_suspend().unwrap();
    }
    client(&vm).ctl_null().unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", vm.monitor_pid())).unwrap();
    let open = open.count();
    assert!(open < 600, "{open} files are open");
    vm.kill();
}

/// A42
#[test]
fn a_guest_that_talks_too_much_does_not_fill_the_log_of_the_monitor() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.send("notices:20000\nflood:con1:16\n");
    console.expect("000000000000000 ");
    console.leave();
    vm.kill();
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    assert!(log.contains("the guest says: notice 0"), "{log}");
    assert!(log.contains("the guest sends too many messages"), "{log}");
    assert!(log.lines().count() < 60, "{} lines", log.lines().count());
}

/// A42
#[test]
fn a_guest_that_reboots_for_ever_is_slowed_down_and_can_be_stopped() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").fake("reboot").monitor();
    let started = Instant::now();
    vm.umlwatch(&["-start"]).ok();
    vm.wait_con0("GUEST-READY", 4);
    // Half a second, one, two.
    assert!(started.elapsed() > Duration::from_secs(3));
    assert!(vm.info()["reboots"].as_u64().unwrap() >= 3);
    // It waits for its next turn, for four seconds.
    let asked = Instant::now();
    vm.kill();
    assert!(asked.elapsed() < Duration::from_secs(3));
}
