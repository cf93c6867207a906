//! Tier root: umlwatch on another host: by every way, with every command, in TLS, and what it says if it cannot be.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in functions beside the tests, too

mod tls;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;

use e2e::other_host::{HERE, HERE_V6, NOBODY, OtherHost};
use e2e::{Directory, Login, Outcome, PATIENCE, Terminal, Vm, World, run, wait_for};

const PORTS: &str = "umldir_port = 8871\numlredir_port = 8872";

/// Two hosts, of which one has VMs.
struct Setup {
    world: World,
    other: OtherHost,
}

impl Setup {
    fn new(global: &str) -> Option<Setup> {
        Setup::with(World::new()?, global)
    }

    fn with(world: World, global: &str) -> Option<Setup> {
        let other = OtherHost::connected()?;
        world.global(PORTS);
        if !global.is_empty() {
            world.global(global);
        }
        Some(Setup { world, other })
    }

    fn vm1(&self) -> Vm<'_> {
        let vm = self.world.vm("vm1").con(1).con(2).line("password = secret");
        vm.monitor()
    }

    /// umlwatch on the other host.
    fn umlwatch(&self, args: &[&str]) -> Command {
        self.other.umlwatch(&self.world, PORTS, args)
    }

    /// The same with a password.
    fn run(&self, password: &str, args: &[&str]) -> Outcome {
        let file = self.world.secret_file("password", password);
        let all = [&["-password-file", file.to_str().unwrap()], args].concat();
        run(&mut self.umlwatch(&all))
    }

    fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::run(&self.umlwatch(args), 24, 80)
    }
}

/// Waits until the directory service knows the monitor.
fn wait_listed(setup: &Setup, vm: &str) {
    wait_for("the registration", || {
        let listed = setup.run("secret", &[vm, "-info"]);
        (!listed.stderr.contains("no monitor of ")).then_some(())
    });
}

