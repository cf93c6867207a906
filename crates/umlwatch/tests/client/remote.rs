//! Another host: by which way, with which password, and what is told if there is none.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use crate::host::{Host, Manners, write_private};
use crate::monitor::Monitor;
use crate::terminal::Terminal;

const VM: &str = "vm1@127.0.0.1";

fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that it was done.
#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts that it failed so; the complaint without the name of the program.
#[track_caller]
fn fails(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let complaint = stderr(output);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    complaint.trim_start_matches("umlwatch: ").trim().to_owned()
}

#[test]
fn the_way_is_the_one_that_is_offered() {
    let both = Manners::default;
    let (direct, redirector) = ("let in", "redirected");
    for (manners, args, way) in [
        (both(), &[][..], direct),
        (both(), &["-via", "redirector"], redirector),
        (both(), &["-via", "direct"], direct),
        (
            Manners {
                redirector: false,
                ..both()
            },
            &[],
            direct,
        ),
        (
            Manners {
                tcp: false,
                ..both()
            },
            &[],
            redirector,
        ),
        // A port that is told and closed by a firewall.
        (
            Manners {
                blocked: true,
                ..both()
            },
            &[],
            redirector,
        ),
    ] {
        let host = Host::start(manners.clone());
        let args = [args, &[VM, "-halt"]].concat();
        done(&run(host.with_password(&args)));
        let calls: Vec<String> = host.monitor.calls.try_iter().collect();
        assert_eq!(calls.first().map(String::as_str), Some(way), "{manners:?}");
        assert!(calls.contains(&"halt".to_owned()), "{calls:?}");
    }
}

#[test]
fn a_way_that_is_not_offered_is_told() {
    let both = Manners::default;
    for (manners, args, complaint) in [
        (
            Manners {
                tcp: false,
                ..both()
            },
            &["-via", "direct"][..],
            "the monitor of vm1 does not listen on TCP (tcp is not true at 127.0.0.1); omit -via, or use -via redirector",
        ),
        (
            Manners {
                tcp: false,
                redirector: false,
                ..both()
            },
            &[],
            "127.0.0.1 does not allow remote access to vm1: neither tcp nor tcp_redir is true there",
        ),
    ] {
        let host = Host::start(manners);
        let output = run(host.with_password(&[args, &[VM, "-halt"]].concat()));
        assert_eq!(fails(&output, 1), format!("{VM}: cannot halt: {complaint}"));
    }
    let host = Host::start(Manners {
        blocked: true,
        ..both()
    });
    let output = run(host.with_password(&["-via", "direct", VM, "-halt"]));
    let complaint = fails(&output, 1);
    assert!(
        complaint.contains("cannot be reached at its port"),
        "{complaint}"
    );
}

#[test]
fn who_is_not_there_is_told() {
    let host = Host::start(Manners::default());
    for via in ["direct", "redirector"] {
        let output = run(host.with_password(&["-via", via, "vm2@127.0.0.1", "-halt"]));
        assert_eq!(
            fails(&output, 3),
            "vm2@127.0.0.1: cannot halt: no monitor of vm2 is registered at 127.0.0.1: there is no such VM, or its monitor is not running"
        );
    }
    let output = run(host.with_password(&["vm1@host.invalid", "-halt"]));
    let complaint = fails(&output, 1);
    assert!(
        complaint.contains("cannot resolve the host name host.invalid: "),
        "{complaint}"
    );

    // No process listens at the known ports.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let monitor = Monitor::start("");
    let config = monitor.home().join("umlmon");
    let text = fs::read_to_string(&config).unwrap();
    let ports = format!("[GLOBAL]\numldir_port = {closed}\numlredir_port = {closed}\n");
    fs::write(&config, text.replace("[GLOBAL]\n", &ports)).unwrap();
    let complaint = fails(&run(monitor.umlwatch(&[VM, "-halt"])), 1);
    assert!(
        complaint.contains(&format!(
            "no directory service answers at 127.0.0.1, port {closed}: umldir is not running there"
        )),
        "{complaint}"
    );
    let complaint = fails(
        &run(monitor.umlwatch(&["-via", "redirector", VM, "-halt"])),
        1,
    );
    assert!(
        complaint.contains(&format!(
            "no redirector answers at 127.0.0.1, port {closed}: "
        )),
        "{complaint}"
    );
}

#[test]
fn what_is_no_directory_service_is_told() {
    let host = Host::start(Manners::default());
    // The ports are mixed up.
    let config = host.monitor.home().join("umlmon");
    let text = fs::read_to_string(&config).unwrap();
    let swapped = text
        .replace("umldir_port", "x")
        .replace("umlredir_port", "umldir_port")
        .replace("x =", "umlredir_port =");
    fs::write(&config, swapped).unwrap();
    let complaint = fails(
        &run(host.with_password(&["-via", "redirector", VM, "-halt"])),
        1,
    );
    assert!(
        complaint.contains("is not a compatible redirector: the server refused the call"),
        "{complaint}"
    );
}

