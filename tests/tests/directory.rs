//! Tier root: the directory service knows which monitors run, whatever becomes of them or of itself.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Directory, Terminal, World, free_port, run, wait_for};
use rpc_xdr::umldir::{DirCode, DirError, DirVm, UmldirV1Client, VmRegisterArgs};
use rustix::process::{Pid, Signal, Uid, kill_process};

/// A user without any right: Debian's nobody.
const NOBODY: u32 = 65534;

/// What the tests ask of it.
trait Ask {
    fn client(&self) -> UmldirV1Client<UnixStream>;

    fn vms(&self) -> Vec<DirVm> {
        self.client().vm_list().unwrap().into_result().unwrap()
    }

    fn port(&self, vm: &str) -> DirError {
        let port = self.client().get_port(vm).unwrap();
        port.into_result().unwrap_err()
    }

    /// Waits until exactly these VMs are listed.
    #[track_caller]
    fn wait_listed(&self, names: &[&str]) {
        wait_for(&format!("{names:?} listed"), || {
            let vms = self.vms();
            let listed: Vec<_> = vms.iter().map(|vm| vm.vm.as_str()).collect();
            (listed == names).then_some(())
        });
    }
}

impl Ask for Directory<'_> {
    fn client(&self) -> UmldirV1Client<UnixStream> {
        UmldirV1Client::new(self.connect())
    }
}

fn args(vm: &str) -> VmRegisterArgs {
    VmRegisterArgs {
        vm: vm.into(),
        port: 4711,
    }
}

/// Does something as a user without any right. Credentials are those of a thread, and go with it.
fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let drop_rights = || {
        let nobody = Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            drop_rights();
            act()
        });
        thread.join().unwrap()
    })
}

#[test]
fn vms_are_listed_while_their_monitors_run() {
    let Some(world) = World::new() else { return };
    let directory = Directory::start(&world);
    assert_eq!(directory.vms(), []);
    let vm1 = world.vm("vm1").monitor();
    let vm2 = world.vm("vm2").user("games").monitor();
    directory.wait_listed(&["vm1", "vm2"]);
    let entry = |vm: &e2e::Vm<'_>| DirVm {
        vm: vm.name().to_owned(),
        pid: vm.monitor_pid().unsigned_abs(),
        port: 0,
    };
    assert_eq!(directory.vms(), [entry(&vm1), entry(&vm2)]);
    let refused = directory.port("vm1");
    assert_eq!(refused.code, DirCode::NoTcp);
    assert_eq!(refused.text, "TCP is not enabled for this VM");
    assert_eq!(directory.port("vm3").code, DirCode::NotFound);

    // A running VM makes no difference.
    vm1.start();
    assert_eq!(directory.vms(), [entry(&vm1), entry(&vm2)]);
    kill_process(Pid::from_raw(vm1.monitor_pid()).unwrap(), Signal::KILL).unwrap();
    directory.wait_listed(&["vm2"]);
    vm1.start_monitor().ok();
    directory.wait_listed(&["vm1", "vm2"]);
    assert_eq!(directory.vms(), [entry(&vm1), entry(&vm2)]);
    world.umladmin(&["stop", "vm2"]).ok();
    directory.wait_listed(&["vm1"]);
}