/// Logs in on the terminal, and works with the guest.
fn work(setup: &Setup, args: &[&str], vm: &str) {
    let mut terminal = setup.terminal(&[args, &[vm, "-connect", "con1"]].concat());
    terminal.expect(&format!("Password for {vm}: "));
    terminal.send("secret\r");
    let seen = terminal.expect("connected with con1 of vm1; CTRL-] leaves");
    assert!(!seen.contains("secret"), "{seen}");
    terminal.send("over there\r");
    terminal.expect("over there");
    terminal.send("\x1d");
    terminal.expect("[left con1 of vm1]");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn every_way_leads_to_the_monitor() {
    let Some(setup) = Setup::new("tcp = true\ntcp_redir = true") else {
        return;
    };
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    wait_listed(&setup, &format!("vm1@{HERE}"));
    vm.start();
    for host in [HERE, HERE_V6, "[fd98::1]"] {
        for args in [&[][..], &["-via", "direct"], &["-via", "redirector"]] {
            let target = format!("vm1@{host}");
            let page = setup
                .run("secret", &[args, &[&target, "-info"]].concat())
                .ok();
            assert!(page.starts_with("vm1 is running"), "{page}");
        }
    }
    let mut list = setup.other.command("env");
    let list = list.arg(e2e::program("umladmin")).arg("-config");
    let list = list.arg(setup.world.configuration());
    let page = run(list.args(["list", &format!("vm1@{HERE}")])).ok();
    assert!(page.contains(&format!("vm1  {HERE}  at port ")), "{page}");
    assert!(page.contains(", or through the redirector"), "{page}");
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    assert!(log.contains("10.98.0.2 port"), "{log}");
    assert!(log.contains("fd98::2 port"), "{log}");
    work(&setup, &[], &format!("vm1@{HERE}"));
    work(&setup, &["-via", "redirector"], &format!("vm1@{HERE_V6}"));
}

#[test]
fn every_command_works_from_elsewhere() {
    let Some(setup) = Setup::new("tcp_redir = true") else {
        return;
    };
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_listed(&setup, &target);
    let run = |args: &[&str]| setup.run("secret", &[&[target.as_str()], args].concat());
    run(&["-start"]).ok();
    vm.wait_con0("GUEST-READY", 1);
    assert!(run(&["-tail", "con0"]).ok().contains("GUEST-READY"));
    assert!(run(&["-screen", "con0"]).ok().contains("GUEST-READY"));
    run(&["-set", "mem=128", "-del", "mem"]).ok();
    assert!(run(&["-info", "-json"]).ok().contains("\"running\""));
    assert!(run(&["-port"]).fails(1).contains("TCP"));
    run(&["-disk-create", "/disks/new.dsk:1:sparse"]).ok();
    assert!(run(&["-disk-list"]).ok().contains("/disks/new.dsk"));
    run(&["-suspend", "-continue", "-rotate"]).ok();

    let mut follower = setup.terminal(&[&target, "-follow", "-tail", "con1"]);
    follower.expect(&format!("Password for {target}: "));
    follower.send("secret\r");
    follower.expect("fake login on con1");
    let mut watcher = setup.terminal(&[&target, "-watch", "con1"]);
    watcher.expect(&format!("Password for {target}: "));
    watcher.send("secret\r");
    watcher.expect("watching con1 of vm1");
    let recording = setup.world.path().join("con1.cast");
    let mut recorder =
        setup.terminal(&[&target, "-record", &format!("con1:{}", recording.display())]);
    recorder.expect(&format!("Password for {target}: "));
    recorder.send("secret\r");
    wait_for("the recording", || recording.exists().then_some(()));
    let mut console = vm.connect("con1");
    console.send("for all to see");
    follower.expect("for all to see");
    watcher.expect("for all to see");
    wait_for("it in the recording", || {
        let text = fs::read_to_string(&recording).ok()?;
        text.contains("for all to see").then_some(())
    });
    console.leave();
    watcher.send("\x1d");
    assert_eq!(watcher.wait(), Some(0));
    for mut terminal in [follower, recorder] {
        terminal.send("\x03");
        assert_eq!(terminal.wait(), Some(0));
    }

    // The interactive mode asks once, before its first line.
    let mut terminal = setup.terminal(&[&target]);
    terminal.expect(&format!("Password for {target}: "));
    terminal.send("secret\r");
    terminal.expect(&format!("{target}> "));
    terminal.send("kill\r");
    terminal.expect(&format!("{target}> "));
    terminal.send("wait 30\r");
    terminal.expect(&format!("{target}> "));
    terminal.send("quit\r");
    assert_eq!(terminal.wait(), Some(0));
    assert_eq!(vm.state(), "inactive");
}

#[test]
fn the_site_command_and_a_console_of_another_are_had_from_elsewhere() {
    let Some(setup) = Setup::new("tcp = true\ntcp_redir = true") else {
        return;
    };
    let site = setup.world.path().join("site");
    fs::write(&site, "#!/bin/sh\necho \"$UMLMON_VM: $1\"\n").unwrap();
    fs::set_permissions(&site, fs::Permissions::from_mode(0o755)).unwrap();
    setup.world.global(&format!("sitecmd = {}", site.display()));
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_listed(&setup, &target);
    vm.start();
    for via in ["direct", "redirector"] {
        let said = setup.run("secret", &["-via", via, &target, "-site", "a b; c"]);
        assert_eq!(said.ok(), "vm1: a b; c\n");
        let mut holder = vm.terminal("-connect", "con1", 24, 80);
        holder.expect("connected with con1 of vm1");
        let refused = setup.run("secret", &["-via", via, &target, "-connect", "con1"]);
        assert_ne!(refused.status, Some(0), "{refused:?}");
        let mut taker = setup.terminal(&["-via", via, &target, "-force-connect", "con1"]);
        taker.expect(&format!("Password for {target}: "));
        taker.send("secret\r");
        taker.expect("connected with con1 of vm1");
        holder.expect("taken over by");
        taker.send(&format!("taken by {via}\r"));
        taker.expect(&format!("taken by {via}"));
        holder.send("\x1d");
        assert_eq!(holder.wait(), Some(0));
        taker.send("\x1d");
        assert_eq!(taker.wait(), Some(0));
    }
}

/// Forwards one connection after the other, as ssh -L does.
fn forward(listener: TcpListener, port: u16) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(buffer.get(..count).unwrap()).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    };
    for near in listener.incoming() {
        let near = near.unwrap();
        let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
        thread::spawn(move || copy(near, far));
        thread::spawn(move || copy(back.0, back.1));
    }
}

