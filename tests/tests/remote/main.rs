//! Tier root: connections from other hosts, over TCP and through the socket of the redirector; who gets in, and who
//! does not. The ids are those of docs/TESTING.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // in functions beside the tests, too

mod attacks;
#[path = "../../../crates/rpc-xdr/tests/c/mod.rs"]
mod c;
mod crowds;
mod flood;
mod strong;
mod tls;
mod way;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use e2e::{Vm, World};
use rpc_xdr::auth::{Key, PasswordChange};
use rpc_xdr::client::LoginError;
use rpc_xdr::umlmonctrl::*;
use way::{Inside, LOCALHOST, Way, admitted, failed, log_in, log_in_from};

/// A world whose monitors can be reached in both ways; the master password is "master".
fn world() -> Option<World> {
    let world = World::new()?;
    for line in [
        "tcp = true",
        "tcp_redir = true",
        "listen = 127.0.0.1",
        "password = master",
    ] {
        world.global(line);
    }
    Some(world)
}

/// The log of the monitor.
fn log(vm: &Vm<'_>) -> String {
    fs::read_to_string(vm.file("log/monitor")).unwrap()
}

/// The code and the text of a refusal.
#[track_caller]
fn refusal(result: Result<Inside, LoginError>) -> (CtlCode, String) {
    match result {
        Err(LoginError::Refused(why) | LoginError::Disproved(why)) => (why.code, why.text),
        Err(other) => panic!("no refusal: {other}"),
        Ok(_) => panic!("it was let in"),
    }
}

/// A32, A33
#[test]
fn who_knows_a_password_commands_the_vm() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").con(1).line("password = secret").monitor();
    for way in Way::BOTH {
        for password in ["secret", "master"] {
            let mut client = admitted(&vm, way, password);
            let info = client.vm_info().unwrap().into_result().unwrap();
            assert_eq!(info.vm, "vm1");
            let port = client.port_get().unwrap().into_result().unwrap().port;
            assert_eq!(port, u32::from(way::port(&vm)));
        }
    }
    let mut client = admitted(&vm, Way::Tcp, "secret");
    let start = VmStartArgs { extra: Vec::new() };
    client.vm_start(&start).unwrap().into_result().unwrap();
    let (channel, who) = ("con1".to_owned(), "test".to_owned());
    let mode = ConMode::Write;
    let open = client.con_open(&ConOpenArgs { channel, mode, who });
    open.unwrap().into_result().unwrap();
    // The others see who it is, and from where.
    let channels = vm.info()["channels"].to_string();
    assert!(channels.contains("127.0.0.1 port"), "{channels}");
    client.vm_kill().unwrap().into_result().unwrap();
    let log = log(&vm);
    for said in [
        ": the password of the VM, sealed, without TLS",
        ": the master password, sealed, without TLS",
        "accepted 127.0.0.1 port 4711 through the redirector",
    ] {
        assert!(log.contains(said), "{said} is not in {log}");
    }
}