#[test]
fn monitors_come_back_within_a_second() {
    let Some(world) = World::new() else { return };
    // The order of their starts does not matter.
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("fake login on con1");
    let directory = Directory::start(&world);
    directory.wait_listed(&["vm1"]);
    for signal in [Signal::KILL, Signal::TERM] {
        directory.signal(signal);
        wait_for("the end of umldir", || {
            UnixStream::connect(directory.home().join("ctrl"))
                .is_err()
                .then_some(())
        });
        assert_eq!(vm.state(), "running");
        directory.run().ok();
        let started = Instant::now();
        directory.wait_listed(&["vm1"]);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    // All that time, clients connected with the VM were not affected.
    console.send("still here?");
    console.expect("still here?");
    console.leave();
}

#[test]
fn only_root_registers_and_everybody_may_ask() {
    let Some(world) = World::new() else { return };
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let directory = Directory::start(&world);
    let _vm = world.vm("vm1").monitor();
    directory.wait_listed(&["vm1"]);
    let before = directory.vms();
    as_nobody(|| {
        let mut client = directory.client();
        for vm in ["vm1", "vm2"] {
            let refused = client.vm_register(&args(vm)).unwrap().into_result();
            assert_eq!(refused.unwrap_err().code, DirCode::NotAuthorised);
        }
        assert_eq!(client.vm_list().unwrap().into_result().unwrap(), before);
        assert!(fs::write(directory.home().join("planted"), "").is_err());
    });
    let log = directory.log();
    assert!(log.contains("registration refused uid=65534"), "{log}");

    // The registration of root lasts as long as the connection.
    let mut client = directory.client();
    client
        .vm_register(&args("vm2"))
        .unwrap()
        .into_result()
        .unwrap();
    let found = directory.client().get_port("vm2").unwrap().into_result();
    assert_eq!(found.unwrap().port, 4711);
    drop(client);
    directory.wait_listed(&["vm1"]);
}

#[test]
fn connections_of_others_keep_no_monitor_out() {
    let Some(world) = World::new() else { return };
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let directory = Directory::start(&world);
    let held: Vec<_> = as_nobody(|| {
        let clients = (0..400).map(|_| directory.client());
        let mut clients: Vec<_> = clients.collect();
        // Those that are too many are closed; the others still get their answer.
        let served = clients
            .iter_mut()
            .filter_map(|client| client.vm_list().ok())
            .count();
        assert_eq!(served, 256);
        clients
    });
    let _vm = world.vm("vm1").monitor();
    directory.wait_listed(&["vm1"]);
    drop(held);
}

#[test]
fn there_is_one_umldir_and_its_files_are_roots() {
    let Some(world) = World::new() else { return };
    let directory = Directory::start(&world);
    let complaint = directory.run().fails(1);
    assert!(
        complaint.starts_with("umldir: already running, pid "),
        "{complaint}"
    );
    let access = |name: &str| {
        let stat = directory.home().join(name).symlink_metadata().unwrap();
        (stat.uid(), stat.mode() & 0o7777)
    };
    assert_eq!(access(""), (0, 0o755));
    assert_eq!(access("ctrl"), (0, 0o777));
    assert_eq!(access("log"), (0, 0o750));
    assert_eq!(access("log/umldir"), (0, 0o640));

    // Log rotation.
    let log = directory.home().join("log/umldir");
    fs::rename(&log, log.with_extension("1")).unwrap();
    directory.signal(Signal::HUP);
    wait_for("a new log", || log.exists().then_some(()));

    // Its pid file is no VM's.
    let said = world.umladmin(&["update"]).ok();
    assert!(said.contains("Nothing to do"), "{said}");
    world.umladmin(&["stop"]).ok();
    assert_eq!(directory.vms(), []);

    directory.signal(Signal::TERM);
    wait_for("the end of umldir", || {
        (!directory.pid_file().exists()).then_some(())
    });
    assert!(!directory.home().join("ctrl").exists());
    // A directory that another user could change is not used.
    chown(directory.home(), Some(NOBODY), None).unwrap();
    let complaint = directory.run().fails(1);
    assert!(complaint.contains("belongs to another user"), "{complaint}");
}

/// As a service manager does it, and by hand.
#[test]
fn only_a_terminal_that_hangs_up_ends_a_daemon_in_the_foreground() {
    let Some(world) = World::new() else { return };
    let directory = Directory::of(&world);
    let foreground = world.command("umldir", &["-fg"]);
    let mut supervised = Command::new("setsid");
    supervised
        .arg(foreground.get_program())
        .args(foreground.get_args())
        .stderr(Stdio::null());
    let mut supervised = supervised.spawn().unwrap();
    let started = || directory.pid_file().exists().then_some(());
    let log = directory.home().join("log/umldir");
    wait_for("umldir", || started().and(log.exists().then_some(())));
    fs::rename(&log, log.with_extension("1")).unwrap();
    wait_for("a new log", || {
        directory.signal(Signal::HUP);
        log.exists().then_some(())
    });
    directory.signal(Signal::TERM);
    assert!(supervised.wait().unwrap().success());

    let mut terminal = Terminal::run(&foreground, 24, 80);
    terminal.expect("started");
    directory.signal(Signal::HUP);
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn over_tcp_everybody_may_ask_and_nobody_registers() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world.global(&format!("tcp = true\numldir_port = {port}"));
    let directory = Directory::start(&world);
    let _vm = world.vm("vm1").monitor();
    directory.wait_listed(&["vm1"]);
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for address in addresses {
        let mut client = UmldirV1Client::new(TcpStream::connect((address, port)).unwrap());
        client.dir_null().unwrap();
        // A client from another host gets the VM that it names, and no more.
        let refused = client.vm_list().unwrap().into_result();
        assert_eq!(refused.unwrap_err().code, DirCode::NotAuthorised);
        let named = client.get_port("vm1").unwrap().into_result().unwrap();
        assert_eq!(named.port, directory.vms()[0].port);
        let host = client.host_info().unwrap().into_result().unwrap();
        assert_eq!((host.redirector, host.release.as_str()), (0, "0.1.0"));
        // It is root who calls, from this very host.
        let refused = client.vm_register(&args("vm1")).unwrap().into_result();
        assert_eq!(refused.unwrap_err().code, DirCode::NotAuthorised);
    }
    assert!(
        directory
            .log()
            .contains("registration refused from=127.0.0.1:"),
        "{}",
        directory.log()
    );
}

#[test]
fn a_port_that_cannot_be_had_is_named() {
    let Some(world) = World::new() else { return };
    let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    world.global(&format!("tcp = true\numldir_port = {port}"));
    let directory = Directory::of(&world);
    let complaint = directory.run().fails(1);
    let expected = format!(
        "umldir: cannot listen on TCP port {port} for umldir; if it is taken, set umldir_port in [GLOBAL]: "
    );
    assert!(complaint.starts_with(&expected), "{complaint}");
    assert!(!directory.home().join("ctrl").exists());

    // Nor has it a default without an entry in /etc/services.
    world.change_global(&format!("umldir_port = {port}"), "");
    let mut umldir = Command::new("unshare");
    let without = "mount --bind /dev/null /etc/services && exec \"$@\"";
    umldir.args(["--mount", "sh", "-c", without, "sh"]);
    umldir.arg(e2e::program("umldir"));
    umldir.arg("-config").arg(world.configuration());
    let complaint = run(&mut umldir).fails(1);
    assert_eq!(
        complaint,
        "umldir: the TCP port of umldir is not known: /etc/services has no entry \"umldir PORT/tcp\"; add one, or set \
         umldir_port in [GLOBAL]\n"
    );
}