#[test]
fn who_is_not_let_in_is_told_why() {
    for (manners, status, complaint) in [
        (
            Manners {
                password: None,
                ..Manners::default()
            },
            4,
            "no password is set for this VM",
        ),
        (
            Manners {
                password: Some("other"),
                ..Manners::default()
            },
            4,
            "wrong password, or what answers is not the monitor at 127.0.0.1",
        ),
        (
            Manners {
                penalty: true,
                ..Manners::default()
            },
            4,
            "this address has failed too often",
        ),
        (
            Manners {
                impostor: true,
                ..Manners::default()
            },
            1,
            "the server that answers for vm1@127.0.0.1 does not know the password, so it is not the monitor; no command was sent to it",
        ),
    ] {
        let legacy: &[&str] = if manners.impostor { &["-legacy"] } else { &[] };
        let host = Host::start(manners);
        let output = run(host.with_password(&[legacy, &["-tls", "off", VM, "-halt"]].concat()));
        assert_eq!(
            fails(&output, status),
            format!("{VM}: cannot halt: {complaint}")
        );
    }
}

#[test]
fn the_password_is_asked_for_once_and_not_shown() {
    let host = Host::start(Manners::default());
    let mut terminal =
        Terminal::run(host.on_terminal(&[VM, "-info", "-tail", "con0", "-connect", "con0"]));
    terminal.expect("Password for vm1@127.0.0.1: ");
    terminal.type_keys("wrong\r");
    terminal.expect("umlwatch: wrong password, or");
    terminal.expect("Password for vm1@127.0.0.1: ");
    terminal.type_keys("secret\r");
    let seen = terminal.expect("connected with con0 of vm1; CTRL-] leaves");
    assert!(
        !seen.contains("secret") && !seen.contains("Password"),
        "{seen}"
    );
    terminal.type_keys("\x1d");
    terminal.expect("[left con0 of vm1]");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn three_wrong_passwords_are_enough() {
    let host = Host::start(Manners::default());
    let mut terminal = Terminal::run(host.on_terminal(&[VM, "-halt"]));
    for _ in 0..3 {
        terminal.expect("Password for vm1@127.0.0.1: ");
        terminal.type_keys("wrong\r");
    }
    terminal.expect("cannot halt: wrong password, or");
    assert_eq!(terminal.ended(), 4);

    let mut terminal = Terminal::run(host.on_terminal(&[VM, "-halt"]));
    terminal.expect("Password for vm1@127.0.0.1: ");
    terminal.type_keys("\r");
    terminal.expect("no password was given");
    assert_eq!(terminal.ended(), 4);
}

#[test]
fn the_question_can_be_broken_off() {
    let host = Host::start(Manners::default());
    let mut terminal = Terminal::run(host.on_terminal(&[VM, "-halt"]));
    let before = terminal.modes().local_modes;
    terminal.expect("Password for vm1@127.0.0.1: ");
    assert_ne!(terminal.modes().local_modes, before);
    terminal.type_keys("\x03");
    terminal.is_as_before(before);
    terminal.ended();
    // Without a terminal no user can be asked.
    let mut command = Command::new("setsid");
    let inner = host.monitor.umlwatch(&[VM, "-halt"]);
    command
        .arg("--wait")
        .arg(inner.get_program())
        .args(inner.get_args());
    let complaint = fails(&run(command), 4);
    assert!(complaint.contains("use -password-file FILE"), "{complaint}");
}

#[test]
fn the_password_is_nowhere_to_be_seen() {
    let host = Host::start(Manners::default());
    let mut child = host
        .with_password(&[VM, "-follow", "-tail", "con0"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    host.monitor.expect("read con0");
    host.monitor.expect("read con0");
    for file in ["cmdline", "environ"] {
        let shown = fs::read(format!("/proc/{}/{file}", child.id())).unwrap();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(!shown.is_empty() && !shown.contains("secret"), "{shown}");
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    assert!(child.wait().unwrap().success());

    let file = host.monitor.home().join("open");
    write_private(&file, "secret\n");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let command = host
        .monitor
        .umlwatch(&["-password-file", file.to_str().unwrap(), VM, "-halt"]);
    let complaint = fails(&run(command), 1);
    assert!(complaint.contains("others can read it"), "{complaint}");
}

#[test]
fn a_certificate_is_trusted_at_the_first_use_and_no_other_later() {
    let host = Host::start(Manners {
        tls: true,
        ..Manners::default()
    });
    let rotate = || run(host.with_password(&[VM, "-rotate"]));
    let first = rotate();
    done(&first);
    assert!(
        stderr(&first).contains("first connection to 127.0.0.1: its certificate sha256:"),
        "{first:?}"
    );
    host.monitor.expect("TLS");
    let second = rotate();
    done(&second);
    assert_eq!(stderr(&second), "");
    host.monitor.expect("TLS");

    // The same without TLS is suspicious.
    host.offer_tls(false);
    let complaint = fails(&rotate(), 1);
    assert!(
        complaint.contains("127.0.0.1 does not offer TLS, but did before"),
        "{complaint}"
    );
    done(&run(host.with_password(&["-tls", "off", VM, "-rotate"])));
    host.offer_tls(true);

    let known = host
        .monitor
        .home()
        .join(".local/state/umlwatch/known_hosts");
    let text = fs::read_to_string(&known).unwrap();
    let (name, fingerprint) = text.trim().split_once(' ').unwrap();
    fs::write(&known, format!("{name} sha256:00\n")).unwrap();
    let complaint = fails(&rotate(), 1);
    assert!(
        complaint.contains(&format!(
            "the certificate of 127.0.0.1 has changed: it is {fingerprint}, and was sha256:00."
        )),
        "{complaint}"
    );
}

#[test]
fn whoever_does_not_know_the_password_is_not_remembered() {
    let host = Host::start(Manners {
        tls: true,
        password: Some("other"),
        ..Manners::default()
    });
    fails(&run(host.with_password(&[VM, "-halt"])), 4);
    assert!(
        !host
            .monitor
            .home()
            .join(".local/state/umlwatch/known_hosts")
            .exists()
    );
}

#[test]
fn an_authority_vouches_for_a_host() {
    let host = Host::start(Manners {
        tls: true,
        ..Manners::default()
    });
    let output = run(host.with_password(&["-ca", host.ca(), VM, "-halt"]));
    done(&output);
    assert_eq!(stderr(&output), "");
    let stranger = Host::start(Manners {
        tls: true,
        ..Manners::default()
    });
    let complaint = fails(
        &run(host.with_password(&["-ca", stranger.ca(), VM, "-halt"])),
        1,
    );
    assert!(
        complaint.contains("no TLS connection with 127.0.0.1: "),
        "{complaint}"
    );
    host.offer_tls(false);
    for args in [&["-tls", "require"][..], &["-ca", host.ca()]] {
        let output = run(host.with_password(&[args, &[VM, "-halt"]].concat()));
        let complaint = fails(&output, 1);
        assert!(
            complaint.contains("127.0.0.1 does not offer TLS, "),
            "{complaint}"
        );
    }
}

#[test]
fn commands_work_in_tls_as_well() {
    let host = Host::start(Manners {
        tls: true,
        ..Manners::default()
    });
    let mut terminal = Terminal::run(host.with_password(&[VM, "-connect", "con0"]));
    terminal.expect("connected with con0 of vm1");
    terminal.type_keys("flood\r");
    terminal.type_keys("hello\r");
    terminal.expect("hello");
    terminal.type_keys("\x1d");
    assert_eq!(terminal.ended(), 0);
    let mut terminal =
        Terminal::run(host.with_password(&[VM, "-disk-delete", "/disks/endless.dsk"]));
    terminal.expect("1.00 MiB/1.00 GiB");
    terminal.signal(Signal::SIGINT);
    terminal.expect("cancelled, and undone");
    assert_eq!(terminal.ended(), 1);
}

#[test]
fn the_password_is_changed_here_and_there() {
    let host = Host::start(Manners::default());
    for (vm, login) in [("vm1", None), (VM, Some("secret\r"))] {
        for (old, new, again, said, called) in [
            (
                "old",
                "new",
                "new",
                "The password is changed",
                "password new",
            ),
            ("bad", "new", "new", "wrong", "password refused"),
            (
                "old",
                "new",
                "different",
                "the two new passwords differ; nothing was changed",
                "",
            ),
            (
                "old",
                "",
                "",
                "the new password is empty; nothing was changed",
                "",
            ),
        ] {
            let mut terminal = Terminal::run(host.on_terminal(&[vm, "-change-password"]));
            if let Some(login) = login {
                terminal.expect(&format!("Password for {vm}: "));
                terminal.type_keys(login);
            }
            for (question, answer) in [
                ("Old password of", old),
                ("New password of", new),
                ("Repeat the new password: ", again),
            ] {
                terminal.expect(question);
                terminal.type_keys(&format!("{answer}\r"));
            }
            terminal.expect(said);
            terminal.ended();
            let calls: Vec<String> = host.monitor.calls.try_iter().collect();
            let asked = calls.iter().find(|call| call.starts_with("password"));
            assert_eq!(asked.map_or("", String::as_str), called);
        }
    }
}