/// A32, A33
#[test]
fn nobody_gets_in_with_another_password() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line("password = secret").monitor();
    let _other = world.vm("vm2").line("password = other").monitor();
    let md5 = "5ebe2294ecd0e0f08eab7690d2a6ee69";
    let wrong = ["Secret", "", "other", md5, "vm1"];
    // Each from a host of its own, as attempts are counted.
    for (number, password) in wrong.into_iter().enumerate() {
        for way in Way::BOTH {
            let host = IpAddr::from([127, 0, 1, u8::try_from(number).unwrap()]);
            let (code, text) = refusal(log_in_from(&vm, way, host, password, true));
            assert_eq!(
                (code, text.as_str()),
                (CtlCode::NotAuthorised, "wrong password")
            );
        }
    }
    let log = log(&vm);
    assert!(log.contains("127.0.1.1 port"), "{log}");
    assert_eq!(log.matches(": wrong password, attempt 2").count(), 5);
    for secret in ["secret", "other", "Secret", "5ebe2294", "master"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

/// A32
#[test]
fn without_a_password_nobody_gets_in() {
    let Some(world) = world() else { return };
    world.change_global("password = master", "");
    let vm = world.vm("vm1").monitor();
    for password in ["", "secret", "(set)"] {
        let (code, text) = refusal(log_in(&vm, Way::Tcp, password));
        assert_eq!(code, CtlCode::NotAuthorised);
        assert!(text.contains("no password is set"), "{text}");
    }
    // What users change counts for the next connection.
    vm.umlwatch(&["-set", "password=900150983cd24fb0d6963f7d28e17f72"])
        .ok();
    admitted(&vm, Way::Tcp, "abc");
    vm.umlwatch(&["-del", "password"]).ok();
    assert!(failed(&vm, Way::Tcp, "abc"));
    // The socket of the redirector is root's alone, and no other way in.
    let mode = fs::metadata(vm.file("redir")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
    assert!(!vm.umlwatch(&["-info"]).ok().contains("900150983"));
}

#[test]
fn the_password_can_be_changed_over_a_sealed_connection() {
    let Some(world) = world() else { return };
    world.global("seal = allow");
    let vm = world.vm("vm1").line("password = secret").monitor();
    let (old, new) = (Key::from_password("secret"), Key::from_password("next"));
    let mut sealed = log_in(&vm, Way::Redir, "secret").unwrap();
    let change = PasswordChange::new("vm1", [7; 16], sealed.server_nonce);
    let wrong = change.hide(&Key::from_password("guess"), &new);
    let refused = sealed.client.password_set(&wrong).unwrap().into_result();
    assert_eq!(refused.unwrap_err().code, CtlCode::NotAuthorised);
    let args = change.hide(&old, &new);
    // Neither on a connection that is not sealed, nor as a copy on another one.
    let mut open = log_in_from(&vm, Way::Tcp, LOCALHOST, "secret", false).unwrap();
    assert!(open.client.vm_info().is_ok());
    assert!(open.client.password_set(&args).is_err());
    let mut other = log_in(&vm, Way::Tcp, "secret").unwrap();
    assert!(
        other
            .client
            .password_set(&args)
            .unwrap()
            .into_result()
            .is_err()
    );
    sealed
        .client
        .password_set(&args)
        .unwrap()
        .into_result()
        .unwrap();
    assert!(failed(&vm, Way::Tcp, "secret"));
    admitted(&vm, Way::Tcp, "next");
    let user = fs::read_to_string(vm.file("config")).unwrap();
    assert!(
        user.contains("password = ") && !user.contains("next"),
        "{user}"
    );
}

#[test]
fn clients_that_do_not_seal_need_permission() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    let (code, text) = refusal(log_in_from(&vm, Way::Tcp, LOCALHOST, "master", false));
    assert_eq!(code, CtlCode::NotAuthorised);
    assert!(text.contains("seal"), "{text}");
    world.global("seal = allow");
    let mut open = log_in_from(&vm, Way::Tcp, LOCALHOST, "master", false).unwrap();
    assert_eq!(
        open.client.vm_info().unwrap().into_result().unwrap().vm,
        "vm1"
    );
    assert!(log(&vm).contains("not sealed"));
}

/// A client in C, which knows nothing of us but the interface file.
#[test]
fn a_c_client_authenticates_and_seals() {
    let Some(world) = world() else { return };
    let directory = tempfile::tempdir().unwrap();
    let Some(client) = c::build(directory.path(), "remote") else {
        return e2e::skip("needs rpcgen, gcc, pkg-config and libtirpc-dev");
    };
    let vm = world.vm("vm1").line("password = secret").monitor();
    let run = |args: &[&str]| c::output(std::process::Command::new(&client).args(args)).unwrap();
    let port = way::port(&vm).to_string();
    let tcp = |password, seal| run(&["tcp", &port, "vm1", password, seal]);
    // CON_CLOSE of a channel that there is not: CTL_ERROR, CTL_NOT_FOUND.
    let session = "info: vm1\nopen: 0\nclose: 1 9\n";
    assert_eq!(run(&["unix", vm.file("ctrl").to_str().unwrap()]), session);
    assert_eq!(tcp("secret", "seal"), session);
    assert_eq!(tcp("master", "seal"), session);
    assert_eq!(tcp("Secret", "seal"), "prove: wrong password\n");
    let refused = tcp("secret", "open");
    assert!(
        refused.starts_with("begin: only clients that seal"),
        "{refused}"
    );
    world.global("seal = allow");
    assert_eq!(tcp("secret", "open"), session);
}

/// A31
#[test]
fn passwords_cannot_be_tried_at_will() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    let guesser = IpAddr::from([127, 0, 0, 9]);
    let attempt = |way, password| log_in_from(&vm, way, guesser, password, true);
    let begun = std::time::Instant::now();
    // Whichever way they come, they are counted for where they come from.
    for way in [Way::Tcp, Way::Redir, Way::Tcp, Way::Redir] {
        let (code, _) = refusal(attempt(way, "guess"));
        assert_eq!(code, CtlCode::NotAuthorised);
    }
    assert!(begun.elapsed() > Duration::from_secs(4), "no delay");
    for way in Way::BOTH {
        let (code, text) = refusal(attempt(way, "master"));
        assert_eq!(code, CtlCode::Busy);
        assert!(text.contains("try again in"), "{text}");
    }
    // Other clients are not kept out.
    admitted(&vm, Way::Tcp, "master");
    admitted(&vm, Way::Redir, "master");
    vm.umlwatch(&["-info"]).ok();
    let log = log(&vm);
    assert!(log.contains("127.0.0.9 port"), "{log}");
    assert!(log.contains("attempt 4 from this address"), "{log}");
}