#[test]
fn one_port_of_a_tunnel_is_enough() {
    let Some(world) = World::new() else { return };
    let Some(other) = OtherHost::lonely() else {
        return;
    };
    let setup = Setup { world, other };
    setup.world.global(PORTS);
    setup.world.global("tcp_redir = true\nlisten = 127.0.0.1");
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let near = setup.other.listen();
    let ports = format!("umlredir_port = {}", near.local_addr().unwrap().port());
    // The sockets of a thread belong to the host on which it was started: this one.
    thread::spawn(move || forward(near, 8872));
    let file = setup.world.secret_file("password", "secret\n");
    let args = [
        "-via",
        "redirector",
        "-password-file",
        file.to_str().unwrap(),
        "vm1@127.0.0.1",
    ];
    let umlwatch = |commands: &[&str]| {
        let args = [&args[..], commands].concat();
        setup.other.umlwatch(&setup.world, &ports, &args)
    };
    wait_for("the registration", || {
        let listed = run(&mut umlwatch(&["-info"]));
        (!listed.stderr.contains("no monitor of ")).then_some(())
    });
    run(&mut umlwatch(&["-start"])).ok();
    vm.wait_con0("GUEST-READY", 1);
    let mut terminal = Terminal::run(&umlwatch(&["-connect", "con1"]), 24, 80);
    terminal.expect("connected with con1");
    terminal.send("through the tunnel\r");
    terminal.expect("through the tunnel");
    terminal.send("\x1d");
    assert_eq!(terminal.wait(), Some(0));
}

/// F29
#[test]
fn who_cannot_be_reached_is_told() {
    let Some(setup) = Setup::new("tcp = true\ntcp_redir = true") else {
        return;
    };
    let fails = |host: &str, status, said: &str| {
        let target = format!("vm1@{host}");
        let complaint = setup.run("secret", &[&target, "-halt"]).fails(status);
        assert!(complaint.contains(said), "{complaint}");
        assert!(complaint.starts_with(&format!("umlwatch: {target}: cannot halt: ")));
    };
    fails(NOBODY, 1, "10.98.0.9 does not answer at port 8871: ");
    fails(
        "host.invalid",
        1,
        "cannot resolve the host name host.invalid: ",
    );
    fails(
        HERE,
        1,
        "no directory service answers at 10.98.0.1, port 8871: umldir is not running there",
    );
    let _directory = Directory::start(&setup.world);
    fails(
        HERE,
        3,
        "no monitor of vm1 is registered at 10.98.0.1: there is no such VM, or its monitor is not running",
    );
    let vm = setup.vm1();
    wait_listed(&setup, &format!("vm1@{HERE}"));
    setup.world.umladmin(&["stop", "vm1"]).ok();
    wait_for("its end", || (!vm.pid_file().exists()).then_some(()));
    for via in ["direct", "redirector"] {
        let complaint = setup.run("secret", &["-via", via, &format!("vm1@{HERE}"), "-halt"]);
        let complaint = complaint.fails(3);
        assert!(
            complaint.contains("no monitor of vm1 is registered"),
            "{complaint}"
        );
    }
    // A client that does not know the ports is told where they are looked for.
    let mut ignorant = setup
        .other
        .umlwatch(&setup.world, "", &[&format!("vm1@{HERE}"), "-halt"]);
    let outcome = run(&mut ignorant);
    if !fs::read_to_string("/etc/services")
        .unwrap_or_default()
        .contains("umldir")
    {
        let complaint = outcome.fails(1);
        assert!(
            complaint.contains("/etc/services has no entry \"umldir PORT/tcp\""),
            "{complaint}"
        );
    }
}

/// A31, A32
#[test]
fn who_is_not_let_in_is_told() {
    let Some(setup) = Setup::new("tcp = true") else {
        return;
    };
    let _directory = Directory::start(&setup.world);
    let _open = setup.world.vm("vm2").user("games").monitor();
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_listed(&setup, &target);
    wait_listed(&setup, &format!("vm2@{HERE}"));
    let complaint = setup
        .run("secret", &[&format!("vm2@{HERE}"), "-halt"])
        .fails(4);
    assert!(
        complaint.contains("no password is set for this VM"),
        "{complaint}"
    );
    let complaint = setup
        .run("secret", &["-tls", "require", &target, "-info"])
        .fails(1);
    assert!(complaint.contains("does not offer TLS"), "{complaint}");

    let mut terminal = setup.terminal(&[&target, "-info"]);
    terminal.expect(&format!("Password for {target}: "));
    terminal.send("wrong\r");
    terminal.expect("umlwatch: wrong password");
    terminal.expect(&format!("Password for {target}: "));
    terminal.send("secret\r");
    terminal.expect("vm1 is inactive");
    assert_eq!(terminal.wait(), Some(0));

    // Some more, and nobody from there is listened to for a while.
    let refused = wait_for("a penalty", || {
        let complaint = setup.run("wrong", &[&target, "-info"]).fails(4);
        complaint
            .contains("too many wrong passwords")
            .then_some(complaint)
    });
    assert!(refused.contains("try again in"), "{refused}");
    setup.run("secret", &[&target, "-info"]).fails(4);
    vm.umlwatch(&["-info"]).ok();
}