#[test]
fn the_port_is_told_and_announced() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    let port = way::port(&vm);
    // Of the address that is configured, and of no other.
    assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    assert!(std::net::TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port)).is_err());
    world.change_global("listen = 127.0.0.1", "umldir_port = 1");
    let directory = e2e::Directory::of(&world);
    let (asking, redirector) = (e2e::free_port(), e2e::free_port());
    world.change_global(
        "umldir_port = 1",
        &format!("umldir_port = {asking}\numlredir_port = {redirector}"),
    );
    directory.run().ok();
    let mut client = rpc_xdr::umldir::UmldirV1Client::new(
        std::os::unix::net::UnixStream::connect(directory.home().join("ctrl")).unwrap(),
    );
    let told = e2e::wait_for("the monitor is registered", || {
        client.get_port("vm1").unwrap().into_result().ok()
    });
    assert_eq!(told.port, u32::from(port));
    // Nothing of it is there without the parameters.
    world.change_global("tcp = true", "tcp = false");
    world.change_global("tcp_redir = true", "");
    let quiet = world.vm("vm2").monitor();
    assert!(!quiet.file("redir").exists());
    let stream = std::os::unix::net::UnixStream::connect(quiet.file("ctrl")).unwrap();
    let answer = UmlmonctrlV1Client::new(stream).port_get().unwrap();
    assert_eq!(answer.into_result().unwrap_err().code, CtlCode::NotFound);
}

/// On the local socket there is nothing to authenticate, and nothing that has it happen.
#[test]
fn the_local_socket_needs_no_password() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    let mut stream = std::os::unix::net::UnixStream::connect(vm.file("ctrl")).unwrap();
    stream
        .write_all(&way::call(UMLMONAUTH, 1, &[0; 24]))
        .unwrap();
    let mut reply = [0; 28];
    stream.read_exact(&mut reply).unwrap();
    // PROG_UNAVAIL
    assert_eq!(reply[24..], [0, 0, 0, 1]);
}