#[test]
fn a_password_is_changed_from_elsewhere() {
    let Some(setup) = Setup::new("tcp = true") else {
        return;
    };
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_listed(&setup, &target);
    let change =
        |vm: &str, command: Command, login: Option<&str>, old: &str, new: &str, said: &str| {
            let mut terminal = Terminal::run(&command, 24, 80);
            if let Some(login) = login {
                terminal.expect(&format!("Password for {vm}: "));
                terminal.send(&format!("{login}\r"));
            }
            for (question, answer) in [
                ("Old password", old),
                ("New password", new),
                ("epeat the new password", new),
            ] {
                terminal.expect(question);
                terminal.send(&format!("{answer}\r"));
            }
            let seen = terminal.expect(said);
            assert!(!seen.contains(new), "{seen}");
            terminal.wait()
        };
    let far = || setup.umlwatch(&[&target, "-change-password", "-rotate"]);
    let (done, refused) = ("The password is changed", "the old password is wrong");
    assert_eq!(
        change(&target, far(), Some("secret"), "guess", "other", refused),
        Some(4)
    );
    setup.run("other", &[&target, "-info"]).fails(4);
    assert_eq!(
        change(&target, far(), Some("secret"), "secret", "other", done),
        Some(0)
    );
    setup.run("other", &[&target, "-info"]).ok();
    setup.run("secret", &[&target, "-info"]).fails(4);
    let user_changes = fs::read_to_string(vm.file("config")).unwrap();
    assert!(!user_changes.contains("other"), "{user_changes}");
    assert!(
        user_changes.contains("password = $opaque$1$"),
        "{user_changes}"
    );
    // Who knows only version 1 is told.
    let legacy = setup.run("other", &["-legacy", &target, "-info"]).fails(4);
    assert!(legacy.contains("kept as a verifier"), "{legacy}");
    // On this host, users are asked for no password but the old one.
    let near = vm.command(&["-change-password"]);
    assert_eq!(change("vm1", near, None, "other", "third", done), Some(0));
    setup.run("third", &[&target, "-info"]).ok();
}

/// A33
#[test]
fn a_typed_password_is_seen_nowhere() {
    let Some(setup) = Setup::new("tcp = true") else {
        return;
    };
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_listed(&setup, &target);
    vm.start();
    let mut terminal = setup.terminal(&[&target, "-connect", "con1"]);
    terminal.expect(&format!("Password for {target}: "));
    terminal.send("secret\r");
    terminal.expect("connected with con1");
    let home = setup.world.path().join("home").display().to_string();
    let mut clients = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let shown = [read("cmdline"), read("environ")].concat();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        if shown.contains(&home) {
            clients += 1;
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
    assert!(clients > 0);
    terminal.send("\x1d");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn the_end_of_a_connection_is_told() {
    let Some(setup) = Setup::new("tcp = true") else {
        return;
    };
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_listed(&setup, &target);
    vm.start();
    let mut terminal = setup.terminal(&[&target, "-connect", "con1"]);
    terminal.expect(&format!("Password for {target}: "));
    terminal.send("secret\r");
    terminal.expect("connected with con1");
    setup.world.umladmin(&["stop", "vm1"]).status.unwrap();
    terminal.expect("cannot connect to con1: the monitor has ended");
    assert_eq!(terminal.wait(), Some(3));
}

/// Tier real.
#[test]
fn a_guest_is_used_from_elsewhere() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let Some(setup) = Setup::with(world, "tcp_redir = true") else {
        return;
    };
    let _directory = Directory::start(&setup.world);
    let vm = setup
        .world
        .vm("vm1")
        .con(1)
        .guest(Login::RootShell)
        .line("password = secret")
        .monitor();
    let target = format!("vm1@{HERE}");
    wait_listed(&setup, &target);
    let mut terminal = setup.terminal(&[&target, "-start", "-connect", "con1"]);
    terminal.expect(&format!("Password for {target}: "));
    terminal.send("secret\r");
    terminal.expect("connected with con1");
    terminal.expect("# ");
    terminal.send("echo $((6 * 7)) is the answer\r");
    terminal.expect("42 is the answer");
    terminal.send("\x1d");
    assert_eq!(terminal.wait(), Some(0));
    let seconds = PATIENCE.as_secs().to_string();
    setup
        .run("secret", &[&target, "-ctrlaltdel", "-wait", &seconds])
        .ok();
    assert_eq!(vm.state(), "inactive");
}
